"""Names to addresses without letting one slow name hold up the others.

gevent resolves on a pool of ten threads shared by the whole hub: ten hanging look-ups there stop
every other one. Here each name has at most one look-up in flight, in threads of its own, and a
known address is used on while a newer answer is awaited.
"""

import socket
from collections.abc import Callable
from typing import Any

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

from gateway.kernel.clock import Monotonic, monotonic
from gateway.kernel.errors import UpstreamUnreachable
from gateway.web.wait import Wait

FRESH_S = 30.0
_THREADS = 8
_getaddrinfo = monkey.get_original("socket", "getaddrinfo")

Address = tuple[int, Any]
"""Address family and what ``connect`` takes."""
LookUp = Callable[[str, int], list[Address]]


class Resolver:
    """Addresses of the configured upstreams.

    Args:
        look_up: Asks for a name and may block; the system's own way by default.

    Shared: One a process; look-ups run in its own threads, the tables belong to the hub's thread.
    """

    def __init__(self, look_up: LookUp | None = None, clock: Monotonic = monotonic) -> None:
        self._look_up = look_up or _look_up
        self._clock = clock
        self._pool = ThreadPool(_THREADS)
        self._known: dict[tuple[str, int], tuple[float, list[Address]]] = {}
        self._running: dict[tuple[str, int], Any] = {}

    def find(self, host: str, port: int, wait: Wait, until_s: float) -> list[Address]:
        """Return the addresses of a host, the first to be tried first.

        Raises:
            UpstreamUnreachable: The name does not exist, or no answer came in time.
        """
        literal = _numeric(host, port)
        if literal is not None:
            return [literal]
        known = self._known.get((host, port))
        if known is not None:
            if known[0] < self._clock():
                self._start(host, port)
            return known[1]
        lookup = self._start(host, port)
        watcher = gevent.get_hub().loop.async_()

        def tell(_: Any) -> None:
            watcher.send()

        lookup.rawlink(tell)
        try:
            if not lookup.ready():
                wait.until(watcher, until_s)
        finally:
            lookup.unlink(tell)
            watcher.close()
        if (host, port) in self._known:
            return self._known[host, port][1]
        raise UpstreamUnreachable("The upstream's name could not be resolved.")

    def _start(self, host: str, port: int) -> Any:
        key = (host, port)
        if key not in self._running:
            self._running[key] = self._pool.spawn(self._look_up, host, port)
            self._running[key].rawlink(lambda done: self._learn(key, done))
        return self._running[key]

    def _learn(self, key: tuple[str, int], done: Any) -> None:
        self._running.pop(key, None)
        if done.successful() and done.value:
            self._known[key] = (self._clock() + FRESH_S, done.value)


def _look_up(host: str, port: int) -> list[Address]:
    try:
        found = _getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    # IPv4 first: model servers on a LAN often listen on it alone, and a refused ::1 costs a round.
    return sorted(
        ((item[0], item[4]) for item in found), key=lambda item: item[0] != socket.AF_INET
    )


def _numeric(host: str, port: int) -> Address | None:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return None
