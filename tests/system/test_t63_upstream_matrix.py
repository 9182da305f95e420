"""T63: each way an upstream can fail, for each kind of call: exact status, code and calls."""

from typing import Any

import pytest

from tests.fakes.rawclient import Answer, chat, completion, embeddings
from tests.system.servers import Gateway, Upstream, free_port

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}
LIMITS = {
    "GATEWAY_CONNECT_TIMEOUT_SECONDS": 0.4,
    "GATEWAY_FIRST_BYTE_TIMEOUT_SECONDS": 1.0,
    "GATEWAY_IDLE_TIMEOUT_SECONDS": 0.5,
    "GATEWAY_REQUEST_TIMEOUT_SECONDS": 2.5,
    "GATEWAY_MAX_RESPONSE_BYTES": 2_000_000,
}

BEFORE: dict[str, tuple[int, str]] = {
    "rst": (502, "upstream_reset"),
    "nothing": (502, "upstream_reset"),
    "half_head": (502, "upstream_invalid_response"),
    "not_http": (502, "upstream_invalid_response"),
    "500": (502, "upstream_error"),
    "503": (502, "upstream_error"),
    "429_ra": (429, "upstream_busy"),
    "503_ra": (429, "upstream_busy"),
    "401": (502, "upstream_auth"),
    "403": (502, "upstream_auth"),
    "302": (502, "upstream_invalid_response"),
    "html200": (502, "upstream_invalid_response"),
    "gzipbomb_1": (502, "upstream_invalid_response"),
    "gzipbomb_1_500": (502, "upstream_error"),
    "bigheader_1": (502, "upstream_invalid_response"),
}
"""What fails before any content, streamed or not; another target may be tried."""

REFUSED: dict[str, tuple[int, str]] = {
    "400": (400, "invalid_request_error"),
    "422": (422, "upstream_rejected"),
    "context": (400, "context_length_exceeded"),
    "404_model": (404, "model_not_found"),
}
"""What the upstream finds wrong with the request itself; no other target is tried."""

IN_ONE_PIECE: dict[str, tuple[int, str]] = {
    "ttft": (504, "upstream_timeout"),
    "late": (504, "upstream_timeout"),
    "drip_head": (504, "upstream_timeout"),
    "never_ends": (504, "upstream_timeout"),
    "stall_after": (504, "upstream_stalled"),
    "trunc_chunked": (502, "upstream_truncated"),
    "trunc_length": (502, "upstream_truncated"),
    "rst_after": (502, "upstream_truncated"),
    "trunc_close": (502, "upstream_invalid_response"),
    "empty": (502, "upstream_invalid_response"),
    "badjson": (502, "upstream_invalid_response"),
    "badsse": (502, "upstream_invalid_response"),
    "badutf8": (502, "upstream_invalid_response"),
    "huge_body": (502, "upstream_invalid_response"),
    "layers": (502, "upstream_invalid_response"),
    "error_frame": (502, "upstream_error"),
}

STREAM_BEFORE_CONTENT: dict[str, tuple[int, str]] = {
    "ttft": (504, "upstream_first_token_timeout"),
    "late": (504, "upstream_first_token_timeout"),
    "drip_head": (504, "upstream_first_token_timeout"),
    "stall_after_0": (504, "upstream_stalled"),
    "trunc_chunked_0": (502, "upstream_truncated"),
    "trunc_close_0": (502, "upstream_truncated"),
    "rst_after_0": (502, "upstream_truncated"),
    "empty": (502, "upstream_truncated"),
    "badsse": (502, "upstream_truncated"),
    "done_only": (502, "upstream_truncated"),
    "badjson": (502, "upstream_invalid_stream"),
    "badutf8": (502, "upstream_invalid_stream"),
    "hugeline": (502, "upstream_invalid_stream"),
    "error_frame": (502, "upstream_error"),
}

STREAM_AFTER_CONTENT: dict[str, str] = {
    "stall_after_2": "upstream_stalled",
    "never_ends": "upstream_timeout",
    "trunc_chunked_2": "upstream_truncated",
    "trunc_close_2": "upstream_truncated",
    "rst_after_2": "upstream_truncated",
    "no_finish": "upstream_truncated",
    "badjson_2": "upstream_invalid_stream",
    "badutf8_2": "upstream_invalid_stream",
    "badutf8_aside": "upstream_invalid_stream",
    "hugeline_2_2": "upstream_invalid_stream",
    "error_frame_2": "upstream_error",
    "same_read": "upstream_invalid_stream",
}

GOOD_STREAMS = (
    "ok",
    "close_no_cl",
    "dup_done",
    "open_after_done",
    "no_done",
    "drip_0.05_2",
    "late_0.8",
    "ttft_0.3",
    "event_names",
    "broken_tail",
)
GOOD_REPLIES = ("ok", "close_no_cl", "late_0.8", "ttft_0.3", "drip_0.1_8")

_SAID_FIRST = {"badutf8_aside": "word0 ", "never_ends": "again ", "same_read": "word0 word1 last "}
"""What reached the client before the failure, where it is not the usual two words."""

FALLING_BACK = {**BEFORE, **STREAM_BEFORE_CONTENT}
_USE_ALL_TIME = frozenset({"ttft", "late", "drip_head", "never_ends"})
"""In one piece these fail when the total time is over: nothing may be tried after that."""
STREAMED, PLAIN = ("chat", "completions"), ("chat", "completions", "embeddings")


@pytest.fixture(scope="module")
def faulty(crew) -> Upstream:
    names = {*FALLING_BACK, *IN_ONE_PIECE, *REFUSED, *STREAM_AFTER_CONTENT}
    return crew.upstream("--models", ",".join(sorted(names)))


@pytest.fixture(scope="module")
def sound(crew) -> Upstream:
    names = {*FALLING_BACK, *IN_ONE_PIECE, *REFUSED, *STREAM_AFTER_CONTENT}
    return crew.upstream("--models", ",".join(sorted(names)), "--always", "ok")


@pytest.fixture(scope="module")
def alone(crew, faulty) -> Gateway:
    """A gateway whose upstream has no stand-in."""
    others = {"hole": faulty.black_hole, "refused": free_port()}
    return crew.gateway({"up": faulty, **others}, GATEWAY_DEFAULT_UPSTREAM="up", **LIMITS)


@pytest.fixture(scope="module")
def paired(crew, faulty, sound) -> Gateway:
    """A gateway with a second upstream that serves the same models."""
    return crew.gateway({"first": faulty, "second": sound}, **LIMITS)


def _ask(
    gateway: Gateway, kind: str, model: str, request_id: str, *, stream: bool, **headers: str
) -> Answer:
    body: Any
    if kind == "embeddings":
        body = embeddings(model)
    else:
        body = (chat if kind == "chat" else completion)(model, stream=stream)
    return gateway.ask(body, PATHS[kind], X_Request_Id=request_id, **headers)


def _calls(upstream: Upstream, request_id: str) -> int:
    """Return how often an upstream was called, a stale pooled connection's renewal counted once."""
    seen = upstream.seen(request_id)
    if len(seen) > 1 and seen[0]["place"] > 0:
        assert seen[1]["place"] == 0, "the second try must be on a fresh connection"
        return len(seen) - 1
    return len(seen)


def _assert_refused(answer: Answer, status: int, code: str, request_id: str) -> None:
    assert (answer.status, answer.error()["code"]) == (status, code), answer
    assert answer.error()["request_id"] == answer.header("x-request-id") == request_id
    assert answer.whole


def _assert_whole_stream(answer: Answer) -> None:
    assert answer.status == 200, answer
    assert answer.text() == "word0 word1 "
    assert answer.events()[-1] == "[DONE]"
    assert answer.body.count(b"[DONE]") == 1
    assert answer.whole


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("model", [*BEFORE, *REFUSED, *IN_ONE_PIECE])
def test_t63_a_reply_that_fails_tells_status_and_code(alone, faulty, new_id, model, kind):
    status, code = (BEFORE | REFUSED | IN_ONE_PIECE)[model]

    answer = _ask(alone, kind, model, new_id, stream=False)

    _assert_refused(answer, status, code, new_id)
    assert _calls(faulty, new_id) == 1
    assert alone.line(new_id)["code"] == code


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("model", [*BEFORE, *REFUSED, *STREAM_BEFORE_CONTENT])
def test_t63_a_stream_that_fails_before_content_is_a_real_http_error(
    alone, faulty, new_id, model, kind
):
    status, code = (BEFORE | REFUSED | STREAM_BEFORE_CONTENT)[model]

    answer = _ask(alone, kind, model, new_id, stream=True)

    _assert_refused(answer, status, code, new_id)
    assert _calls(faulty, new_id) == 1


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("model", STREAM_AFTER_CONTENT)
def test_t63_a_stream_that_fails_after_content_ends_with_its_error_and_without_an_end(
    paired, faulty, sound, new_id, model, kind
):
    """No fallback joins the text of two models; the body lacks its last chunk."""
    answer = _ask(paired, kind, model, new_id, stream=True)

    assert answer.status == 200
    error = answer.document_of_last_event()["error"]
    assert error["code"] == STREAM_AFTER_CONTENT[model], answer
    assert error["request_id"] == new_id
    assert answer.text().startswith(_SAID_FIRST.get(model, "word0 word1 "))
    assert answer.chunked
    assert not answer.whole
    assert b"[DONE]" not in answer.body
    assert (_calls(faulty, new_id), _calls(sound, new_id)) == (1, 0)
    assert paired.line(new_id)["code"] == STREAM_AFTER_CONTENT[model]


@pytest.mark.parametrize("kind", STREAMED)
@pytest.mark.parametrize("model", GOOD_STREAMS)
def test_t63_a_stream_that_is_merely_odd_comes_out_whole(alone, new_id, model, kind):
    answer = _ask(alone, kind, model, new_id, stream=True)

    _assert_whole_stream(answer)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("model", GOOD_REPLIES)
def test_t63_a_reply_that_is_merely_odd_comes_out_whole(alone, new_id, model, kind):
    answer = _ask(alone, kind, model, new_id, stream=False)

    assert answer.status == 200, answer
    assert answer.document()["model"] == model


@pytest.mark.parametrize("model", FALLING_BACK)
def test_t63_before_content_another_target_answers_a_stream(paired, faulty, sound, new_id, model):
    answer = _ask(paired, "chat", model, new_id, stream=True)

    _assert_whole_stream(answer)
    assert answer.header("x-backend-used") == "second"
    assert (_calls(faulty, new_id), _calls(sound, new_id)) == (1, 1)
    tried = paired.line(new_id)["attempts"]
    assert tried == [f"first:{FALLING_BACK[model][1]}", "second:ok"]


@pytest.mark.parametrize(
    "model", [name for name in (*BEFORE, *IN_ONE_PIECE) if name not in _USE_ALL_TIME]
)
def test_t63_another_target_answers_in_one_piece(paired, faulty, sound, new_id, model):
    answer = _ask(paired, "chat", model, new_id, stream=False)

    assert answer.status == 200, answer
    assert answer.header("x-backend-used") == "second"
    assert (_calls(faulty, new_id), _calls(sound, new_id)) == (1, 1)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", REFUSED)
def test_t63_a_wrong_request_is_not_tried_elsewhere(paired, faulty, sound, new_id, model, stream):
    answer = _ask(paired, "chat", model, new_id, stream=stream)

    _assert_refused(answer, *REFUSED[model], new_id)
    assert (_calls(faulty, new_id), _calls(sound, new_id)) == (1, 0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("upstream", "status", "code"),
    [("hole", 504, "upstream_connect_timeout"), ("refused", 503, "upstream_unavailable")],
)
def test_t63_no_connection_is_told_apart(alone, new_id, upstream, status, code, stream):
    answer = _ask(alone, "chat", upstream, new_id, stream=stream)

    _assert_refused(answer, status, code, new_id)


def test_t63_a_refused_connection_says_when_to_come_back(alone, new_id):
    answer = _ask(alone, "chat", "refused", new_id, stream=False)

    assert int(answer.header("retry-after")) >= 1


@pytest.mark.parametrize(
    ("model", "seconds"), [("429_ra", "7"), ("503_ra", "7"), ("429_ra_9999", "120")]
)
def test_t63_the_upstreams_wait_is_passed_on_and_capped(alone, new_id, model, seconds):
    answer = _ask(alone, "chat", model, new_id, stream=False)

    assert (answer.status, answer.header("retry-after")) == (429, seconds)


@pytest.mark.parametrize(
    "model",
    [
        "ttft",
        "never_ends",
        "trunc_chunked",
        "trunc_length",
        "rst_after",
        "badjson",
        "stall_after",
        "401",
    ],
)
def test_t63_a_client_does_not_retry_what_may_have_cost_tokens(alone, new_id, model):
    answer = _ask(alone, "chat", model, new_id, stream=False)

    assert answer.header("x-should-retry") == "false"


@pytest.mark.parametrize(("model", "status"), [("500", 502), ("tattle", 400)])
def test_t63_an_upstreams_own_words_lose_addresses_paths_and_secrets(alone, new_id, model, status):
    answer = _ask(alone, "chat", model, new_id, stream=False)

    assert answer.status == status
    for secret in (b"10.0.0.7", b"/opt/models", b"sk-secret"):
        assert secret not in answer.body
    if model == "500":
        assert answer.error()["details"]["upstream_status"] == 500
    else:
        assert "out of memory" in answer.error()["message"]


def test_t63_a_stale_connection_is_replaced_by_a_fresh_one_once(alone, faulty, new_id):
    for _ in range(3):
        _ask(alone, "chat", "ok", f"{new_id}-before", stream=False)

    answer = _ask(alone, "chat", "nothing", new_id, stream=False)

    assert answer.error()["code"] == "upstream_reset"
    assert [record["place"] > 0 for record in faulty.seen(new_id)] == [True, False]
