"""A very fast OpenAI-compatible upstream on loopback: one process, one epoll loop, canned answers.

Not a simulator: it thinks about nothing, so that a benchmark sees the gateway in front of it.
Speaks ``POST …/chat/completions`` and ``GET …/models``; the model's name tells how to stream
(see `loadtests.bench.models`). Started by the benchmark; ends when its standard input closes.
"""

import argparse
import contextlib
import heapq
import json
import re
import select
import socket
import sys
import time

import msgspec

from loadtests.bench import canned, models

_READ_BYTES = 262_144
# Streams that begin together would march in step for ever; this spreads their chunks evenly.
_GOLDEN_RATIO = 0.618_033_988_75
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ChatRequest(msgspec.Struct):
    model: str
    messages: msgspec.Raw
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_decode_request = msgspec.json.Decoder(_ChatRequest).decode


class _Connection:
    """One accepted connection: what came in, what could not be sent yet, and a running stream."""

    __slots__ = ("closed", "interval_ns", "next_chunk", "pending", "received", "script", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.pending = b""
        self.closed = False
        self.script: canned.StreamScript | None = None
        self.next_chunk = 0
        self.interval_ns = 0


class FakeUpstream:
    """The server: `step` serves what is ready, `serve` does so until told to stop."""

    def __init__(self, listed_models: tuple[str, ...] = (models.PLAIN,), port: int = 0) -> None:
        """Listen on loopback.

        Args:
            listed_models: What ``GET /v1/models`` names; any well-formed name is answered.
            port: 0 takes a free one.
        """
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}
        self._timers: list[tuple[int, int, _Connection]] = []
        self._timer_number = 0
        self._phase = 0.0
        self._model_list = canned.model_list(listed_models)
        self._completions: dict[str, bytes] = {}
        self._scripts: dict[tuple[str, bool], canned.StreamScript] = {}

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    def serve(self, stop_fd: int) -> None:
        """Serve until the given descriptor becomes readable; a file never does."""
        with contextlib.suppress(PermissionError):
            self._epoll.register(stop_fd, select.EPOLLIN)
        try:
            while stop_fd not in self.step(None):
                pass
        finally:
            self.close()

    def close(self) -> None:
        """Close all sockets."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._listener.close()
        self._epoll.close()

    def step(self, timeout_s: float | None) -> set[int]:
        """Wait once, serve what is ready; returns descriptors that belong to nobody here."""
        if self._timers:
            due_s = max(0.0, (self._timers[0][0] - time.monotonic_ns()) / 1e9)
            timeout_s = due_s if timeout_s is None else min(due_s, timeout_s)
        strangers = set()
        for descriptor, events in self._epoll.poll(timeout_s):
            if connection := self._connections.get(descriptor):
                self._on_event(connection, events)
            elif descriptor == self._listener.fileno():
                self._accept()
            else:
                strangers.add(descriptor)
        if self._timers:
            self._send_due()
        return strangers

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[sock.fileno()] = _Connection(sock)
                self._epoll.register(sock, select.EPOLLIN)

    def _on_event(self, connection: _Connection, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush(connection)
        if events & ~select.EPOLLOUT and not connection.closed:
            self._read(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.received = connection.received + data if connection.received else data
        while not connection.closed and (request := _take_request(connection)):
            self._answer(connection, *request)

    def _answer(self, connection: _Connection, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1].partition(b"?")[0]
        if _CHUNKED.search(head):
            self._send(connection, canned.refusal("411 Length Required", "send a content-length"))
        elif head.startswith(b"POST ") and path.endswith(b"/chat/completions"):
            self._answer_chat(connection, body)
        elif head.startswith(b"GET ") and path.endswith(b"/models"):
            self._send(connection, self._model_list)
        else:
            self._send(connection, canned.refusal("404 Not Found", "no such endpoint"))

    def _answer_chat(self, connection: _Connection, body: bytes) -> None:
        try:
            request = _decode_request(body)
        except msgspec.DecodeError as exc:
            self._send(connection, canned.refusal("400 Bad Request", str(exc)))
            return
        behaviour = models.find_behaviour(request.model)
        if behaviour is None:
            self._send(connection, canned.refusal("404 Not Found", "no such model"))
        elif not request.stream:
            self._send(connection, self._completion(request.model))
        else:
            options = request.stream_options
            with_usage = bool(options and options.include_usage)
            self._start_stream(connection, request.model, behaviour, with_usage=with_usage)

    def _start_stream(
        self,
        connection: _Connection,
        model: str,
        behaviour: models.Behaviour,
        *,
        with_usage: bool,
    ) -> None:
        script = self._script(model, behaviour.chunks, with_usage=with_usage)
        if not behaviour.interval_s:
            self._send(connection, script.at_once(time.monotonic_ns()))
            return
        connection.script = script
        connection.next_chunk = 0
        connection.interval_ns = int(behaviour.interval_s * 1e9)
        self._send(connection, script.opening)
        self._phase = (self._phase + _GOLDEN_RATIO) % 1.0
        now_ns = time.monotonic_ns()
        self._send_chunk(connection, now_ns - int(self._phase * connection.interval_ns), now_ns)

    def _send_due(self) -> None:
        now_ns = time.monotonic_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            due_ns, _, connection = heapq.heappop(self._timers)
            if not connection.closed:
                self._send_chunk(connection, due_ns, now_ns)
                now_ns = time.monotonic_ns()

    def _send_chunk(self, connection: _Connection, due_ns: int, now_ns: int) -> None:
        """Send a paced stream's next chunk; the next is due by the plan: no drift."""
        script = connection.script
        if script is None:
            return
        head, tail = script.content[connection.next_chunk]
        data = head + canned.format_stamp(now_ns) + tail
        connection.next_chunk += 1
        if connection.next_chunk == len(script.content):
            connection.script = None
            data += script.closing
        else:
            self._timer_number += 1
            timer = (due_ns + connection.interval_ns, self._timer_number, connection)
            heapq.heappush(self._timers, timer)
        self._send(connection, data)

    def _send(self, connection: _Connection, data: bytes) -> None:
        if connection.pending:
            connection.pending += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(connection)
            return
        if sent < len(data):
            connection.pending = data[sent:]
            self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: _Connection) -> None:
        data, connection.pending = connection.pending, b""
        self._send(connection, data)
        if not connection.closed and not connection.pending:
            self._epoll.modify(connection.sock, select.EPOLLIN)

    def _drop(self, connection: _Connection) -> None:
        connection.closed = True
        self._connections.pop(connection.sock.fileno(), None)
        connection.sock.close()

    def _completion(self, model: str) -> bytes:
        if model not in self._completions:
            self._completions[model] = canned.completion(model)
        return self._completions[model]

    def _script(self, model: str, chunks: int, *, with_usage: bool) -> canned.StreamScript:
        key = (model, with_usage)
        if key not in self._scripts:
            self._scripts[key] = canned.stream_script(model, chunks, with_usage=with_usage)
        return self._scripts[key]


def _take_request(connection: _Connection) -> tuple[bytes, bytes] | None:
    """Cut one whole request, head and body, off what came in; None while it is not complete."""
    received = connection.received
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = received[:end]
    length = _CONTENT_LENGTH.search(head)
    stop = end + 4 + (int(length[1]) if length else 0)
    if len(received) < stop:
        return None
    connection.received = received[stop:]
    return head, received[end + 4 : stop]


def main(arguments: list[str] | None = None) -> int:
    """Serve until standard input closes; the first line of output is ``{"port": …}``."""
    parser = argparse.ArgumentParser(prog="loadtests.bench.fake_upstream", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 (default) takes a free port")
    parser.add_argument("--model", action="append", help="name listed by /v1/models; repeatable")
    options = parser.parse_args(arguments)
    server = FakeUpstream(tuple(options.model or [models.PLAIN]), options.port)
    sys.stdout.write(json.dumps({"port": server.port}) + "\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve(sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
