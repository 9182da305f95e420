"""Names become addresses, and a slow name holds up nobody but its own callers."""

import socket
import threading
from time import perf_counter

import gevent
import pytest

from gateway.backends.resolver import FRESH_S, Resolver
from gateway.kernel.errors import ClientGone, UpstreamUnreachable
from gateway.web.wait import Wait
from tests.fakes.clock import FakeClock

SOMEWHERE = (socket.AF_INET, ("192.0.2.1", 80))
ELSEWHERE = (socket.AF_INET, ("192.0.2.2", 80))


class Names:
    """A name server whose answers are a table, some of them slow."""

    def __init__(self, **answers) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.released = threading.Event()

    def __call__(self, host: str, port: int) -> list:
        self.asked.append(host)
        if host.startswith("slow"):
            self.released.wait(30)
        return self.answers.get(host, [])


@pytest.fixture
def names():
    """Two known names; those that start with "slow" answer when the test ends."""
    table = Names(one=[SOMEWHERE], two=[ELSEWHERE])
    yield table
    table.released.set()


def find(resolver: Resolver, host: str, wait: Wait, within_s: float = 5.0) -> list:
    return resolver.find(host, 80, wait, wait.now() + within_s)


def settle(resolver: Resolver) -> None:
    """Let look-ups in flight end, for at most two seconds."""
    for _ in range(2_000):
        if not resolver._running:
            return
        gevent.sleep(0.001)


def test_a_name_is_looked_up_and_remembered(names, wait):
    resolver = Resolver(names)

    found = [find(resolver, "one", wait) for _ in range(3)]

    assert found == [[SOMEWHERE]] * 3
    assert names.asked == ["one"]


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 80))), ("::1", (socket.AF_INET6, ("::1", 80)))],
)
def test_a_numeric_address_is_not_looked_up(names, wait, host, address):
    assert find(Resolver(names), host, wait) == [address]
    assert names.asked == []


def test_an_unknown_name_is_unreachable_and_asked_for_again(names, wait):
    resolver = Resolver(names)

    for _ in range(2):
        with pytest.raises(UpstreamUnreachable):
            find(resolver, "nobody", wait)

    assert names.asked == ["nobody", "nobody"]


def test_a_known_address_is_used_while_a_newer_one_is_awaited(names, wait):
    clock = FakeClock()
    resolver = Resolver(names, clock)
    find(resolver, "one", wait)
    clock.advance(FRESH_S + 1)
    names.answers["one"] = [ELSEWHERE]

    stale = find(resolver, "one", wait)
    settle(resolver)

    assert stale == [SOMEWHERE]
    assert find(resolver, "one", wait) == [ELSEWHERE]
    assert names.asked == ["one", "one"]


def test_a_known_address_outlives_a_name_server_that_forgot_it(names, wait):
    clock = FakeClock()
    resolver = Resolver(names, clock)
    find(resolver, "one", wait)
    clock.advance(FRESH_S + 1)
    names.answers.clear()

    find(resolver, "one", wait)
    settle(resolver)

    assert find(resolver, "one", wait) == [SOMEWHERE]


def test_a_name_that_hangs_is_given_up_in_time(names, wait):
    with pytest.raises(UpstreamUnreachable):
        find(Resolver(names), "slow", wait, within_s=0.01)


def test_a_hanging_name_is_asked_for_once_whoever_waits_for_it(names, wait):
    resolver = Resolver(names)
    for _ in range(3):
        with pytest.raises(UpstreamUnreachable):
            find(resolver, "slow", wait, within_s=0.0)

    assert names.asked == ["slow"]


def test_names_that_hang_do_not_hold_up_the_others(names, wait):
    resolver = Resolver(names)
    waiting = [gevent.spawn(find, resolver, f"slow{place}", Wait(), 20.0) for place in range(4)]
    gevent.sleep(0)

    began_s = perf_counter()
    found = find(resolver, "one", wait)

    assert found == [SOMEWHERE]
    assert perf_counter() - began_s < 0.1
    gevent.killall(waiting)


def test_a_caller_that_leaves_does_not_wait_for_a_hanging_name(names):
    ours, theirs = socket.socketpair()
    wait = Wait(ours)
    gevent.spawn_later(0.01, theirs.close)

    with pytest.raises(ClientGone):
        find(Resolver(names), "slow", wait)

    wait.close()
    ours.close()


def test_the_system_looks_localhost_up_with_the_old_addresses_first(wait):
    found = find(Resolver(), "localhost", wait)

    families = [family for family, _ in found]
    assert (socket.AF_INET, ("127.0.0.1", 80)) in found
    assert families == sorted(families, key=lambda family: family != socket.AF_INET)
