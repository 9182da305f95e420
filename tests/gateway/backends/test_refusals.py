"""What an upstream's refusal means, whatever its shape, and that it never tells on the upstream."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from time import thread_time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.refusals import classify, in_band, refusal_of, retry_after, scrub
from gateway.kernel.errors import (
    UpstreamBusy,
    UpstreamCredential,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamTimeout,
)


def refusal(status: int, said: object = b"", **headers: str) -> UpstreamError:
    """Return the error for an answer; a document is said as JSON."""
    body = said if isinstance(said, bytes) else orjson.dumps(said)
    return refusal_of(status, {name.replace("_", "-"): v for name, v in headers.items()}, body)


# --- shapes --------------------------------------------------------------------------------------

DETAIL = [{"type": "missing", "loc": ["body", "messages", 0], "msg": "Field required",
           "input": {"secret": "prompt"}}]  # fmt: skip
SHAPES = {
    "OpenAI's": ({"error": {"message": "bad temperature", "type": "invalid", "param": "temperature",
                            "code": "too_hot"}}, "bad temperature", "too_hot", "temperature"),
    "OpenAI's without a code": ({"error": {"message": "bad", "type": "invalid"}},
                                "bad", "invalid", None),
    "a text (MLX, Ollama)": ({"error": "max_tokens must be at least 1"},
                             "max_tokens must be at least 1", None, None),
    "a list (Google)": ([{"error": {"message": "bad", "code": 400}}], "bad", None, None),
    "a detail text (FastAPI)": ({"detail": "bad"}, "bad", None, None),
    "a detail list (FastAPI)": ({"detail": DETAIL}, "messages.0: Field required", None,
                                "messages.0"),
    "flat (older vLLM)": ({"object": "error", "message": "bad", "type": "BadRequestError",
                           "param": "n", "code": 400}, "bad", "BadRequestError", "n"),
    "plain text": (b"bad", "bad", None, None),
    "a JSON text": ("bad", "bad", None, None),
    "an event stream": (b'data: {"error":{"message":"bad","code":"x"}}\n\ndata: [DONE]\n\n',
                        "bad", "x", None),
}  # fmt: skip


@pytest.mark.parametrize(("said", "message", "code", "param"), SHAPES.values(), ids=SHAPES.keys())
def test_the_words_of_a_refusal_are_found_in_every_shape(said, message, code, param):
    error = refusal(400, said)

    assert isinstance(error, UpstreamRejected)
    assert (error.message, error.param) == (message, param)
    assert error.code == (code or "upstream_rejected")


WORDLESS = {
    "nothing": b"", "HTML": b"<html><body><h1>502</h1>nginx/1.22 on gpu7</body></html>",
    "HTML cut short": b"<!DOCTYPE html><html>", "text of several lines": b"Traceback:\n  line 3\n",
    "null": b"null", "a number": b"5", "an empty object": b"{}", "an empty list": b"[]",
    "an error of another type": b'{"error": 5}', "a message of another type":
    b'{"error":{"message":{"text":"x"}}}', "a list of texts": b'["x"]', "bytes": b"\xff\xfe\x00",
    "broken JSON over lines": b'{"error":\n', "details of other types": b'{"detail":[1,"x",null]}',
    "HTML inside JSON": b'{"error":{"message":"<html><body>nginx on gpu7</body></html>"}}',
    "an HTML page with a title inside JSON": b'{"detail":"<title>502 Bad Gateway</title>gpu7"}',
}  # fmt: skip


@pytest.mark.parametrize("body", WORDLESS.values(), ids=WORDLESS.keys())
def test_a_refusal_without_usable_words_gets_ours(body):
    error = refusal(422, body)

    assert isinstance(error, UpstreamRejected)
    assert error.status == 422
    assert "gpu7" not in error.message
    assert "<" not in error.message
    assert error.message


def test_what_is_called_html_is_not_quoted():
    assert "bad" not in refusal(400, b"bad", content_type="text/html; charset=utf-8").message


def test_a_validation_message_does_not_quote_the_callers_input():
    assert "prompt" not in refusal(422, {"detail": DETAIL}).message


@given(st.binary(max_size=60) | st.recursive(
    st.none() | st.booleans() | st.integers(0, 999) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "detail", "message", "code", "type", "param", "loc", "msg"]),
        inner, max_size=3)).map(orjson.dumps),
    st.integers(201, 599))  # fmt: skip
def test_whatever_is_said_becomes_one_of_our_errors(body, status):
    error = refusal_of(status, {}, body)

    assert isinstance(error, UpstreamError)
    assert isinstance(error.message, str)
    assert error.code is None or isinstance(error.code, str)
    orjson.dumps(error.envelope("req-1"))


# --- meanings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"", UpstreamInvalid),
        (b"Not Found", UpstreamInvalid),
        (b'{"detail":"Not Found"}', UpstreamInvalid),
        (b'{"error":"404 page not found"}', UpstreamInvalid),
        (
            b'{"error":{"message":"The requested URL was not found on the server."}}',
            UpstreamInvalid,
        ),
        (b'{"detail":"Method Not Allowed"}', UpstreamInvalid),
        (b'{"error":"Only \'text\' content type is supported."}', UpstreamRejected),
        (b'{"error":"Cannot apply chat template to an empty conversation."}', UpstreamRejected),
    ],
)
def test_a_404_that_says_what_is_wrong_with_the_request_is_passed_through(said, kind):
    assert type(refusal(404, said)) is kind


@pytest.mark.parametrize(
    ("status", "kind", "shown", "code", "falls_back"),
    [
        (301, UpstreamInvalid, 502, "upstream_invalid_response", True),
        (400, UpstreamRejected, 400, "upstream_rejected", False),
        (401, UpstreamCredential, 502, "upstream_auth", True),
        (402, UpstreamCredential, 502, "upstream_quota", True),
        (403, UpstreamCredential, 502, "upstream_auth", True),
        (404, UpstreamInvalid, 502, "upstream_invalid_response", True),
        (405, UpstreamInvalid, 502, "upstream_invalid_response", True),
        (408, UpstreamTimeout, 504, "upstream_timeout", True),
        (409, UpstreamRejected, 409, "upstream_rejected", False),
        (413, UpstreamRejected, 413, "upstream_rejected", False),
        (422, UpstreamRejected, 422, "upstream_rejected", False),
        (429, UpstreamBusy, 429, "upstream_busy", True),
        (500, UpstreamError, 502, "upstream_error", True),
        (502, UpstreamError, 502, "upstream_error", True),
        (503, UpstreamError, 502, "upstream_error", True),
        (529, UpstreamError, 502, "upstream_error", True),
    ],
)  # fmt: skip
def test_a_status_has_one_meaning(status, kind, shown, code, falls_back):
    error = refusal(status)

    assert type(error) is kind
    assert (error.status, error.code, error.falls_back) == (shown, code, falls_back)


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "x", "code": "context_length_exceeded"}},
        {"error": "This model's maximum context length is 8192 tokens, however you asked for 9000"},
        {"detail": "Requested tokens (612) exceed context window of 512"},
        {"error": {"message": "the request exceeds the available context size"}},
        {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
    ],
    ids=["by code", "OpenAI, vLLM", "llama-cpp-python", "llama.cpp", "Anthropic"],
)
@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for(said, status):
    error = refusal(status, said)

    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (404, {"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}),
        (404, {"error": "model 'llama9' not found, try pulling it first"}),
        (400, {"detail": "Server is pinned to 'tiny-llama'"}),
        (400, {"error": {"message": "Invalid model name passed in model=x"}}),
        (404, {"error": "Cannot find an appropriate cached snapshot folder for the specified "
                        "revision on the local disk and outgoing traffic has been disabled."}),
        (404, {"object": "error", "message": "The model `x` does not exist.", "code": 404}),
    ],
    ids=["OpenAI", "Ollama", "transformers", "LiteLLM", "MLX", "vLLM"],
)  # fmt: skip
def test_a_model_that_the_upstream_does_not_know_is_404(status, said):
    error = refusal(status, said)

    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


def test_a_refusal_by_content_policy_has_its_code():
    error = refusal(400, {"error": {"message": "flagged by our content management policy"}})

    assert (error.status, error.code) == (400, "content_filter")


def test_what_a_wrong_path_answered_is_told_in_the_details():
    assert refusal(404, b"Not Found").details == {"upstream_status": 404}


@pytest.mark.parametrize(
    ("error", "code"),
    [("maximum context length is 8", "context_length_exceeded"),
     ({"message": "x", "code": "context_length_exceeded"}, "context_length_exceeded"),
     ({"message": "blocked", "code": "content_filter"}, "content_filter"),
     ({"message": "maximum context length is 8", "code": 500}, "upstream_error")],
)  # fmt: skip
def test_an_error_inside_an_answer_is_read_like_a_refusal(error, code):
    assert in_band(error).code == code


@pytest.mark.parametrize("status", [401, 403, 402, 500, 503])
def test_what_is_the_gateways_own_affair_is_not_quoted(status):
    error = refusal(status, {"error": {"message": "key sk-abc of team Blue is over its limit"}})

    assert "Blue" not in error.message
    assert error.details == {"upstream_status": status}


@pytest.mark.parametrize(
    ("error", "kind"),
    [({"code": 429}, UpstreamBusy), ({"status_code": 401}, UpstreamCredential),
     ({"status": 400}, UpstreamRejected), ({"code": 200}, UpstreamError),
     ({"code": True}, UpstreamError), ({"code": "429"}, UpstreamError), (None, UpstreamError)],
)  # fmt: skip
def test_an_error_inside_an_answer_may_tell_its_status(error, kind):
    assert type(in_band(error)) is kind


# --- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({"retry-after": "0"}, 0.0),
        ({"retry-after": "86400"}, 120.0), ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2815 07:28:00 -0000"}, 120.0),
        ({}, None), ({"retry-after": ""}, None), ({"retry-after": "later"}, None),
        ({"retry-after": "-5"}, None), ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None), ({"retry-after": "1e999"}, None),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999 07:28:00 GMT"}, None),
    ],
)  # fmt: skip
def test_every_way_of_saying_how_long_to_wait_is_understood(headers, seconds):
    assert retry_after(headers) == seconds


def test_a_date_to_wait_for_is_counted_from_now():
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    assert 25 < retry_after({"retry-after": when}) <= 30


@pytest.mark.parametrize(
    "said",
    ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan -1 00:00:00 GMT",
     "Mon, 99 Jan 2026 99:99:99 GMT", "Mon, 01 Jan 2026 00:00:00 +99999999"],
)  # fmt: skip
def test_an_absurd_date_tells_nothing(said):
    assert retry_after({"retry-after": said}) is None


@pytest.mark.parametrize(("said", "told_s"), [("7", 7.0), ("0", 1.0), ("", 1.0)])
def test_a_busy_upstream_tells_when_to_come_back(said, told_s):
    assert refusal(429, retry_after=said).retry_after_s == told_s


def test_a_503_is_only_busy_when_it_says_when_to_come_back():
    assert isinstance(refusal(503, retry_after="3"), UpstreamBusy)


# --- what must not be told -----------------------------------------------------------------------

SECRETS = [
    "sk-proj-abcdef123456", "sk-ant-api03-Zz_9", "Bearer abc.def-ghi", "hf_AbCdEfGhIj",
    "gsk_1234567890", "nxs-0123456789abcdef", "eyJhbGciOi.eyJzdWIi.c2ln", "sk-***********3f2a",
]  # fmt: skip
PLACES = [
    "http://10.1.2.3:8000/v1/chat", "https://user:pw@gpu7.corp.example/v1", "10.1.2.3:8000",
    "192.168.0.17", "gpu7:8000", "vllm-0.vllm.svc.cluster.local:8000", "[fe80::1]:8000", "::1",
    "postgresql://db/keys", "gpu7.internal", "vllm.default.svc.cluster.local", "localhost",
    "node3.example.com",
]  # fmt: skip
PATHS = [
    "/home/alice/models/llama.gguf", "/etc/ssl/private/key.pem", "/var/lib/x", "~/models/x.gguf",
    "/opt/venv/lib/python3.11/site-packages/vllm/engine.py", "C:\\models\\llama.gguf",
]  # fmt: skip


@pytest.mark.parametrize("told", SECRETS + PLACES + PATHS)
def test_a_message_names_no_secret_no_host_and_no_path(told):
    error = refusal(400, {"error": {"message": f"failed with {told} (see {told}), sorry"}})

    assert told not in error.message
    assert error.message.startswith("failed with ")
    assert error.message.endswith(", sorry")


@pytest.mark.parametrize("told", [SECRETS[0], PLACES[0], PATHS[0]])
def test_neither_do_its_code_and_param(told):
    error = refusal(400, {"error": {"message": "bad", "code": told, "param": told}})

    assert told not in f"{error.code} {error.param}"


@pytest.mark.parametrize(
    "message",
    [
        "temperature must be between 0 and 2", "messages[3].content: str expected",
        "max_tokens: 4096 > 2048", "model llama3.1:8b-instruct-q4_K_M wants more", "n/a",
        "either text and/or images", "ratio 16/9", "model org/name-7B v1.2.3",
        "Tools need tool_choice='auto' or 'none'.", "unsupported value <think>", "key 'n' e.g. 2",
    ],
)  # fmt: skip
def test_harmless_words_stay(message):
    assert scrub(message) == message


def test_a_long_message_is_cut():
    cut = scrub("word " * 1000)

    assert len(cut) == 500
    assert cut.endswith("…")


def test_a_message_is_one_line():
    assert scrub(" a\n\tb\r\nc ") == "a b c"


@pytest.mark.parametrize(
    "piece",
    ["a.", "a-", "a", "model ", "not found ", "/a", "/", "sk-", "1.", "bearer ", "a+b:", "<", "::"],
)  # fmt: skip
def test_no_message_keeps_the_gateway_busy(piece):
    body = orjson.dumps({"error": {"message": piece * (65_000 // len(piece))}})

    began_s = thread_time()
    refusal_of(400, {}, body)

    assert thread_time() - began_s < 0.02


def test_an_upstreams_status_is_told_in_the_details():
    assert classify(500, "", None, None, None).details == {"upstream_status": 500}
