"""The worker at one connection: gunicorn's real parser, real sockets, a small application."""

import errno
import socket
import struct

import gevent
import gevent.socket
import orjson
import pytest
from gunicorn.config import Config

from gateway.web.stream import StreamCut
from gateway.web.worker import RESERVE, GatewayWorker, PlainConfig
from tests.fakes.sockets import connection

GET = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
WAIT_S = 10.0
"""A generous bound for what takes milliseconds: the box may be busy."""


class Notes:
    """gunicorn's logger, kept."""

    def __init__(self):
        self.errors = []

    def error(self, message, *arguments, **_):
        self.errors.append(message % arguments if arguments else message)

    exception = error

    def debug(self, message, *arguments, **_):
        """Nobody reads these."""


class House:
    """A small WSGI application: answers by path, and keeps what it was asked."""

    def __init__(self):
        self.environs = []
        self.closed = 0

    def __call__(self, environ, start_response):
        self.environs.append(environ)
        path = environ["PATH_INFO"]
        if path == "/breaks":
            raise RuntimeError("sk-canary-1234567890")
        if path == "/echo":
            body = environ["wsgi.input"].read()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return (body,)
        if path == "/last":
            environ["gateway.force_close"]()
        if path in {"/stream", "/cut", "/late"}:
            start_response("200 OK", [])
            return Blocks(
                self, {"/stream": None, "/cut": StreamCut(), "/late": RuntimeError("x")}[path]
            )
        start_response("200 OK", [("Content-Length", "5")])
        return (b"hello",)


class Blocks:
    """A stream of two blocks and an end."""

    def __init__(self, house, end):
        self.house = house
        self.script = [b"one", b"two", end]

    def __iter__(self):
        return self

    def __next__(self):
        step = self.script.pop(0)
        if isinstance(step, bytes):
            return step
        raise step or StopIteration

    def close(self):
        self.house.closed += 1


@pytest.fixture
def house():
    """The application behind the worker."""
    return House()


@pytest.fixture
def notes():
    """What the worker logs."""
    return Notes()


@pytest.fixture
def make_worker(house, notes):
    """A function that makes a worker with some of gunicorn's settings."""
    made = []

    def make(**settings):
        config = Config()
        for name, value in {"http_parser": "python", "keepalive": 8, **settings}.items():
            config.set(name, value)
        worker = GatewayWorker(1, 1, [], None, 30, config, notes)
        worker.wsgi = house
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.tmp.close()


@pytest.fixture
def worker(make_worker):
    """A worker with the usual settings."""
    return make_worker()


@pytest.fixture
def listener():
    """A listening socket, which is all that the worker wants to know of its port."""
    with gevent.socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def read_all(client):
    """Return everything up to the end of the connection."""
    blocks = []
    with gevent.Timeout(WAIT_S):
        while block := client.recv(65_536):
            blocks.append(block)
    return b"".join(blocks)


@pytest.fixture
def talk(worker, listener):
    """A function that sends bytes over a new connection and returns all that comes back."""

    def talked(*blocks, over=worker):
        with connection() as (server, plain):
            client = gevent.socket.socket(fileno=plain.detach())
            with client:
                serving = gevent.spawn(over.handle, listener, server, ("127.0.0.1", 5))
                for block in blocks:
                    client.sendall(block)
                    gevent.sleep(0)
                client.shutdown(gevent.socket.SHUT_WR)
                answer = read_all(client)
                serving.get(timeout=WAIT_S)
        return answer

    return talked


def error_of(answer):
    """Return status line and error of the only answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return head.split(b"\r\n")[0].decode(), orjson.loads(body)["error"]


def test_a_request_is_answered_and_the_connection_kept_for_the_next(talk, house):
    answer = talk(GET, GET)

    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert answer.count(b"\r\n\r\nhello") == 2
    assert answer.count(b"Connection: keep-alive") == 2
    assert len(house.environs) == 2


def test_two_requests_in_one_packet_are_answered_in_order(talk):
    echo = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"

    answer = talk(echo + GET)

    assert answer.index(b"abc") < answer.index(b"hello")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_caller_that_wants_to_close_is_closed(talk, house, version):
    request = f"GET / HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode()

    answer = talk(request + GET)

    assert b"Connection: close" in answer
    assert len(house.environs) == 1


def test_an_answer_that_hangs_up_is_the_last_on_its_connection(talk, house):
    answer = talk(b"GET /last HTTP/1.1\r\nHost: x\r\n\r\n" + GET)

    assert b"Connection: close" in answer
    assert answer.endswith(b"hello")
    assert len(house.environs) == 1


def test_a_head_request_gets_the_head_alone(talk):
    answer = talk(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")

    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_stream_is_sent_in_chunks_and_ended_properly(talk, house):
    answer = talk(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")

    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    assert house.closed == 1


def test_a_cut_stream_lacks_its_last_chunk_and_nothing_is_logged(talk, house, notes):
    answer = talk(b"GET /cut HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.endswith(b"3\r\ntwo\r\n")
    assert house.closed == 1
    assert notes.errors == []


def test_a_defect_inside_an_answer_is_a_cut_and_no_second_answer(talk, house, notes):
    answer = talk(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")

    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"3\r\ntwo\r\n")
    assert house.closed == 1
    assert notes.errors == ["Error inside an answer"]


def test_a_defect_before_an_answer_is_a_500_in_the_envelope(talk, notes):
    status, error = error_of(talk(b"GET /breaks HTTP/1.1\r\nHost: x\r\n\r\n"))

    assert status == "HTTP/1.1 500 Internal Server Error"
    assert error["code"] == "internal_error"
    assert "canary" not in str(error)
    assert notes.errors == ["Error handling request"]


@pytest.mark.T(3)
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", "400 Bad Request"),
        (
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "400 Bad Request",
        ),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "400 Bad Request"),
        (b"GET /%b HTTP/1.1\r\n\r\n" % (b"a" * 9_000), "414 URI Too Long"),
        (
            b"GET / HTTP/1.1\r\nA: %b\r\n\r\n" % (b"a" * 9_000),
            "431 Request Header Fields Too Large",
        ),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: br\r\n\r\n", "501 Not Implemented"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\n\r\n", "417 Expectation Failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:30].decode(),
)
def test_what_cannot_be_read_is_refused_in_the_envelope_and_the_connection_closed(
    talk, house, request_bytes, status
):
    line, error = error_of(talk(request_bytes + GET))

    assert line == f"HTTP/1.1 {status}"
    assert error["type"] == "invalid_request_error"
    assert error["request_id"].startswith("req-")
    assert house.environs == []


def test_a_caller_that_says_nothing_costs_nothing(talk, house, notes):
    assert talk() == b""
    assert talk(b"GET / HT") == b""
    assert (house.environs, notes.errors) == ([], [])


@pytest.mark.T(7)
def test_beyond_the_limit_a_connection_is_refused_at_once_instead_of_waiting_unseen(
    make_worker, listener, talk, house
):
    worker = make_worker(worker_connections=10)
    worker._open[listener.fileno()] = 10

    line, error = error_of(talk(GET, over=worker))

    assert line == "HTTP/1.1 503 Service Unavailable"
    assert error["code"] == "overloaded"
    assert house.environs == []
    assert worker.worker_connections == 10 + RESERVE


@pytest.mark.T(7)
def test_a_full_port_does_not_fill_the_other(make_worker, listener, talk):
    worker = make_worker(worker_connections=10)
    worker._open[listener.fileno() + 1] = 10

    assert b"200 OK" in talk(GET, over=worker)


@pytest.mark.parametrize(
    "request_bytes", [GET, b"nonsense\r\n\r\n", b"GET /breaks HTTP/1.1\r\nHost: x\r\n\r\n", b""]
)
def test_a_connection_is_counted_while_it_is_open_and_never_after(
    talk, worker, listener, request_bytes
):
    talk(request_bytes)

    assert worker._open == {listener.fileno(): 0}
    assert worker._idle == {}


def test_a_connection_that_is_silent_too_long_is_closed(make_worker, listener):
    worker = make_worker(keepalive=1)
    with connection() as (server, plain), gevent.socket.socket(fileno=plain.detach()) as client:
        serving = gevent.spawn(worker.handle, listener, server, ("127.0.0.1", 5))
        gevent.sleep(0)

        worker._close_idle()
        assert not serving.ready()
        worker._idle[server] -= 1.1
        worker._close_idle()

        assert read_all(client) == b""
        serving.get(timeout=WAIT_S)


def test_a_connection_whose_request_has_come_is_not_closed_though_nobody_has_read_it(
    make_worker, listener
):
    """Only this process was too busy; the caller would see its request cut."""
    worker = make_worker(keepalive=1)
    with connection() as (server, plain), gevent.socket.socket(fileno=plain.detach()) as client:
        serving = gevent.spawn(worker.handle, listener, server, ("127.0.0.1", 5))
        gevent.sleep(0)
        worker._idle[server] -= 1.1
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

        worker._close_idle()

        assert b"200 OK" in read_all(client)
        serving.get(timeout=WAIT_S)


# --- fairness ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "rest"),
    [
        ("Content-Length: 99999999999", b"x" * 1_000_000),
        ("Transfer-Encoding: chunked", b"1\r\nx\r\n" * 200_000),
    ],
    ids=["length", "chunks"],
)
def test_a_body_that_nobody_read_is_not_read_to_its_end(worker, listener, framing, rest):
    with connection() as (server, plain), gevent.socket.socket(fileno=plain.detach()) as client:
        serving = gevent.spawn(worker.handle, listener, server, ("127.0.0.1", 5))
        client.sendall(f"GET / HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode() + rest)

        answer = read_all(client)
        client.close()
        serving.get(timeout=WAIT_S)

    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.endswith(b"\r\n\r\nhello")


def test_a_broken_body_behind_an_answer_gets_no_second_answer(talk, house):
    answer = talk(b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n" + GET)

    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(house.environs) == 1


@pytest.fixture
def beside(worker, listener):
    """A function that serves a busy connection, asks for /other on one beside it, and tells
    how much was said to the busy one until then."""

    def serve(sent):
        with connection() as (server, busy), connection() as (second, other):
            busy.settimeout(WAIT_S)
            waiting = gevent.spawn(worker.handle, listener, second, ("127.0.0.1", 6))
            gevent.sleep(0)
            busy.sendall(sent)
            serving = gevent.spawn(worker.handle, listener, server, ("127.0.0.1", 5))
            other.sendall(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")

            gevent.socket.wait_read(other.fileno(), timeout=WAIT_S)

            busy.setblocking(False)
            try:
                said = busy.recv(1_048_576)
            except BlockingIOError:
                said = b""
            gevent.killall([serving, waiting])
        return said

    return serve


def test_many_requests_in_one_packet_let_the_others_run(beside, house):
    said = beside(GET * 1_000)

    assert said.count(b"200 OK") < 10
    assert [one["PATH_INFO"] for one in house.environs].count("/other") == 1


def test_a_body_in_chunks_of_one_byte_lets_the_others_run(beside):
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    said = beside(head + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n")

    assert said == b"", "its body is still being read"


def test_a_stopping_worker_answers_and_closes(talk, worker):
    worker.alive = False

    assert b"Connection: close" in talk(GET + GET)


def test_a_client_that_resets_is_no_error(worker, listener, notes):
    with connection() as (server, plain):
        serving = gevent.spawn(worker.handle, listener, server, ("127.0.0.1", 5))
        gevent.sleep(0)
        plain.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, struct.pack("ii", 1, 0))
        plain.close()
        serving.get(timeout=WAIT_S)

    assert notes.errors == []


@pytest.mark.parametrize(
    ("number", "logged"), [(errno.EPIPE, 0), (errno.ECONNRESET, 0), (None, 0), (errno.EIO, 1)]
)
def test_only_unusual_ends_of_a_connection_are_logged(worker, listener, notes, number, logged):
    place, other = socket.socketpair()

    class Broken:
        def fileno(self):
            return place.fileno()

        def settimeout(self, seconds):
            """Reading breaks, not this."""

        def recv(self, size):
            raise OSError(number, "x") if number else TimeoutError("x")

        def close(self):
            """Nothing to close."""

    with place, other:
        worker.handle(listener, Broken(), ("127.0.0.1", 5))

    assert len(notes.errors) == logged


def test_settings_are_plain_attributes_of_the_same_values():
    config = Config()
    config.set("limit_request_line", 77)

    plain = PlainConfig(config)

    assert plain.limit_request_line == 77
    assert plain.is_ssl == config.is_ssl
    assert {"limit_request_line", "http_parser", "keepalive"} <= set(vars(plain))
