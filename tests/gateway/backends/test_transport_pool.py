"""Pooled connections: kept when they can be used again, never when an answer could get mixed up."""

import os
from contextlib import ExitStack

import gevent
import pytest
from gevent.event import Event

from gateway.backends.transport import IDLE_POOL_SIZE
from gateway.kernel.clock import monotonic
from gateway.kernel.deadline import Deadline
from gateway.kernel.errors import UpstreamInvalid, UpstreamReset, UpstreamTimeout
from tests.fakes.upstream import LAST_CHUNK, End, answer, chunk, stream, stream_head

HEAD = b"POST /v1/x HTTP/1.1"
OK = answer(b"fine")
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def pool(upstream, make_pool):
    """A pool to the fake upstream, its clocks all at 5 s."""
    return make_pool(upstream.url())


@pytest.fixture
def ask(pool, wait):
    """A function that asks once and returns the open answer."""
    return lambda: pool.request(HEAD, b"{}", wait, Deadline.after(10.0))


@pytest.fixture
def fetch(ask):
    """A function that asks once and returns the body."""

    def whole() -> bytes:
        response = ask()
        try:
            return response.read(1_048_576)
        finally:
            response.close()

    return whole


def settle() -> None:
    """Let the other side act on what was sent so far."""
    for _ in range(5):
        gevent.sleep(0)


def test_a_connection_is_used_again(upstream, fetch):
    upstream.always(OK)

    bodies = [fetch() for _ in range(5)]

    assert bodies == [b"fine"] * 5
    assert len(upstream.peers) == 1


def test_the_most_recently_used_connection_comes_first(upstream, ask, fetch):
    upstream.always(OK)
    older, newer = ask(), ask()
    older.close()
    newer.close()

    fetch()

    assert upstream.requests[2].peer is upstream.requests[1].peer


@pytest.mark.parametrize(
    "steps",
    [
        (answer(b"fine", Connection="close"), Event()),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nfine", Event()),
        (b"HTTP/1.1 200 OK\r\n\r\nfine", End.HALF_CLOSE, Event()),
    ],
    ids=["Connection: close", "HTTP/1.0", "close-delimited"],
)
def test_a_connection_that_is_said_to_close_is_not_kept(upstream, fetch, steps):
    upstream.script(*steps)
    upstream.script(OK)

    fetch()
    fetch()

    assert len(upstream.peers) == 2
    assert upstream.peers[0].gone.wait(2)


def test_an_answer_that_was_not_read_to_its_end_costs_the_connection(upstream, ask):
    upstream.script(stream_head(), chunk(b"one"), Event())

    ask().close()

    assert upstream.peers[0].gone.wait(0.1)


def test_no_more_than_the_pools_size_is_kept(upstream, pool, ask):
    upstream.always(OK)
    answers = [ask() for _ in range(IDLE_POOL_SIZE + 2)]

    for response in answers:
        response.close()

    assert len(pool._idle) == IDLE_POOL_SIZE


def test_closing_the_pool_closes_its_connections(upstream, pool, fetch):
    upstream.script(OK)
    fetch()

    pool.close()

    assert upstream.peers[0].gone.wait(2)


def test_weeding_lets_go_what_the_upstream_has_let_go(upstream, pool, ask):
    upstream.script(OK, End.CLOSE)
    upstream.script(OK)
    first, second = ask(), ask()
    first.close()
    second.close()
    settle()

    pool.weed()

    (kept,) = pool._idle
    assert kept.is_alive()
    assert upstream.peers[1].gone.is_set() is False


def test_above_descriptor_1023_connections_are_used_again(upstream, pool, fetch):
    upstream.always(OK)
    with ExitStack() as opened:
        null = os.open(os.devnull, os.O_RDONLY)
        opened.callback(os.close, null)
        for _ in range(1_100):
            opened.callback(os.close, os.dup(null))

        bodies = [fetch() for _ in range(3)]
        descriptor = pool._idle[0]._sock.fileno()

    assert bodies == [b"fine"] * 3
    assert descriptor > 1_023
    assert len(upstream.peers) == 1


# --- ends that come late -------------------------------------------------------------------------


def test_a_last_chunk_that_came_after_the_rest_does_not_cost_the_connection(upstream, ask, fetch):
    upstream.script(stream_head(), chunk(DONE), LAST_CHUNK)
    upstream.script(OK)
    response = ask()
    next(response.blocks(5.0))
    settle()

    response.close()

    assert fetch() == b"fine"
    assert len(upstream.peers) == 1


def test_a_last_chunk_may_even_come_after_the_answer_was_closed(upstream, ask, fetch):
    late = Event()
    upstream.script(stream_head(), chunk(DONE), late, LAST_CHUNK)
    upstream.script(OK)
    response = ask()
    next(response.blocks(5.0))
    response.close(ending=True)
    late.set()
    settle()

    assert fetch() == b"fine"
    assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    "steps",
    [(Event(),), (End.CLOSE,), (End.RESET,), (b"zz\r\n", Event()), (LAST_CHUNK + OK, Event())],
    ids=["never", "closed", "reset", "garbage", "and another answer"],
)
def test_an_end_that_does_not_come_right_costs_the_connection(upstream, ask, fetch, steps):
    late = Event()
    upstream.script(stream_head(), chunk(DONE), late, *steps)
    upstream.script(OK)
    response = ask()
    next(response.blocks(5.0))
    response.close(ending=True)
    late.set()
    settle()

    assert fetch() == b"fine"
    assert len(upstream.peers) == 2


# --- stale connections ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", [End.CLOSE, End.HALF_CLOSE, End.RESET])
def test_a_connection_that_ended_while_idle_is_not_used(upstream, fetch, end):
    upstream.script(OK, end)
    upstream.script(OK)
    fetch()
    settle()

    assert fetch() == b"fine"
    assert len(upstream.peers) == 2
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("end", [End.CLOSE, End.HALF_CLOSE, End.RESET])
def test_a_connection_that_ends_before_any_byte_is_replaced_once(upstream, fetch, end):
    upstream.script(OK)
    upstream.script(end, Event())
    upstream.script(OK)
    fetch()

    assert fetch() == b"fine"
    assert len(upstream.peers) == 2
    assert upstream.requests[1].body == upstream.requests[2].body == b"{}"


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_it_is_replaced_once_and_not_twice(upstream, fetch, end):
    upstream.script(OK)
    upstream.always(end)
    fetch()

    with pytest.raises(UpstreamReset):
        fetch()

    assert len(upstream.requests) == 3


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_a_fresh_connection_is_not_replaced(upstream, fetch, end):
    upstream.always(end)

    with pytest.raises(UpstreamReset):
        fetch()

    assert len(upstream.requests) == 1


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_after_a_single_byte_nothing_is_sent_again(upstream, fetch, end):
    upstream.script(OK)
    upstream.script(b"H", 0.02, end)
    upstream.always(OK)
    fetch()

    with pytest.raises((UpstreamReset, UpstreamInvalid)):
        fetch()

    assert len(upstream.requests) == 2


def test_after_a_while_of_work_nothing_is_sent_again(upstream, pool, wait, fetch):
    """A stale connection shows itself at once; one that ends later may have done the work."""
    late, moved_s = Event(), [0.0]
    upstream.script(OK)
    upstream.script(late, End.CLOSE)
    upstream.always(OK)
    fetch()
    wait._clock = lambda: monotonic() + moved_s[0]

    asking = gevent.spawn(fetch)
    while len(upstream.requests) < 2:
        gevent.sleep(0)
    moved_s[0] = 2.0
    late.set()

    with pytest.raises(UpstreamReset):
        asking.get(timeout=10)
    assert len(upstream.requests) == 2


def test_after_a_timeout_nothing_is_sent_again(upstream, make_pool, wait):
    pool = make_pool(upstream.url(), first_byte_s=0.05)
    upstream.script(OK)
    upstream.script(Event())
    upstream.always(OK)
    pool.request(HEAD, b"{}", wait, Deadline.after(10.0)).close()

    with pytest.raises(UpstreamTimeout):
        pool.request(HEAD, b"{}", wait, Deadline.after(10.0))

    assert len(upstream.requests) == 2


# --- answers must not mix ------------------------------------------------------------------------


@pytest.mark.parametrize("first", [(OK,), (b"".join(stream(b"fine")),)], ids=["length", "chunks"])
def test_a_second_answer_in_the_same_bytes_is_never_joined_to_the_first(upstream, fetch, first):
    upstream.script(first[0] + answer(b"evil"))
    upstream.script(answer(b"mine"))

    with pytest.raises(UpstreamInvalid):
        fetch()

    assert fetch() == b"mine"
    assert len(upstream.peers) == 2


def test_a_second_answer_behind_the_body_is_never_joined_to_it(upstream, fetch):
    upstream.script(OK[:-4], 0, b"fine" + answer(b"evil"))
    upstream.script(answer(b"mine"))

    with pytest.raises(UpstreamInvalid):
        fetch()

    assert fetch() == b"mine"


@pytest.mark.parametrize("extra", [b"\r\n", b"x", answer(b"evil")])
def test_bytes_that_come_unasked_on_an_idle_connection_cost_it(upstream, fetch, extra):
    upstream.script(OK, 0.01, extra)
    upstream.script(answer(b"mine"))
    fetch()
    gevent.sleep(0.02)

    assert fetch() == b"mine"
    assert len(upstream.peers) == 2
