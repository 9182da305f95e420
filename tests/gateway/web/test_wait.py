"""The one place where a request sleeps, on real sockets and the real hub."""

import time

import gevent
import pytest

from gateway.kernel.clock import monotonic
from gateway.kernel.errors import ClientGone, Draining
from gateway.web import wait as module
from gateway.web.wait import SWEEP_S, Arrival, Wait, drain_in, is_draining
from tests.fakes.sockets import connection, reset

READ = 1
SOON_S = 2.0
"""A generous bound for what takes a millisecond: the box may be busy."""


@pytest.fixture(autouse=True)
def undrained():
    """No test leaves the process draining, or a sleeper behind."""
    yield
    sweeper = module._sweeper_of(gevent.get_hub())
    sweeper.drain_at_s = float("inf")
    assert sweeper.waiting == set()
    assert sweeper.arriving == set()


def later(action, *arguments):
    """Do something as soon as everybody else sleeps."""
    return gevent.spawn_later(0.01, action, *arguments)


def readable(sock):
    """Return a watcher that fires when a socket can be read."""
    return gevent.get_hub().loop.io(sock.fileno(), READ)


@pytest.fixture
def upstream():
    """A connection to an upstream that says nothing until the test writes to its far end."""
    with connection() as (near, far):
        watcher = readable(near)
        yield watcher, far
        watcher.close()


def test_a_watcher_that_fires_ends_the_sleep(upstream):
    watcher, far = upstream
    later(far.send, b"x")

    assert Wait().until(watcher, monotonic() + SOON_S) is True


def test_what_is_there_already_ends_the_sleep_at_once(upstream):
    watcher, far = upstream
    far.send(b"x")

    assert Wait().until(watcher, monotonic() + SOON_S) is True


def test_the_sleep_ends_when_its_moment_comes_and_not_before(upstream):
    watcher, _ = upstream
    wait, began = Wait(), monotonic()

    assert wait.until(watcher, began + 0.15) is False
    assert 0.15 <= monotonic() - began < 0.15 + SWEEP_S + SOON_S


def test_a_moment_that_has_passed_is_noticed_at_the_next_sweep(upstream):
    watcher, _ = upstream

    assert Wait().until(watcher, 0.0) is False


@pytest.mark.T(62)
@pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["FIN", "RST"])
def test_a_caller_that_leaves_ends_the_sleep_within_100_milliseconds(upstream, leave):
    watcher, _ = upstream
    with connection() as (server, client):
        wait = Wait(server)
        left = []
        later(lambda: (left.append(time.perf_counter()), leave(client)))

        with pytest.raises(ClientGone):
            wait.until(watcher, monotonic() + SOON_S)
        took = time.perf_counter() - left[0]
        wait.close()

    assert took < 0.1


def test_a_caller_that_left_while_nobody_slept_is_noticed_at_the_next_sleep(upstream):
    watcher, _ = upstream
    with connection() as (server, client):
        wait = Wait(server)
        assert not wait.gone
        client.close()
        gevent.sleep(0.01)

        assert wait.gone
        with pytest.raises(ClientGone):
            wait.until(watcher, monotonic() + SOON_S)
        wait.close()


def test_a_half_closed_connection_counts_as_left(upstream):
    watcher, _ = upstream
    with connection() as (server, client):
        wait = Wait(server)
        later(client.shutdown, 1)

        with pytest.raises(ClientGone):
            wait.until(watcher, monotonic() + SOON_S)
        wait.close()


def test_a_pipelined_request_is_no_leaving_and_keeps_its_bytes(upstream):
    watcher, far = upstream
    with connection() as (server, client):
        wait = Wait(server)
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        later(far.send, b"x")

        assert wait.until(watcher, monotonic() + SOON_S) is True
        wait.close()
        assert server.recv(100) == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.T(62)
@pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["FIN", "RST"])
def test_a_caller_that_pipelined_and_left_is_noticed_by_the_next_sweep(upstream, leave):
    watcher, _ = upstream
    with connection() as (server, client):
        wait = Wait(server)
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        gevent.sleep(0.01)
        leave(client)
        began = time.perf_counter()

        with pytest.raises(ClientGone):
            wait.until(watcher, monotonic() + SOON_S)
        took = time.perf_counter() - began
        wait.close()

    assert took < SWEEP_S + 0.2


def test_a_pipelined_request_does_not_keep_the_hub_busy():
    with connection() as (server, client):
        wait = Wait(server)
        client.send(b"more")
        gevent.sleep(0.01)
        began = time.thread_time()

        gevent.sleep(0.1)

        assert time.thread_time() - began < 0.02
        wait.close()


def test_a_sleep_lasts_as_long_as_asked():
    gevent.sleep(0)  # libev counts from its own last look at the clock
    began = monotonic()

    Wait().sleep(0.05)

    assert 0.045 <= monotonic() - began < SOON_S


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_at_all_still_lets_others_run(seconds):
    ran = []
    gevent.spawn(ran.append, True)

    Wait().sleep(seconds)

    assert ran == [True]


def test_a_sleep_ends_when_the_caller_leaves():
    with connection() as (server, client):
        wait = Wait(server)
        later(client.close)

        with pytest.raises(ClientGone):
            wait.sleep(60)
        wait.close()


def test_draining_ends_every_sleep_once_its_time_has_come(upstream):
    watcher, _ = upstream
    began = monotonic()

    drain_in(0.15)
    assert is_draining()
    with pytest.raises(Draining) as caught:
        Wait().until(watcher, monotonic() + SOON_S)

    assert monotonic() - began >= 0.15
    assert caught.value.retry_after_s == 1


def test_before_its_time_has_come_a_draining_process_goes_on(upstream):
    watcher, far = upstream
    drain_in(60)
    later(far.send, b"x")

    assert Wait().until(watcher, monotonic() + SOON_S) is True


def test_a_process_does_not_drain_by_itself():
    assert not is_draining()


def test_one_sleep_does_not_disturb_the_next(upstream):
    watcher, far = upstream
    wait = Wait()

    for _ in range(3):
        assert wait.until(watcher, 0.0) is False
    far.send(b"x")

    assert wait.until(watcher, monotonic() + SOON_S) is True


def test_a_sleeper_that_is_killed_leaves_nothing_behind(upstream):
    watcher, _ = upstream
    sleeper = gevent.spawn(Wait().until, watcher, monotonic() + 60)
    gevent.sleep(0.01)

    sleeper.kill()

    assert not watcher.active


def test_once_closed_it_no_longer_watches_the_caller():
    with connection() as (server, client):
        wait = Wait(server)
        wait.close()
        wait.close()
        client.close()
        gevent.sleep(0.02)

        assert not wait.gone


def test_every_sleeper_is_woken_for_its_own_reason():
    with connection() as (server, client), connection() as (near, far):
        mine, yours = Wait(server), Wait()
        watcher, other = readable(near), readable(near)
        leaving = gevent.spawn(mine.until, watcher, monotonic() + SOON_S)
        staying = gevent.spawn(yours.until, other, monotonic() + SOON_S)
        later(client.close)

        with pytest.raises(ClientGone):
            leaving.get(timeout=SOON_S)
        assert not staying.ready()
        far.send(b"x")
        assert staying.get(timeout=SOON_S) is True
        mine.close()
        watcher.close()
        other.close()


def test_an_arrival_that_takes_too_long_ends_the_reading():
    with connection() as (server, client):
        with Arrival(server, 0.05) as arrival:
            assert server.recv(10) == b""

        assert arrival.late
        client.close()


def test_an_arrival_in_time_leaves_the_connection_alone():
    with connection() as (server, client):
        client.send(b"body")
        with Arrival(server, 60) as arrival:
            assert server.recv(10) == b"body"
        client.send(b"next")

        assert server.recv(10) == b"next"
        assert not arrival.late


def test_an_arrival_over_no_connection_is_never_late():
    with Arrival(None, 0.0) as arrival:
        gevent.sleep(SWEEP_S * 1.5)

    assert not arrival.late
