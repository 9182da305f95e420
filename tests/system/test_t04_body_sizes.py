"""T04: the body limit holds for declared and chunked bodies; nothing is ever taken cut off."""

import json

import pytest

from tests.fakes.rawclient import Answer, RawClient, chat
from tests.system.servers import Gateway, Upstream, post
from tests.system.sizes import size_of

LIMIT = size_of("T04 limit bytes")
GIANT_BYTES = 300_000_000


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream("--always", "count")


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway({"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up", MAX_REQUEST_BYTES=LIMIT)


def _body(size: int) -> bytes:
    """Return a chat request of exactly so many bytes."""
    empty = json.dumps(chat("ok") | {"messages": [{"role": "user", "content": ""}]}).encode()
    return empty.replace(b'""', b'"' + b"x" * (size - len(empty)) + b'"')


def _chunked(body: bytes, step: int) -> bytes:
    head = post(None, Transfer_Encoding="chunked", Content_Type="application/json")
    pieces = [body[place : place + step] for place in range(0, len(body), step)]
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _sent(gateway: Gateway, message: bytes) -> Answer:
    with RawClient(gateway.port) as client:
        client.send(message)
        return client.answer()


@pytest.mark.parametrize("step", [7_000, 1_000_000], ids=["small chunks", "one chunk"])
@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 413)])
def test_t04_a_chunked_body_is_taken_whole_up_to_the_limit(gateway, over, status, step):
    body = _body(LIMIT + over)

    answer = _sent(gateway, _chunked(body, step))

    assert answer.status == status, answer
    if status == 200:
        content = json.loads(body)["messages"][0]["content"]
        assert answer.document()["choices"][0]["message"]["content"] == str(len(content))
    else:
        assert answer.error()["code"] == "request_too_large"
        assert answer.header("connection") == "close"


@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 413)])
def test_t04_a_declared_body_has_the_same_limit(gateway, over, status):
    answer = _sent(gateway, post(_body(LIMIT + over)))

    assert answer.status == status


def test_t04_a_declared_giant_is_refused_before_it_is_sent(gateway):
    answer = _sent(
        gateway,
        post(None, Content_Length=str(10 * LIMIT)),
    )

    assert answer.status == 413


def test_t04_a_chunked_giant_is_refused_while_it_is_being_sent(gateway):
    with RawClient(gateway.port) as client:
        client.send(post(None, Transfer_Encoding="chunked"))
        piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        sent = 0
        try:
            while sent < GIANT_BYTES:
                client.send(piece)
                sent += len(piece)
        except OSError:
            assert sent > LIMIT, "refused before the limit"
        answer = client.answer()

    assert sent < GIANT_BYTES, "the gateway read on for ever"
    assert answer.status == 413


def test_t04_a_cut_body_is_no_request(gateway, upstream, new_id):
    message = post(_body(1000), new_id)
    with RawClient(gateway.port) as client:
        client.send(message[:-1])

    assert gateway.line(new_id)["code"] == "client_gone"
    assert upstream.seen(new_id) == []
