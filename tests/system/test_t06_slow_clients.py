"""T06: clients that drip requests or do not read answers are ended; others do not notice."""

import contextlib
import selectors

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import CHAT, Gateway, Upstream, p99, pause, post
from tests.system.sizes import size_of

BODY_S, WRITE_S = 3.0, 3.0
HEAD_S = 8.0
"""How long a request's head may take; gunicorn's keep-alive, which is no setting."""
LATE_S = 2.0
READER_LATE_S = 5.0
"""The promise is 35 s with the usual 30 s: buffers must fill before a reader is slow."""
FLOOR_S = 0.02
"""Differences below this are the machine's."""


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    # What the slow readers ask keeps their own upstream busy; the others have one of their own.
    return crew.gateway(
        {"up": upstream, "calm": crew.upstream()},
        GATEWAY_DEFAULT_UPSTREAM="up",
        GATEWAY_BODY_TIMEOUT_SECONDS=BODY_S,
        GATEWAY_WRITE_TIMEOUT_SECONDS=WRITE_S,
        GATEWAY_WORKER_CONNECTIONS=5_000,
        GATEWAY_MAX_IN_FLIGHT=4_000,
    )


_TURNS = 10
"""Attackers do not march in step: their bytes come spread over time."""


class Dripping:
    """Connections that send a byte now and then, and the moment each was ended."""

    def __init__(self, clients: list[RawClient]) -> None:
        self._began_s = monotonic()
        self._turn = 0
        self._selector = selectors.DefaultSelector()
        self.open = dict.fromkeys(clients, 0.0)
        self.ended_s: list[float] = []
        for client in clients:
            client.sock.setblocking(False)
            self._selector.register(client.sock, selectors.EVENT_READ, client)

    def drip(self) -> None:
        """Send one byte on each tenth connection, and see which were ended."""
        for key, _ in self._selector.select(0):
            with contextlib.suppress(OSError):
                while key.fileobj.recv(65_536):
                    pass
                self._end(key.data)
        self._turn = (self._turn + 1) % _TURNS
        for client in list(self.open)[self._turn :: _TURNS]:
            try:
                client.sock.send(b"x")
            except BlockingIOError:
                continue
            except OSError:
                self._end(client)

    def _end(self, client: RawClient) -> None:
        if client in self.open:
            del self.open[client]
            self._selector.unregister(client.sock)
            client.close()
            self.ended_s.append(monotonic() - self._began_s)


def _normal(gateway: Gateway, client: RawClient) -> float:
    began_s = monotonic()
    answer = client.ask(post(chat("ok"), X_Backend="calm"))
    assert answer.status == 200
    return monotonic() - began_s


def _round(gateway: Gateway, client: RawClient) -> list[float]:
    times_s = [_normal(gateway, client) for _ in range(8)]
    pause(0.1)
    return times_s


def test_t06_slow_clients_are_ended_and_hold_up_nobody(gateway, upstream, new_id, record_property):
    normal = RawClient(gateway.port)
    quiet_s = []
    for _ in range(size_of("T06 quiet rounds")):
        quiet_s += _round(gateway, normal)
    heads = [RawClient(gateway.port) for _ in range(size_of("T06 slow headers"))]
    for client in heads:
        client.send(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nX-Slow: ".encode())
    bodies = [RawClient(gateway.port) for _ in range(size_of("T06 slow bodies"))]
    for client in bodies:
        client.send(post(None, Content_Length="5000") + b'{"model":"')
    readers = [
        RawClient(gateway.port, receive_bytes=4096) for _ in range(size_of("T06 slow readers"))
    ]
    for place, client in enumerate(readers):
        client.send(post(chat("burst", stream=True), f"{new_id}-{place}"))
    began_s = monotonic()

    slow_heads, slow_bodies = Dripping(heads), Dripping(bodies)
    busy_s = []
    while monotonic() - began_s < size_of("T06 seconds"):
        slow_heads.drip()
        slow_bodies.drip()
        busy_s += _round(gateway, normal)

    normal.close()
    record_property(
        "p99_ms quiet, busy", (round(p99(quiet_s) * 1000, 1), round(p99(busy_s) * 1000, 1))
    )
    assert not slow_heads.open
    assert not slow_bodies.open
    assert max(slow_heads.ended_s) <= HEAD_S + LATE_S
    assert min(slow_bodies.ended_s) >= BODY_S - 0.5
    assert max(slow_bodies.ended_s) <= BODY_S + LATE_S
    assert p99(busy_s) < 2 * p99(quiet_s) + FLOOR_S
    for place, client in enumerate(readers):
        record = upstream.ended(f"{new_id}-{place}")
        assert record["closed_s"] - began_s <= WRITE_S + READER_LATE_S
        client.close()


def test_t06_a_slow_body_is_told_why(gateway):
    with RawClient(gateway.port) as client:
        client.send(post(None, Content_Length="5000") + b"{")
        began_s = monotonic()

        answer = client.answer()

    assert BODY_S - 0.2 <= monotonic() - began_s <= BODY_S + 1
    assert (answer.status, answer.error()["code"]) == (400, "request_timeout")
    assert answer.header("connection") == "close"


def test_t06_a_chunked_body_has_the_same_deadline(gateway):
    with RawClient(gateway.port) as client:
        client.send(post(None, Transfer_Encoding="chunked") + b"5\r\nhel")

        answer = client.answer()

    assert answer.error()["code"] == "request_timeout"


def test_t06_a_pause_inside_a_body_is_no_offence(gateway):
    whole = post(chat("ok"))
    with RawClient(gateway.port) as client:
        client.send(whole[:-20])
        pause(BODY_S - 1)
        client.send(whole[-20:])

        assert client.answer().status == 200
