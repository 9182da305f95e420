"""T05: bodies made to hurt are refused at once, and nobody else notices."""

import json
import threading
from typing import Self

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import Answer, RawClient, request
from tests.system.servers import Gateway, Upstream, post
from tests.system.sizes import size_of

TRIES = 3
ANSWER_S = 0.05
STALL_S = 0.1
MEMORY_BYTES = 50_000_000
_DEPTH = size_of("T05 nesting")
_OBJECTS = size_of("T05 objects")


def _with(member: bytes) -> bytes:
    return b'{"model":"ok","messages":[{"role":"user","content":"hi"}],' + member + b"}"


def _saying(content: bytes) -> bytes:
    return b'{"model":"ok","messages":[{"role":"user","content":' + content + b"}]}"


BOMBS = {
    "65 levels": _with(b'"x":' + b"[" * 65 + b"]" * 65),
    "65 levels of objects": _with(b'"x":' + b'{"a":' * 65 + b"1" + b"}" * 65),
    "65 levels in a message": _saying(b"[" * 65 + b"]" * 65),
    "5,000 levels": _with(b'"x":' + b"[" * 5_000 + b"]" * 5_000),
    "a hundred thousand levels": _with(b'"x":' + b"[" * _DEPTH + b"]" * _DEPTH),
    "levels that never close": b"[" * _DEPTH,
    "a million objects": _with(b'"x":[' + b"{}," * (_OBJECTS - 1) + b"{}]"),
    "a million keys": b"{" + b",".join(b'"k%d":1' % place for place in range(_OBJECTS // 4)) + b"}",
    "a number of 5,000 digits": _with(b'"max_tokens":' + b"9" * 5_000),
    "a number of 5,000 digits aside": _with(b'"seed":' + b"9" * 5_000),
    "1e400": _with(b'"temperature":1e400'),
    "NaN": _with(b'"temperature":NaN'),
    "Infinity": _with(b'"temperature":-Infinity'),
    "a member twice": _with(b'"model":"other"'),
    "UTF-16": _with(b'"x":1').decode().encode("utf-16"),
    "UTF-32": _with(b'"x":1').decode().encode("utf-32"),
    "a byte order mark": b"\xef\xbb\xbf" + _with(b'"x":1'),
    "a NUL": _saying(b'"a\x00b"'),
    "a lone surrogate": _saying(b'"\\ud800"'),
    "bytes that are not UTF-8": _saying(b'"\xff"'),
    "bytes that are not UTF-8 aside": _with(b'"user":"\xc3\x28"'),
    "an overlong letter": _saying(b'"\xc0\xaf"'),
    "text behind the end": _with(b'"x":1') + b"{}",
    "a comment": _with(b'"x":1 /* y */'),
    "a trailing comma": _with(b'"x":1,'),
    "single quotes": _with(b'"x":1').replace(b'"', b"'"),
    "nothing": b"",
    "blanks": b"   ",
    "a list": b"[" + _with(b'"x":1') + b"]",
    "a text": b'"hello"',
    "null": b"null",
}


class Heart:
    """Asks for /health on the other port all the while and keeps the longest wait."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self.longest_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        with RawClient(self._port) as client:
            while not self._over.wait(0.005):
                began_s = monotonic()
                assert client.ask(request("GET", "/health")).status == 200
                self.longest_s = max(self.longest_s, monotonic() - began_s)


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway({"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up")


@pytest.mark.parametrize("name", BOMBS)
def test_t05_a_bomb_is_refused_at_once_and_holds_up_nobody(gateway, upstream, new_id, name):
    """Timed three times, of which the best counts: others share the machine."""
    statuses = {400, 413} if len(BOMBS[name]) > 100_000 else {400}
    gateway.forget_peak()
    before = gateway.rss_bytes()

    tries = [_drop(gateway, BOMBS[name], new_id) for _ in range(TRIES)]

    for answer, _, _ in tries:
        assert answer.status in statuses, answer
        assert answer.error()["request_id"] == new_id
    assert min(took_s for _, took_s, _ in tries) <= ANSWER_S
    assert min(stall_s for _, _, stall_s in tries) <= STALL_S
    assert gateway.peak_bytes() - before <= MEMORY_BYTES
    assert upstream.seen(new_id) == []


def _drop(gateway: Gateway, bomb: bytes, request_id: str) -> tuple[Answer, float, float]:
    """Return the answer to a bomb, how long it took and how long others waited meanwhile."""
    with Heart(gateway.observability_port) as heart, RawClient(gateway.port) as client:
        client.send(post(bomb, request_id))
        sent_s = monotonic()
        answer = client.answer()
        took_s = monotonic() - sent_s
    return answer, took_s, heart.longest_s


def test_t05_64_levels_and_a_large_plain_text_are_no_bombs(gateway):
    deep = _with(b'"x":' + b"[" * 63 + b"]" * 63)
    long = json.dumps(
        {"model": "ok", "messages": [{"role": "user", "content": "x, [{" * 19_000}]}
    ).encode()

    answers = [gateway.ask(deep), gateway.ask(long)]

    assert [answer.status for answer in answers] == [200, 200]
