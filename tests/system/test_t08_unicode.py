"""T08 and T09: any text passes unharmed, and nothing a caller says can break a header."""

import json

import pytest

from tests.fakes.rawclient import Answer, RawClient, chat, completion
from tests.system.servers import CHAT, KEY, Gateway, Upstream, get

TEXTS = {
    "four bytes": "🜁𝕬𐍈😀",
    "joined emoji": "👩‍👩‍👧‍👦🏳️‍🌈",
    "right to left": "مرحبا שלום \u202eevil\u202c",
    "line separators": "a\u2028b\u2029c\u0085d\x0be\x0cf",
    "a byte order mark": "\ufeffa\ufeff",
    "combining": "Z̷͇͝a̶l̷g̵o̴ é e\u0301",
    "the last code point": "\U0010ffff\ufffe\uffff",
    "an escaped NUL": "a\x00b",
    "controls": "\x01\x02\x1b[31m\x7f",
    "event syntax": "data: [DONE]\n\nevent: x\r\n\r\nid: 1",
    "quotes and slashes": '\\"\\\\/\'"</script>',
    "Chinese": "混元 模型 龍",
}


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream("--always", "echo", "--models", "listed")


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up", ALLOWED_ORIGINS="https://good.test",
    )  # fmt: skip


def _saying(text: str, model: str = "listed", **members) -> dict:
    return chat(model, **members) | {"messages": [{"role": "user", "content": text}]}


@pytest.mark.parametrize("escaped", [True, False], ids=["escaped", "raw"])
@pytest.mark.parametrize("name", TEXTS)
def test_t08_text_comes_back_equal(gateway, name, escaped):
    body = json.dumps(_saying(TEXTS[name]), ensure_ascii=escaped).encode()

    answer = gateway.ask(body)

    assert answer.status == 200, answer
    assert answer.document()["choices"][0]["message"]["content"] == TEXTS[name]


@pytest.mark.parametrize("name", TEXTS)
def test_t08_streamed_text_comes_back_equal(gateway, name):
    answer = gateway.ask(_saying(TEXTS[name], stream=True))

    assert answer.text() == TEXTS[name]
    assert answer.events()[-1] == "[DONE]"


@pytest.mark.parametrize("name", TEXTS)
def test_t08_a_completions_prompt_comes_back_equal(gateway, name):
    answer = gateway.ask(completion("listed") | {"prompt": TEXTS[name]}, "/v1/completions")

    assert answer.document()["choices"][0]["text"] == TEXTS[name]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", TEXTS)
def test_t08_a_models_name_may_be_any_text_and_its_headers_stay_ascii(
    gateway, upstream, new_id, name, stream
):
    model = TEXTS[name]

    answer = gateway.ask(_saying("hi", model, stream=stream), X_Request_Id=new_id)

    assert answer.status == 200, answer
    assert upstream.seen(new_id)[0]["model"] == model
    told = json.loads(answer.events()[0]) if stream else answer.document()
    assert told["model"] == model
    _assert_clean_head(answer)
    assert gateway.line(new_id)["model"] == model


def _assert_clean_head(answer: Answer) -> None:
    for name, value in answer.headers:
        assert value.isascii(), (name, value)
        assert value.isprintable(), (name, value)
        assert len(value) <= 1024, (name, len(value))
        assert "injected" not in name


ATTACKS = {
    "a line break": "x\r\nX-Injected: 1",
    "a line feed": "x\nX-Injected: 1",
    "a line break and a body": "x\r\n\r\n<html>",
    "ten kilobytes": "x" * 10_240,
    "five hundred": "x" * 500,
    "latin-1": "naïve",
    "unicode": "模型😀",
    "a NUL": "x\x00y",
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ATTACKS)
def test_t09_a_models_name_cannot_reach_the_head_raw(gateway, upstream, new_id, name, stream):
    answer = gateway.ask(_saying("hi", ATTACKS[name], stream=stream), X_Request_Id=new_id)

    _assert_clean_head(answer)
    assert answer.status in {200, 400}, answer
    if answer.status == 400:
        assert upstream.seen(new_id) == []


CARRIERS = {
    "request id": "X-Request-Id",
    "upstream": "X-Backend",
    "origin": "Origin",
    "read time-out": "X-Stainless-Read-Timeout",
}
RAW = {
    "latin-1": b"na\xefve",
    "utf-8": "模型😀".encode(),
    "an escape": b"x%0d%0aX-Injected: 1",
    "eight kilobytes": b"x" * 8_000,
    "a tab": b"a\tb",
    "high bytes": bytes(range(128, 256)),
    "quotes": b'"; x="',
    "numbers": b"nan",
    "endless": b"inf",
    "negative": b"-1",
}


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_t09_no_header_of_a_request_comes_back_raw(gateway, upstream, carrier, name):
    calls = len(upstream.seen_all())
    body = json.dumps(_saying("hi")).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Connection: close\r\n{CARRIERS[carrier]}: "
    ).encode()
    with RawClient(gateway.port) as client:
        client.send(head + RAW[name] + b"\r\n\r\n" + body)
        answer = client.answer()

    assert answer.status in {200, 400}, answer
    _assert_clean_head(answer)
    assert len(upstream.seen_all()) - calls == (answer.status == 200)


@pytest.mark.parametrize("name", RAW)
def test_t09_a_preflight_reflects_nothing_dangerous(gateway, name):
    with RawClient(gateway.port) as client:
        client.send(
            f"OPTIONS {CHAT} HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.test\r\n".encode()
            + b"Connection: close\r\nAccess-Control-Request-Method: POST\r\n"
            + b"Access-Control-Request-Headers: " + RAW[name] + b"\r\n\r\n"
        )  # fmt: skip
        answer = client.answer()

    assert answer.status in {200, 204, 400}
    _assert_clean_head(answer)
    assert answer.header("access-control-allow-origin") is None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/%0d%0aX-Injected:%201", "/%0d%0aX-Injected:1", "/nowhere?x=%0d%0a",
        "//evil.test/%2e%2e", "/" + "x" * 4000,
    ],
)  # fmt: skip
def test_t09_no_address_comes_back_raw(gateway, path):
    with RawClient(gateway.port) as client:
        answer = client.ask(get(path))

    assert answer.status == 404, answer
    _assert_clean_head(answer)
    assert answer.header("location") is None


def test_t09_a_callers_own_request_id_is_kept_when_it_is_harmless(gateway):
    answer = gateway.ask(_saying("hi"), X_Request_Id="trace-01:a.b_c")

    assert answer.header("x-request-id") == "trace-01:a.b_c"
