"""No caller has the process to itself, and what it does is done once: the others are answered."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import KEY, Gateway, Upstream, pause, post, wait_until
from tests.system.sizes import size_of

SECONDS = size_of("starvation seconds")
REQUESTS = size_of("starvation requests")
BODY_S = 2.0
KEEPALIVE_S = 8.0
"""How long a connection may idle; gunicorn's keep-alive, which is no setting."""
WORST_S = 0.5
CHUNKS = "Transfer-Encoding: chunked"
ENDLESS = "Content-Length: 99999999999"
BYTEWISE = b"1\r\nx\r\n" * 10_000


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up", GATEWAY_BODY_TIMEOUT_SECONDS=BODY_S
    )


class Watch(threading.Thread):
    """Asks for health all the time, each time on a new connection.

    Attributes:
        worst_s: The longest wait so far.
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(daemon=True)
        self._gateway = gateway
        self._ended = False
        self.worst_s = 0.0
        self.asked = 0

    def run(self) -> None:
        """Ask until told to stop."""
        while not self._ended:
            began_s = monotonic()
            with contextlib.suppress(OSError):
                self._gateway.look("/health", self._gateway.port)
            self.worst_s = max(self.worst_s, monotonic() - began_s)
            self.asked += 1
            pause(0.01)

    def end(self) -> None:
        """Stop after the last answer."""
        self._ended = True
        self.join()


@pytest.fixture
def watch(gateway) -> Iterator[Watch]:
    """Watches how long the others wait; too long fails the test."""
    watch = Watch(gateway)
    watch.start()
    yield watch
    watch.end()
    assert watch.asked
    assert watch.worst_s < WORST_S


def _head(method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


def _pour(client: RawClient, block: bytes, seconds: float) -> float:
    """Send a block again and again; return how long the other side took it."""
    began_s = monotonic()
    client.sock.settimeout(1.0)
    with contextlib.suppress(OSError):
        while monotonic() - began_s < seconds:
            client.sock.send(block)
    return monotonic() - began_s


@pytest.mark.parametrize(
    ("head", "block"),
    [
        (_head("GET", "/health", ENDLESS), b"x" * 1_048_576),
        (_head("POST", "/v1/chat/completions", ENDLESS), b"x" * 1_048_576),
        (_head("GET", "/health", CHUNKS), b"100000\r\n%b\r\n" % (b"x" * 1_048_576)),
        (_head("GET", "/health", CHUNKS), BYTEWISE),
        (_head("POST", "/v1/chat/completions", CHUNKS), BYTEWISE),
    ],
    ids=["a length", "a length, no key", "chunks", "small chunks", "small chunks, no key"],
)
def test_an_endless_body_that_nobody_reads_is_cut_and_starves_nobody(gateway, watch, head, block):
    with RawClient(gateway.port) as client:
        client.send(head)

        took_s = _pour(client, block, SECONDS + 3)

    assert took_s < SECONDS


def test_a_body_in_chunks_of_one_byte_is_ended_in_time_and_starves_nobody(gateway, watch):
    ended = threading.Event()
    with RawClient(gateway.port, timeout_s=BODY_S + 5) as client:
        client.send(_head("POST", "/v1/chat/completions", CHUNKS, f"Authorization: Bearer {KEY}"))
        began_s = monotonic()

        def pour() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    client.sock.sendall(BYTEWISE)

        pouring = threading.Thread(target=pour)
        pouring.start()
        try:
            answer = client.answer()
            took_s = monotonic() - began_s
        finally:
            ended.set()
            client.sock.shutdown(2)
            pouring.join()

    assert (answer.status, answer.error()["code"]) == (400, "request_timeout")
    assert BODY_S <= took_s < BODY_S + 1.5


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (_head("GET", "/health"), b"200 OK"),
        (_head("POST", "/v1/chat/completions", "Content-Length: 0"), b"401 Unauthorized"),
    ],
    ids=["health", "no key"],
)
def test_thousands_of_requests_in_one_go_are_all_answered_and_starve_nobody(
    gateway, watch, one, status
):
    with RawClient(gateway.port, timeout_s=60) as client:
        sending = threading.Thread(target=client.send, args=(one * REQUESTS,))
        sending.start()
        said, parts = 0, []
        while said < REQUESTS:
            parts.append(client.sock.recv(65_536))
            assert parts[-1], "cut"
            said += parts[-1].count(b"HTTP/1.1 ")
        sending.join()

    assert said == REQUESTS
    assert b"".join(parts).count(b"HTTP/1.1 " + status) >= REQUESTS - 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_requests_whose_answers_nobody_reads_starve_nobody(gateway, watch, method):
    many = _head(method, "/health", "Expect: 100-continue", "Content-Length: 1") + b"x"
    ends_s = monotonic() + SECONDS
    with contextlib.ExitStack() as opened:
        clients = [RawClient(gateway.port, receive_bytes=4_096) for _ in range(40)]
        for client in clients:
            opened.callback(client.reset)
            client.sock.setblocking(False)

        while monotonic() < ends_s:
            for client in clients:
                with contextlib.suppress(OSError):
                    client.sock.send(many * 500)
            pause(0.02)


def test_a_request_that_came_while_the_process_was_held_up_is_answered(gateway, new_id):
    """Its connection had been idle almost as long as it may; only we were too busy to see it."""
    [worker] = gateway.workers()
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(RawClient(gateway.port)) for _ in range(8)]
        for client in clients:
            assert client.ask(post(chat("ok"))).status == 200
        pause(KEEPALIVE_S - 0.8)

        os.kill(worker, signal.SIGSTOP)
        try:
            for place, client in enumerate(clients):
                client.send(post(chat("ttft_0.5"), f"{new_id}-{place}"))
            pause(1.6)
        finally:
            os.kill(worker, signal.SIGCONT)
        answers = [client.answer() for client in clients]

    assert [answer.status for answer in answers] == [200] * len(clients)
    for place in range(len(clients)):
        assert gateway.line(f"{new_id}-{place}")["status"] == 200


def test_what_an_upstream_has_worked_on_is_not_sent_again(gateway, upstream, new_id):
    """The connection was pooled, but it cannot have been stale for two seconds."""
    assert gateway.ask(chat("ok")).status == 200

    answer = gateway.ask(chat("works_and_closes_2"), X_Request_Id=new_id)

    assert (answer.status, answer.error()["code"]) == (502, "upstream_reset")
    [record] = upstream.seen(new_id)
    assert record["place"] > 0, "it came on a pooled connection"


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_without_its_body_does_not_hold_up_the_next_target(crew, new_id, stream):
    bad, good = crew.upstream("--always", "bodiless_refusal"), crew.upstream()
    gateway = crew.gateway({"bad": bad, "good": good})
    wait_until(lambda: gateway.look("/health/upstreams")[0] == 200, 10, "both are known")
    began_s = monotonic()

    answer = gateway.ask(chat("ok", stream=stream), X_Request_Id=new_id)

    assert (answer.status, answer.header("x-backend-used")) == (200, "good")
    assert monotonic() - began_s < 3.5
    assert len(bad.seen(new_id)) == len(good.seen(new_id)) == 1
