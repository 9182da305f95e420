"""A crew of raw-socket clients over one epoll: all send the same request and check the answer."""

import json
import select
import socket
import time
from typing import NamedTuple

from loadtests.bench import models
from loadtests.bench.answers import StreamCheck, find_reply_problem
from loadtests.bench.jobs import Job
from loadtests.bench.wire import MalformedReply, ReplyReader

_READ_BYTES = 262_144
_SEND_BUFFER_BYTES = 262_144
_FILLER = "Say in one sentence what a gateway does for the people behind it. "


class Client:
    """One connection and the answer it is waiting for."""

    __slots__ = ("body", "busy", "check", "reader", "sent_ns", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reader = ReplyReader()
        self.check: StreamCheck | None = None
        self.body = b""
        self.busy = False
        self.sent_ns = 0


class Answer(NamedTuple):
    """One finished request."""

    client: Client
    latency_ns: int
    problem: str | None


class Crew:
    """The clients of one job; `idle` ones are ready to send."""

    def __init__(self, job: Job) -> None:
        behaviour = models.find_behaviour(job.model)
        if behaviour is None:
            raise ValueError(f"no model of the benchmark: {job.model}")
        self._address = ("127.0.0.1", job.endpoint.port)
        self._request = build_request(job)
        self._expected_chunks = behaviour.chunks
        self._streams = job.stream
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self.idle: list[Client] = []
        self.lags_ns: list[int] = []

    @property
    def waiting(self) -> int:
        """How many requests are unanswered."""
        return len(self._clients) - len(self.idle)

    @property
    def streaming(self) -> int:
        """How many streams have brought content and are not at their end."""
        clients = self._clients.values()
        return sum(1 for client in clients if client.check and client.check.chunks)

    def connect(self) -> Client:
        """Open one more connection."""
        sock = socket.create_connection(self._address, timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        client = Client(sock)
        self._clients[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN)
        return client

    def send(self, client: Client | None = None) -> None:
        """Send the request: on this connection, else on the last idle one, else on a new one."""
        if client is None:
            client = self.idle.pop() if self.idle else self.connect()
        client.reader.reset()
        client.busy = True
        client.body = b""
        client.check = StreamCheck(self.lags_ns) if self._streams else None
        client.sent_ns = time.monotonic_ns()
        client.sock.sendall(self._request)

    def poll(self, timeout_s: float) -> list[Answer]:
        """Read what has come, after waiting for it; returns the requests that are finished.

        Select on the epoll descriptor wakes up on the microsecond, epoll itself on the millisecond.
        """
        ready, _, _ = select.select([self._epoll.fileno()], [], [], max(0.0, timeout_s))
        if not ready:
            return []
        answers = []
        for descriptor, _ in self._epoll.poll(0):
            if (answer := self._read(self._clients[descriptor])) is not None:
                answers.append(answer)
        return answers

    def close(self) -> None:
        """Drop all connections, answered or not."""
        for client in self._clients.values():
            client.sock.close()
        self._clients.clear()
        self.idle.clear()
        self._epoll.close()

    def _read(self, client: Client) -> Answer | None:
        reader = client.reader
        try:
            data = client.sock.recv(_READ_BYTES)
            now_ns = time.monotonic_ns()
            if not client.busy:
                self._forget(client)
                return None
            if data:
                self._take(client, reader.feed(data), now_ns)
            else:
                reader.end()
        except (OSError, MalformedReply) as exc:
            self._forget(client)
            return Answer(client, 0, f"{type(exc).__name__}: {exc}")
        if not reader.complete:
            return None
        answer = Answer(client, now_ns - client.sent_ns, self._find_problem(client))
        client.busy = False
        client.check = None
        if data and reader.keep_alive:
            self.idle.append(client)
        else:
            self._forget(client)
        return answer

    def _take(self, client: Client, body: bytes, now_ns: int) -> None:
        if client.check is not None:
            client.check.feed(body, now_ns)
            if client.reader.status != 200:
                client.body += body
        else:
            client.body += body

    def _find_problem(self, client: Client) -> str | None:
        status = client.reader.status
        if client.check is None or status != 200:
            return find_reply_problem(status, client.body)
        return client.check.find_problem(status, self._expected_chunks)

    def _forget(self, client: Client) -> None:
        if client in self.idle:
            self.idle.remove(client)
        del self._clients[client.sock.fileno()]
        client.sock.close()


def build_request(job: Job) -> bytes:
    """Write the request of a job once; all clients send the same bytes."""
    filler = _FILLER * (job.prompt_chars // len(_FILLER) + 1)
    prompt = filler[: job.prompt_chars] if job.prompt_chars else _FILLER
    body = json.dumps(
        {
            "model": job.model,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": prompt},
            ],
            "temperature": 0.2,
            "max_tokens": 256,
            "stream": job.stream,
        }
    ).encode()
    headers = {
        "Host": f"127.0.0.1:{job.endpoint.port}",
        "Content-Type": "application/json",
        "Accept": "text/event-stream" if job.stream else "application/json",
        "Content-Length": str(len(body)),
    } | job.endpoint.headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {job.endpoint.path} HTTP/1.1\r\n{lines}\r\n".encode() + body
