"""A model server that misbehaves on demand: raw bytes, the scenario chosen by the model's name.

Run as a process of its own: ``python -m tests.fakes.fault_upstream --models a,b --always name``.
It prints one JSON line with its ports and lives until it is told to stop or its standard input
closes. ``GET /control/requests`` tells what it saw, with times on the monotonic clock, which all
processes of a host share; ``GET /control/open`` how many connections it holds.
"""

import argparse
import json
import signal
import sys
from dataclasses import asdict, dataclass, field

import gevent
from gevent import socket
from gevent.event import Event
from gevent.fileobject import FileObject
from gevent.server import StreamServer

from gateway.kernel.clock import monotonic
from tests.fakes.fault_exchange import Exchange
from tests.fakes.fault_scenarios import scenario_of

LISTED = ("ok", "ok_5")
_CONTROL = "/control/"
_KINDS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completions",
    "/v1/embeddings": "embeddings",
}


@dataclass
class Record:
    """One request as the upstream saw it.

    Attributes:
        connection: Number of the connection it came on.
        place: How many requests that connection had carried before.
        closed_s: When the peer was seen to leave before the answer was complete.
        ended_s: When the scenario was over.
    """

    id: str
    path: str
    model: str
    stream: bool
    connection: int
    place: int
    began_s: float
    headers: dict[str, str]
    members: list[str]
    closed_s: float | None = None
    ended_s: float | None = None


@dataclass
class FaultUpstream:
    """What the server knows; belongs to one process and one hub.

    Args:
        models: The names in its model list.
        always: Scenario of every request, whatever its model is called.
        listing: Scenario of the model list.
    """

    models: tuple[str, ...] = LISTED
    always: str = ""
    listing: str = ""
    records: list[Record] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0

    def serve(self, sock: socket.socket, _address: object) -> None:
        """Serve one connection until it ends."""
        self.connections += 1
        self.open_now += 1
        number, place = self.connections, 0
        reader = _Reader(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (request := reader.request()) is not None:
                if not self._answer(sock, request, number, place):
                    break
                place += 1
        except OSError:
            return
        finally:
            self.open_now -= 1
            sock.close()

    def _answer(self, sock, request, number: int, place: int) -> bool:
        method, path, headers, body = request
        if path.startswith(_CONTROL):
            return _tell(sock, self._control(path.removeprefix(_CONTROL)))
        if method == "GET" and self.listing:
            return self._list_badly(sock)
        if method == "GET":
            data = [{"id": name, "object": "model", "owned_by": "fault"} for name in self.models]
            return _tell(sock, {"object": "list", "data": data})
        asked = json.loads(body)
        record = Record(
            headers.get("x-request-id", ""), path, asked["model"], bool(asked.get("stream")),
            number, place,
            monotonic(), headers, sorted(asked),
        )  # fmt: skip
        self.records.append(record)
        return self._play(sock, record, asked)

    def _control(self, what: str) -> object:
        if what == "open":
            # This question's own connection does not count.
            return self.open_now - 1
        return [asdict(record) for record in self.records]

    def _list_badly(self, sock) -> bool:
        exchange = Exchange(sock, "chat", False, {"model": "x", "messages": [{"content": ""}]})
        exchange.watcher = gevent.spawn(exchange.gone.wait)
        play, numbers = scenario_of(self.listing)
        try:
            play(exchange, *numbers)
        finally:
            exchange.watcher.kill()
        return False

    def _play(self, sock, record: Record, asked: dict) -> bool:
        exchange = Exchange(sock, _KINDS[record.path], record.stream, asked)
        exchange.watcher = gevent.spawn(_watch, sock, record, exchange.gone)
        try:
            play, numbers = scenario_of(self.always or record.model)
            play(exchange, *numbers)
        except OSError:
            exchange.keep = False
            record.closed_s = record.closed_s or monotonic()
        finally:
            exchange.watcher.kill()
            record.ended_s = monotonic()
        return exchange.keep and record.closed_s is None


class _Reader:
    """Reads requests off a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""

    def request(self):
        """Return method, path, headers and body of the next request; None at the end."""
        while b"\r\n\r\n" not in self._held:
            if not self._more():
                return None
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        while len(self._held) < length:
            if not self._more():
                return None
        body, self._held = self._held[:length], self._held[length:]
        method, path, _ = first.split(" ")
        return method, path, headers, body

    def _more(self) -> bool:
        data = self._sock.recv(65_536)
        self._held += data
        return bool(data)


def _watch(sock, record: Record, seen: Event) -> None:
    """Note the moment at which the peer leaves."""
    try:
        gevent.socket.wait_read(sock.fileno())
        gone = sock.recv(1, socket.MSG_PEEK) == b""
    except OSError:
        gone = True
    if gone:
        record.closed_s = monotonic()
        seen.set()


def _tell(sock, document: object) -> bool:
    body = json.dumps(document).encode()
    sock.sendall(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body)
    )
    return True


def _black_hole() -> list[socket.socket]:
    """Return sockets of which the first listens and takes no connection: its queue is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    held = [listener]
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        held.append(filler)
    return held


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(LISTED))
    parser.add_argument("--always", default="")
    parser.add_argument("--list", default="")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    upstream = FaultUpstream(tuple(arguments.models.split(",")), arguments.always, arguments.list)
    server = StreamServer(("127.0.0.1", arguments.port), upstream.serve, backlog=2048)
    server.start()
    black_hole = _black_hole()
    gevent.signal_handler(signal.SIGTERM, server.close)
    ports = {"port": server.server_port, "black_hole": black_hole[0].getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    # Whoever started this process holds the other end: it must not outlive them.
    FileObject(sys.stdin.buffer.raw, "rb").read()
    server.stop(timeout=0)


if __name__ == "__main__":
    main()
