"""Browsers, HEAD, OPTIONS and wrong addresses over the socket."""

import pytest

from tests.contract import fake_openai
from tests.contract.running import Gateway
from tests.contract.sites import MESSAGES, ORIGIN
from tests.contract.wire import Answer

CHAT = "/v1/chat/completions"
PREFLIGHT = {
    "Authorization": "",
    "Origin": ORIGIN,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
}
READABLE = (
    "x-request-id", "retry-after", "retry-after-ms", "x-should-retry", "x-backend-used",
    "x-model-used", "x-router-reason", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
)  # fmt: skip
"""What browser code must be able to read."""


def exposed(answer: Answer) -> set[str]:
    listed = answer.header("access-control-expose-headers") or ""
    return {name.strip().lower() for name in listed.split(",")}


def test_a_preflight_is_answered_without_a_key(fake_gateway: Gateway) -> None:
    """The browser sends no credential with it, and caches the answer."""
    with fake_gateway.connect() as connection:
        answer = connection.ask("OPTIONS", CHAT, headers=PREFLIGHT)

    allowed = (answer.header("access-control-allow-headers") or "").lower()
    assert answer.status == 204
    assert answer.body == b""
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert "POST" in (answer.header("access-control-allow-methods") or "")
    assert {"authorization", "content-type", "x-stainless-lang"} <= set(allowed.split(","))
    assert int(answer.header("access-control-max-age") or 0) > 0
    assert "origin" in (answer.header("vary") or "").lower()


def test_a_preflight_from_elsewhere_gets_no_permission(fake_gateway: Gateway) -> None:
    with fake_gateway.connect() as connection:
        answer = connection.ask(
            "OPTIONS", CHAT, headers={**PREFLIGHT, "Origin": "https://evil.example"}
        )

    assert answer.header("access-control-allow-origin") is None
    assert answer.header("x-request-id")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_browser_code_may_read_the_headers_of_an_answer(
    fake_gateway: Gateway, *, stream: bool
) -> None:
    """Without Access-Control-Expose-Headers it sees neither the request id nor the limits."""
    request = {"model": fake_openai.CHAT, "messages": MESSAGES, "stream": stream}

    with fake_gateway.connect() as connection:
        answer = connection.ask("POST", CHAT, request, {"Origin": ORIGIN})

    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert set(READABLE) <= exposed(answer)
    assert answer.header("access-control-allow-credentials") is None


def test_browser_code_may_read_the_headers_of_an_error(fake_gateway: Gateway) -> None:
    """A refusal without them shows up in the browser as a mere network error."""
    with fake_gateway.connect() as connection:
        answer = connection.ask(
            "POST", CHAT, b"not json", {"Origin": ORIGIN, "Authorization": "Bearer nobody"}
        )

    assert answer.status == 401
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert set(READABLE) <= exposed(answer)


def test_cors_is_off_until_origins_are_listed(mock_gateway: Gateway) -> None:
    with mock_gateway.connect() as connection:
        preflight = connection.ask("OPTIONS", CHAT, headers=PREFLIGHT)
        plain = connection.ask("GET", "/v1/models", headers={"Origin": ORIGIN})

    for answer in (preflight, plain):
        assert not [name for name, _ in answer.headers if name.lower().startswith("access-")]
    assert preflight.status == 405
    assert preflight.error()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "path", ["/", "/health", "/readyz", "/v1/models", "/v1/models/mock", "/v1/metadata"]
)
def test_head_answers_like_get_without_the_body(mock_gateway: Gateway, path: str) -> None:
    """Same status, same headers, and the connection stays usable."""
    with mock_gateway.connect() as connection:
        got = connection.ask("GET", path)
        head = connection.ask("HEAD", path)
        again = connection.ask("GET", path)

        assert connection.opened == 1
    assert (head.status, again.status) == (got.status, got.status)
    assert head.header("content-length") == got.header("content-length")
    assert head.header("content-type") == got.header("content-type")
    assert head.body == b""
    assert head.header("x-request-id")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_a_wrong_method_is_told_what_is_allowed(mock_gateway: Gateway, method: str) -> None:
    """405 with ``Allow``, in the envelope of every other error."""
    with mock_gateway.connect() as connection:
        answer = connection.ask(method, CHAT)

    assert answer.status == 405
    assert answer.header("allow") == "POST"
    assert answer.header("x-request-id")
    if method != "HEAD":
        assert answer.error()["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models"),
        ("POST", "/v1/chat/completion"),
        ("GET", "/v1//models"),
        ("GET", "/v1/models/../../etc/passwd"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
        ("OPTIONS", "*"),
    ],
)
def test_an_unknown_address_is_not_found_in_our_envelope(
    mock_gateway: Gateway, method: str, path: str
) -> None:
    with mock_gateway.connect() as connection:
        answer = connection.ask(method, path)

    assert answer.status == 404
    assert answer.error()["code"] in {"not_found", "model_not_found"}


def test_a_trailing_slash_is_not_redirected(mock_gateway: Gateway) -> None:
    """A redirect costs a round trip, and some clients drop the body on the way."""
    request = {"model": "mock", "messages": MESSAGES}

    with mock_gateway.connect() as connection:
        answer = connection.ask("POST", f"{CHAT}/", request)

    assert answer.status == 200


@pytest.mark.parametrize("accept", ["application/json", "text/html", "image/png", "*/*", ""])
def test_the_accept_header_decides_nothing(mock_gateway: Gateway, accept: str) -> None:
    """The official client asks for JSON even when it wants a stream."""
    request = {"model": "mock", "messages": MESSAGES, "stream": True}

    with mock_gateway.connect() as connection:
        answer = connection.ask("POST", CHAT, request, {"Accept": accept})

    assert answer.status == 200
    assert answer.header("content-type") == "text/event-stream; charset=utf-8"


def test_a_stream_carries_the_headers_that_keep_it_flowing(mock_gateway: Gateway) -> None:
    """No cache, no buffering proxy, no length, no compression."""
    request = {"model": "mock", "messages": MESSAGES, "stream": True}

    with mock_gateway.connect() as connection:
        answer = connection.ask("POST", CHAT, request, {"Accept-Encoding": "gzip, br"})

        assert connection.ask("GET", "/health").status == 200
        assert connection.opened == 1
    assert answer.header("cache-control") == "no-cache"
    assert answer.header("x-accel-buffering") == "no"
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.header("content-length") is None
    assert answer.header("content-encoding") is None


@pytest.mark.parametrize(
    ("offered", "kept"),
    [
        ("abc-123", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("with space", False),
        ("<script>", False),
        ("-starts-wrong", False),
        ("", False),
    ],
)
def test_only_a_sane_request_id_is_kept(mock_gateway: Gateway, offered: str, *, kept: bool) -> None:
    """It is written to logs and handed upstream."""
    with mock_gateway.connect() as connection:
        answer = connection.ask("GET", "/health", headers={"x-request-id": offered})

    assert (answer.header("x-request-id") == offered) == kept
    assert answer.header("x-request-id")
