"""Errors as the official client raises them: class, code, type, param, and the next try."""

import email.utils
import uuid
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.kernel.clock import monotonic, unix_seconds
from tests.contract import fake_openai
from tests.contract.fake_openai import FakeOpenAI
from tests.contract.flavours import Flavour
from tests.contract.running import Gateway, start_gateway
from tests.contract.sites import FIRST_BYTE_LIMIT_S, MESSAGES

TRIES = 3
"""The client's first try and its two usual retries."""
BY_STATUS = [
    # what the upstream says, what the client raises, the status it sees, the code
    (400, openai.BadRequestError, 400, "shore_400"),
    (401, openai.InternalServerError, 502, "upstream_auth"),
    (402, openai.InternalServerError, 502, "upstream_quota"),
    (403, openai.InternalServerError, 502, "upstream_auth"),
    (404, openai.NotFoundError, 404, "shore_404"),
    (408, openai.InternalServerError, 504, "upstream_timeout"),
    (409, openai.ConflictError, 409, "shore_409"),
    (413, openai.APIStatusError, 413, "shore_413"),
    (422, openai.UnprocessableEntityError, 422, "shore_422"),
    (429, openai.RateLimitError, 429, "upstream_busy"),
    (500, openai.InternalServerError, 502, "upstream_error"),
    (503, openai.InternalServerError, 502, "upstream_error"),
    (529, openai.InternalServerError, 502, "upstream_error"),
]


def ask(client: Flavour, model: str, **more: Any) -> Any:
    return client.ask(lambda c: c.chat.completions.create(model=model, messages=MESSAGES, **more))


def failed(
    gateway: Gateway, flavour: type[Flavour], model: str, *, max_retries: int = 0, **more: Any
) -> tuple[openai.APIStatusError, str]:
    """Ask for something that fails; return the error and the request id that was sent."""
    mark = f"failed-{uuid.uuid4().hex}"
    with (
        flavour(gateway, max_retries=max_retries) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        ask(client, model, extra_headers={"x-request-id": mark}, **more)
    assert caught.value.request_id == mark
    return caught.value, mark


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(("said", "kind", "status", "code"), BY_STATUS)
def test_an_upstreams_status_becomes_the_right_exception(
    fake_gateway: Gateway, flavour: type[Flavour], said: int, kind: type, status: int, code: str, *,
    stream: bool,
) -> None:  # fmt: skip
    """Its 4xx are the caller's to mend; its refusal of our credential is not the caller's fault."""
    error, _ = failed(fake_gateway, flavour, f"status-{said}", stream=stream)

    assert type(error) is kind
    assert error.status_code == status
    assert error.code == code
    assert error.type
    if 400 <= status < 500 and status != 429:
        assert error.param == "messages"
        assert "The shore says" in error.message


@pytest.mark.parametrize("said", [400, 401, 402, 403, 404, 408, 409, 413, 422])
def test_what_a_retry_cannot_mend_is_not_retried(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour], said: int
) -> None:
    """The client would repeat 409, 502 and 504 by itself; ``x-should-retry: false`` stops it."""
    error, mark = failed(fake_gateway, flavour, f"status-{said}", max_retries=TRIES - 1)

    assert error.response.headers["x-should-retry"] == "false"
    assert len(upstream.calls(mark)) == 1


@pytest.mark.parametrize(
    ("model", "stream"),
    [
        (fake_openai.CUT_REPLY, False),
        (fake_openai.SILENT, True),
        ("quirk/nothing", True),
        ("quirk/json-not-stream", True),
        ("quirk/html-200", True),
        ("quirk/compressed", True),
    ],
)
def test_tokens_that_may_have_been_spent_are_not_spent_again(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour], model: str, *, stream: bool
) -> None:
    """Cut answers, silence and answers that cannot be read: the model has worked already."""
    error, mark = failed(fake_gateway, flavour, model, max_retries=TRIES - 1, stream=stream)

    assert error.response.headers.get("x-should-retry") == "false"
    assert len(upstream.calls(mark)) == 1


def test_silence_ends_at_the_first_byte_limit(
    fake_gateway: Gateway, flavour: type[Flavour]
) -> None:
    began_s = monotonic()
    error, _ = failed(fake_gateway, flavour, fake_openai.SILENT, stream=True)
    took_s = monotonic() - began_s

    assert error.status_code == 504
    assert error.code == "upstream_first_token_timeout"
    assert FIRST_BYTE_LIMIT_S <= took_s < FIRST_BYTE_LIMIT_S + 2


@pytest.mark.parametrize("said", [429, 500])
def test_what_may_pass_the_next_time_is_left_to_the_clients_own_rules(
    fake_gateway: Gateway, upstream: FakeOpenAI, flavour: type[Flavour], said: int
) -> None:
    """A full upstream and a plain 5xx: the client tries as often as it usually does."""
    _, mark = failed(fake_gateway, flavour, f"status-{said}", max_retries=TRIES - 1)

    assert len(upstream.calls(mark)) == TRIES


def test_a_busy_upstreams_short_wait_is_passed_on(
    fake_gateway: Gateway, flavour: type[Flavour]
) -> None:
    """To the millisecond, so that the client's retry comes when it may succeed."""
    began_s = monotonic()
    error, _ = failed(fake_gateway, flavour, "status-429", max_retries=TRIES - 1)
    took_s = monotonic() - began_s

    assert error.response.headers["retry-after-ms"] == "40"
    assert error.response.headers["retry-after"] == "1"
    assert took_s < 1


@pytest.mark.parametrize(
    ("said", "told_s"),
    [("7", 7), ("0.5", 1), ("3600", 120), (None, 1), ("soon", 1), ("-3", 1)],
)
def test_retry_after_is_whole_seconds_within_what_clients_obey(
    fake_gateway: Gateway, said: str | None, told_s: int
) -> None:
    """Clients give up at once on more than 120 s, and ignore what is no number."""
    assert told_by(fake_gateway, said) == told_s


def test_a_retry_after_that_is_a_date_becomes_seconds(fake_gateway: Gateway) -> None:
    when = email.utils.formatdate(unix_seconds() + 30, usegmt=True)

    assert 27 <= told_by(fake_gateway, when) <= 30


def told_by(gateway: Gateway, said: str | None) -> int:
    """Return the seconds of our Retry-After for an upstream's own words, or for none."""
    wait = {} if said is None else {"Retry-After": said}
    request = {"model": "status-429", "messages": MESSAGES, fake_openai.WAIT: wait}
    with gateway.connect() as connection:
        answer = connection.ask("POST", "/v1/chat/completions", request)
    assert answer.status == 429
    return int(answer.header("retry-after") or 0)


@pytest.mark.parametrize("key", ["sk-nobody", "nxs_wrong_key_0"])
def test_an_unknown_key_is_an_authentication_error(
    mock_gateway: Gateway, flavour: type[Flavour], key: str
) -> None:
    """Once, without a retry, and with the header that says how to authenticate."""
    with (
        flavour(mock_gateway, key=key, max_retries=TRIES - 1) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.ask(lambda c: c.models.list())

    error = caught.value
    assert error.response.headers["www-authenticate"] == "Bearer"
    assert error.response.headers["x-should-retry"] == "false"
    assert error.code == "invalid_api_key"
    assert error.type == "authentication_error"
    assert error.request_id


def test_a_missing_key_is_named_as_such(mock_gateway: Gateway) -> None:
    with mock_gateway.connect() as connection:
        answer = connection.ask("GET", "/v1/models", headers={"Authorization": ""})

    assert answer.status == 401
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.error()["code"] == "missing_api_key"


def test_two_different_credentials_are_refused(mock_gateway: Gateway) -> None:
    """Which one counts must not be a guess."""
    with mock_gateway.connect() as connection:
        answer = connection.ask("GET", "/v1/models", headers={"X-API-Key": "dev-key"})

    assert answer.status == 400
    assert answer.error()["code"] == "two_credentials"


def test_a_key_without_the_scope_is_denied(tmp_path: Path, flavour: type[Flavour]) -> None:
    """403, not 401: the caller is known. What the key may do still works."""
    gateway = start_gateway(tmp_path, {}, "tests.contract.narrow_app:app")
    try:
        with flavour(gateway, max_retries=TRIES - 1) as client:
            listed = client.ask(lambda c: c.models.list())
            with pytest.raises(openai.PermissionDeniedError) as caught:
                ask(client, "mock")
    finally:
        gateway.stop()

    assert listed.data
    assert caught.value.code == "not_allowed"
    assert caught.value.type == "permission_error"
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("mistake", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "Hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"model": ""}, "model"),
        ({"model": 7}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"tools": {}}, "tools"),
    ],
)
def test_a_mistake_is_named_by_its_field(
    mock_gateway: Gateway, flavour: type[Flavour], mistake: dict[str, Any], param: str
) -> None:
    """``e.param`` is the field's path, ``e.message`` says what is allowed."""
    request = {"model": "mock", "messages": MESSAGES, **mistake}

    with flavour(mock_gateway) as client, pytest.raises(openai.BadRequestError) as caught:
        client.ask(lambda c: c.post("/chat/completions", cast_to=object, body=request))

    assert caught.value.param == param
    assert caught.value.code == "invalid_request"
    assert caught.value.type == "invalid_request_error"
    assert caught.value.body["message"]


def test_a_body_that_is_not_json_is_a_bad_request(mock_gateway: Gateway) -> None:
    with mock_gateway.connect() as connection:
        answer = connection.ask("POST", "/v1/chat/completions", b'{"model":')

    assert answer.status == 400
    assert answer.error()["code"] == "invalid_json"


def test_a_body_that_is_too_large_is_told_apart(
    mock_gateway: Gateway, flavour: type[Flavour]
) -> None:
    """413 reaches the client as an answer, although it had not finished sending."""
    huge = [{"role": "user", "content": "x" * 21_000_000}]

    with (
        flavour(mock_gateway, max_retries=TRIES - 1) as client,
        pytest.raises(openai.APIStatusError) as caught,
    ):
        client.ask(lambda c: c.chat.completions.create(model="mock", messages=huge))

    assert caught.value.status_code == 413
    assert caught.value.code == "request_too_large"
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("fault", ["cut", "error", "garbage", "reset"])
def test_a_stream_that_breaks_raises_after_the_text_so_far(
    mock_gateway: Gateway, flavour: type[Flavour], fault: str
) -> None:
    """The embedded mock breaks on request; an APIError without a status, with our code and id."""
    got: list = []

    with flavour(mock_gateway) as client, pytest.raises(openai.APIError) as caught:
        client.taken(
            lambda c: c.chat.completions.create(
                model=f"mock/fault={fault}/after=3", messages=MESSAGES, stream=True
            ),
            got,
        )

    assert "".join(chunk.choices[0].delta.content or "" for chunk in got) == "This is the "
    assert caught.value.code in {
        "upstream_truncated", "upstream_error", "upstream_invalid_stream", "upstream_reset",
    }  # fmt: skip
    assert caught.value.body["request_id"].startswith("req-")


def test_the_stream_helper_raises_on_a_broken_stream(
    mock_gateway: Gateway, flavour: type[Flavour]
) -> None:
    """It must not hand out a shorter answer as if it were whole."""
    with flavour(mock_gateway) as client, pytest.raises(openai.APIError) as caught:
        client.assembled(
            lambda c: c.chat.completions.stream(model="mock/fault=cut", messages=MESSAGES)
        )

    assert caught.value.code == "upstream_truncated"
