"""The door to the upstreams: what goes over the wire, what comes back, and when it is given up."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import gevent
import pytest
from gevent.event import Event

from gateway.backends.connection import tls_context
from gateway.backends.resolver import Resolver
from gateway.backends.settings import BackendSettings
from gateway.backends.transport import ERROR_LIMIT_BYTES, HEAD_LIMIT_BYTES, Pool, Timeouts
from gateway.kernel.clock import monotonic
from gateway.kernel.deadline import Deadline
from gateway.kernel.errors import (
    ClientGone,
    UpstreamCut,
    UpstreamInvalid,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.web.wait import Wait
from tests.fakes.upstream import LAST_CHUNK, End, FakeUpstream, answer, chunk, stream, stream_head

HEAD = b"POST /v1/x HTTP/1.1\r\nX-Test: 1"
OK = answer(b"fine")
LIMIT = 1_048_576


@pytest.fixture
def pool(upstream, make_pool):
    """A pool to the fake upstream, its clocks all at 5 s."""
    return make_pool(upstream.url())


def ask(pool: Pool, wait: Wait, body: bytes = b"{}", total_s: float = 10.0, *, patient=False):
    return pool.request(HEAD, body, wait, Deadline.after(total_s), patient=patient)


def fetch(pool: Pool, wait: Wait, limit: int = LIMIT, total_s: float = 10.0) -> bytes:
    """Return the whole body of one answer."""
    response = ask(pool, wait, total_s=total_s)
    try:
        return response.read(limit)
    finally:
        response.close()


def listen(pool: Pool, wait: Wait, beat_s: float = 5.0) -> list[bytes]:
    """Return the blocks of one answer."""
    response = ask(pool, wait)
    try:
        return list(response.blocks(beat_s))
    finally:
        response.close()


# --- requests ------------------------------------------------------------------------------------


def test_a_request_goes_out_as_it_was_made_with_host_and_length(upstream, pool, wait):
    upstream.script(OK)

    ask(pool, wait, b'{"a":1}').close()

    (request,) = upstream.requests
    assert request.head == (
        b"POST /v1/x HTTP/1.1\r\nX-Test: 1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 7"
        % upstream.port
    )
    assert request.body == b'{"a":1}'
    assert request.behind == b""


def test_a_user_in_the_address_is_not_told_as_host(upstream, make_pool, wait):
    upstream.script(OK)

    fetch(make_pool(upstream.url(host="me:secret@127.0.0.1")), wait)

    assert b"secret" not in upstream.requests[0].head


def test_a_request_larger_than_the_sockets_buffers_arrives_whole(upstream, pool, wait):
    body = os.urandom(3_000_000)
    upstream.script(OK)

    ask(pool, wait, body).close()

    assert upstream.requests[0].body == body


def test_small_writes_are_not_held_back(upstream, pool, wait):
    upstream.script(OK)

    fetch(pool, wait)

    (kept,) = pool._idle
    assert kept._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# --- bodies --------------------------------------------------------------------------------------

WIRES = {
    "with a length": answer(b"hello there"),
    "in chunks": b"".join(stream(b"hel", b"lo ", b"there")),
    "in chunks with trailers": stream_head() + chunk(b"hello there") + b"0\r\nX-Sum: 1\r\n\r\n",
    "after a 100 and a 103": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
    b"Content-Length: 9\r\nLink: x\r\n\r\n" + answer(b"hello there"),
}


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())
def test_an_answer_may_be_cut_at_every_byte(upstream, pool, wait, wire):
    for place in range(1, len(wire)):
        upstream.script(wire[:place], wire[place:])

    bodies = {fetch(pool, wait) for _ in range(1, len(wire))}

    assert bodies == {b"hello there"}
    assert len(upstream.peers) == 1


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES.keys())
def test_an_answer_may_come_byte_by_byte(upstream, pool, wait, wire):
    upstream.script(*(wire[place : place + 1] for place in range(len(wire))))

    assert fetch(pool, wait) == b"hello there"


def test_the_heads_of_interim_answers_are_forgotten(upstream, pool, wait):
    upstream.script(b"HTTP/1.1 102 Processing\r\nRetry-After: 9\r\n\r\n", OK)

    response = ask(pool, wait)

    assert response.status == 200
    assert "retry-after" not in response.headers
    response.close()


def test_headers_are_found_by_their_lower_case_names(upstream, pool, wait):
    upstream.script(
        b"HTTP/1.1 429 Slow\r\nRETRY-After:  7 \r\nX-Empty:\r\nContent-Length: 0\r\n\r\n"
    )

    response = ask(pool, wait)

    assert response.status == 429
    assert response.headers == {"retry-after": "7", "x-empty": "", "content-length": "0"}
    response.close()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_body_may_end_with_its_connection(upstream, pool, wait, version):
    head = b"HTTP/%s 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" % version
    upstream.script(head, b"hello ", b"there", End.CLOSE)

    assert fetch(pool, wait) == b"hello there"


def test_an_answer_without_a_body_is_complete_at_once(upstream, pool, wait):
    upstream.script(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert fetch(pool, wait) == b""


def test_blocks_come_as_they_are_sent_and_silence_as_empty_blocks(upstream, pool, wait):
    go_on = Event()
    upstream.script(stream_head(), chunk(b"one"), go_on, chunk(b"two"), LAST_CHUNK)
    response = ask(pool, wait)
    blocks = response.blocks(0.01)

    heard = [next(blocks), next(blocks)]
    go_on.set()
    heard += [block for block in blocks if block]

    assert heard == [b"one", b"", b"two"]
    response.close()


def test_a_stream_is_told_of_each_beat_until_its_head_is_there(upstream, pool, wait):
    go_on = Event()
    upstream.script(go_on, OK)
    opening = pool.opening(HEAD, b"{}", wait, Deadline.after(10.0), 0.01)

    beats = [next(opening), next(opening)]
    go_on.set()
    with pytest.raises(StopIteration) as end:
        next(opening)

    response = end.value.value
    assert beats == [b"", b""]
    assert response.read(LIMIT) == b"fine"
    response.close()


def test_a_stream_that_is_left_before_its_head_is_cancelled(upstream, pool, wait):
    upstream.script(Event())
    opening = pool.opening(HEAD, b"{}", wait, Deadline.after(10.0), 0.01)
    next(opening)

    opening.close()

    assert upstream.peers[0].gone.wait(0.1)


@pytest.mark.parametrize(
    "steps",
    [(answer(b"x" * 2_000),), stream(b"x" * 2_000),
     (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000, Event())],
    ids=["with a length", "in chunks", "without an end"],
)  # fmt: skip
def test_a_body_over_the_cap_is_refused(upstream, pool, wait, steps):
    upstream.script(*steps)

    with pytest.raises(UpstreamInvalid, match="larger than 1000 bytes"):
        fetch(pool, wait, limit=1_000)


def test_a_body_of_just_the_cap_is_taken(upstream, pool, wait):
    upstream.script(answer(b"x" * 1_000))

    assert len(fetch(pool, wait, limit=1_000)) == 1_000


CUT = {
    "with a length": (answer(b"hello there")[:-3], End.CLOSE),
    "in chunks": (stream_head(), chunk(b"hello"), End.CLOSE),
    "inside a chunk": (stream_head(), chunk(b"hello")[:-4], End.CLOSE),
}


@pytest.mark.parametrize("steps", CUT.values(), ids=CUT.keys())
def test_a_whole_answer_that_is_cut_is_never_taken_for_one(upstream, pool, wait, steps):
    upstream.script(*steps)

    with pytest.raises(UpstreamCut):
        fetch(pool, wait)


@pytest.mark.parametrize("steps", CUT.values(), ids=CUT.keys())
def test_the_blocks_of_a_cut_stream_just_end(upstream, pool, wait, steps):
    upstream.script(*steps)

    assert b"".join(listen(pool, wait)).startswith(b"hel")


def test_a_connection_reset_inside_the_body_is_a_cut_answer(upstream, pool, wait):
    heard = Event()
    upstream.script(stream_head(), chunk(b"one"), heard, End.RESET)
    response = ask(pool, wait)
    blocks = response.blocks(5.0)
    first = next(blocks)
    heard.set()

    with pytest.raises(UpstreamCut):
        next(blocks)

    assert first == b"one"
    response.close()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((answer(b"why", 500),), b"why"),
        ((answer(b"x" * (ERROR_LIMIT_BYTES + 1), 500),), b""),
        ((answer(b"why", 500, Content_Encoding="gzip"),), b""),
        ((answer(b"why not", 500)[:-3], End.CLOSE), b""),
        ((answer(b"why not", 500)[:-3], End.RESET), b""),
    ],
    ids=["whole", "too large", "compressed", "cut", "reset"],
)
def test_a_refusals_body_is_read_as_far_as_it_is_any_good(upstream, pool, wait, steps, said):
    upstream.script(*steps)
    response = ask(pool, wait)

    assert (response.status, response.read_refusal()) == (500, said)
    response.close()


def test_a_refusal_whose_body_does_not_come_holds_up_the_next_target_for_2_seconds_only(
    upstream, pool, wait
):
    upstream.script(answer(b"why not", 503)[:-3], Event())
    response = ask(pool, wait)
    reading = gevent.spawn(response.read_refusal)
    gevent.sleep(0)

    later_s = monotonic() + 2.1
    wait._clock = lambda: later_s
    gevent.get_hub().loop.run_callback(wait.tick, later_s)

    assert reading.get(timeout=1.5) == b""
    response.close()


def test_a_refusal_that_never_tells_why_is_not_waited_for(upstream, pool, wait):
    upstream.script(answer(b"why", 500)[:-3], Event())
    response = ask(pool, wait, total_s=0.05, patient=True)

    assert (response.status, response.read_refusal()) == (500, b"")
    response.close()


def test_a_closed_answer_cannot_be_read(upstream, pool, wait):
    upstream.script(OK)
    response = ask(pool, wait)
    response.close()
    response.close()

    with pytest.raises(RuntimeError):
        response.read(LIMIT)


# --- what is not HTTP ----------------------------------------------------------------------------

GARBAGE = {
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46", "HTTP/0.9": b"hello there\n",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n", "a request": b"GET / HTTP/1.1\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nfine",
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\nfine",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nhello\r\n\r\n",
    "a zero byte in a header": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("wire", GARBAGE.values(), ids=GARBAGE.keys())
def test_what_is_not_http_is_an_invalid_answer(upstream, pool, wait, wire):
    upstream.script(wire, Event())

    with pytest.raises(UpstreamInvalid):
        ask(pool, wait)

    assert upstream.peers[0].gone.wait(2)


def test_chunks_that_are_none_are_an_invalid_answer(upstream, pool, wait):
    upstream.script(stream_head(), b"zz\r\nhello\r\n", Event())

    with pytest.raises(UpstreamInvalid):
        fetch(pool, wait)


@pytest.mark.parametrize(
    ("wire", "kind"),
    [(b"", UpstreamReset), (b"HTTP/1.1 200 O", UpstreamInvalid),
     (b"HTTP/1.1 200 OK\r\nX: y\r\n", UpstreamInvalid)],
    ids=["nothing", "half a status line", "half a head"],
)  # fmt: skip
@pytest.mark.parametrize("end", [End.CLOSE, End.HALF_CLOSE])
def test_an_answer_that_ends_inside_its_head_is_no_answer(upstream, pool, wait, wire, kind, end):
    upstream.script(wire, end, Event())

    with pytest.raises(kind):
        ask(pool, wait)


@pytest.mark.parametrize("size", [HEAD_LIMIT_BYTES + 1, 10_000_000])
def test_a_head_over_its_cap_is_refused_before_it_is_read(upstream, pool, wait, size):
    upstream.script(b"HTTP/1.1 200 OK\r\nX-Bomb: " + b"b" * size + b"\r\n\r\n")

    with pytest.raises(UpstreamInvalid, match="larger than 65536 bytes"):
        ask(pool, wait)

    assert upstream.peers[0].gone.wait(2)


@pytest.mark.parametrize(
    "piece", [b"X-%d: y\r\n", b"HTTP/1.1 102 Processing\r\nX-%d: y\r\n\r\n"], ids=["rows", "heads"]
)
def test_many_small_headers_are_capped_too(upstream, pool, wait, piece):
    start = b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    upstream.script(start + b"".join(piece % place for place in range(9_000)), Event())

    with pytest.raises(UpstreamInvalid, match="larger than 65536 bytes"):
        ask(pool, wait)


def test_a_head_below_its_cap_is_taken(upstream, pool, wait):
    upstream.script(answer(b"fine", X_Long="y" * 60_000))

    assert fetch(pool, wait) == b"fine"


# --- the four clocks -----------------------------------------------------------------------------


@contextmanager
def a_full_backlog() -> Iterator[int]:
    """A port on which nobody answers: its queue of waiting connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            assert filler.connect_ex(listener.getsockname()) in {0, errno.EINPROGRESS}
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_a_connection_that_nobody_takes_is_given_up(make_pool, wait):
    with a_full_backlog() as port, pytest.raises(UpstreamTimeout) as caught:
        ask(make_pool(f"http://127.0.0.1:{port}", connect_s=0.05), wait)

    assert caught.value.code == "upstream_connect_timeout"


@pytest.mark.parametrize(
    "steps", [(), (b"HTTP/1.1 200",), (stream_head(),), (stream_head(), b"5")],
    ids=["silence", "half a head", "only a head", "only the size of a chunk"],
)  # fmt: skip
def test_a_first_byte_that_does_not_come_is_given_up(upstream, make_pool, wait, steps):
    upstream.script(*steps, Event())
    pool = make_pool(upstream.url(), first_byte_s=0.05)

    with pytest.raises(UpstreamTimeout) as caught:
        listen(pool, wait)

    assert caught.value.code == "upstream_first_token_timeout"
    assert upstream.peers[0].gone.wait(2)


def test_an_answer_that_falls_silent_is_given_up(upstream, make_pool, wait):
    upstream.script(stream_head(), chunk(b"one"), Event())
    pool = make_pool(upstream.url(), idle_s=0.05)

    with pytest.raises(UpstreamTimeout) as caught:
        listen(pool, wait)

    assert caught.value.code == "upstream_stalled"
    assert upstream.peers[0].gone.wait(2)


@pytest.mark.parametrize("steps", [(), (stream_head(), chunk(b"one"))], ids=["head", "body"])
def test_the_total_time_bounds_everything(upstream, pool, wait, steps):
    upstream.script(*steps, Event())

    with pytest.raises(UpstreamTimeout) as caught:
        fetch(pool, wait, total_s=0.05)

    assert caught.value.code == "upstream_timeout"


def test_a_patient_request_waits_for_the_first_byte_as_long_as_the_total_allows(
    upstream, make_pool, wait
):
    upstream.script(0.15, OK)
    pool = make_pool(upstream.url(), first_byte_s=0.01)

    response = ask(pool, wait, patient=True)

    assert response.read(LIMIT) == b"fine"
    response.close()


def test_an_upstream_that_does_not_take_the_request_is_given_up(make_pool, wait):
    upstream = FakeUpstream(deaf=True)
    pool = make_pool(upstream.url(), first_byte_s=0.05)

    with pytest.raises(UpstreamTimeout):
        ask(pool, wait, b"x" * 16_000_000)

    upstream.close()


def test_the_house_defaults_are_read_from_the_settings():
    assert Timeouts.of(BackendSettings()) == Timeouts(2.0, 60.0, 30.0)


# --- callers that leave --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps", [(), (stream_head(),), (stream_head(), chunk(b"one"))], ids=["head", "body", "middle"]
)
def test_a_caller_that_leaves_ends_the_exchange_at_once(upstream, pool, steps):
    ours, theirs = socket.socketpair()
    wait = Wait(ours)
    upstream.script(*steps, Event())
    leaving = gevent.spawn_later(0.02, theirs.close)

    began_s = perf_counter()
    with pytest.raises(ClientGone):
        listen(pool, wait)

    assert perf_counter() - began_s < 0.12
    assert upstream.peers[0].gone.wait(0.1)
    leaving.join()
    wait.close()
    ours.close()


def test_a_caller_that_leaves_while_connecting_is_noticed(make_pool):
    ours, theirs = socket.socketpair()
    wait = Wait(ours)
    theirs.close()

    with a_full_backlog() as port, pytest.raises(ClientGone):
        ask(make_pool(f"http://127.0.0.1:{port}"), wait)

    wait.close()
    ours.close()


# --- connecting ----------------------------------------------------------------------------------


def a_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def a_pool_to(*addresses: tuple[str, int]) -> Pool:
    """Return a pool whose name has these addresses."""
    found = [(socket.AF_INET, address) for address in addresses]
    return Pool("http://model.test", Timeouts(5.0, 5.0, 5.0), Resolver(lambda *_: found))


@pytest.mark.parametrize(
    ("url", "port", "secured"),
    [("http://h", 80, False), ("https://h", 443, True), ("https://h:8443", 8443, True),
     ("http://h:443", 443, False)],
)  # fmt: skip
def test_the_scheme_decides_on_the_port_and_on_tls(make_pool, url, port, secured):
    tls = tls_context(BackendSettings())

    pool = make_pool(url, tls=tls)

    assert pool._port == port
    assert (pool._tls is tls) is secured


def test_a_port_where_nobody_listens_is_unreachable(wait):
    with pytest.raises(UpstreamUnreachable) as caught:
        ask(a_pool_to(("127.0.0.1", a_free_port())), wait)

    assert caught.value.retry_after_s == 1
    assert "127.0.0.1" not in caught.value.message


def test_an_address_that_fails_at_once_is_unreachable(wait):
    with pytest.raises(UpstreamUnreachable):
        ask(a_pool_to(("255.255.255.255", 80)), wait)


def test_a_name_without_an_address_is_unreachable(wait):
    with pytest.raises(UpstreamUnreachable):
        ask(a_pool_to(), wait)


def test_the_next_address_is_tried_when_one_refuses(upstream, wait):
    upstream.script(OK)
    pool = a_pool_to(("127.0.0.1", a_free_port()), ("127.0.0.1", upstream.port))

    assert fetch(pool, wait) == b"fine"
    pool.close()
