"""HTTP by hand: what really crossed the socket, framing included, which no client library shows."""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

LIMIT_S = 30.0


@dataclass
class Answer:
    """One answer as it was received.

    ``complete`` is False when the body ended before its framing said so: chunks without the last
    one, or fewer bytes than Content-Length.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    complete: bool

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} was sent {len(values)} times"
        return values[0] if values else None

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """Return the error object, after checking that it has the one shape of this product."""
        document = self.json()
        assert set(document) == {"error"}
        error = document["error"]
        assert set(error) - {"details"} == {"message", "type", "param", "code", "request_id"}
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["type"], str)
        assert error["param"] is None or isinstance(error["param"], str)
        assert error["code"] is None or isinstance(error["code"], str)
        assert error["request_id"] == self.header("x-request-id")
        assert self.header("content-type") == "application/json"
        return error


class Connection:
    """A keep-alive connection to a loopback port; opened anew whenever the other side closed it."""

    def __init__(self, port: int, key: str | None = None) -> None:
        self._port = port
        self._key = key
        self._sock: socket.socket | None = None
        self._rest = b""
        self.opened = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
        self._sock, self._rest = None, b""

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a well-formed request with our key and return the answer."""
        fields = {"Host": f"127.0.0.1:{self._port}"}
        if self._key is not None:
            fields["Authorization"] = f"Bearer {self._key}"
        payload = body if isinstance(body, bytes) else b""
        if body is not None:
            fields["Content-Type"] = "application/json"
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            fields["Content-Length"] = str(len(payload))
        fields.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        raw = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + payload
        return self.exchange(raw, method)

    def exchange(self, raw: bytes, method: str = "POST") -> Answer:
        """Send bytes as they are and return the answer; asks again once on a stale connection."""
        fresh = self._sock is None
        try:
            return self._exchange(raw, method)
        except (ConnectionError, EOFError):
            self.close()
            if fresh:
                raise
        return self._exchange(raw, method)

    def _exchange(self, raw: bytes, method: str) -> Answer:
        if self._sock is None:
            self._sock = socket.create_connection(("127.0.0.1", self._port), timeout=LIMIT_S)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.opened += 1
        # The server may answer and close before it has read everything: that answer counts.
        with suppress(ConnectionError):
            self._sock.sendall(raw)
        answer = self._read_answer(method)
        if not answer.complete or (answer.header("connection") or "").lower() == "close":
            self.close()
        return answer

    def _read_answer(self, method: str) -> Answer:
        status, headers = self._read_head()
        while 100 <= status < 200:
            status, headers = self._read_head()
        named = {name.lower(): value for name, value in headers}
        if method == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"", True)
        if named.get("transfer-encoding") == "chunked":
            assert "content-length" not in named, "two framings in one answer"
            body, complete = self._read_chunks()
        elif "content-length" in named:
            length = int(named["content-length"])
            body = self._read_exactly(length)
            complete = len(body) == length
        else:
            body, complete = self._read_rest(), True
        return Answer(status, headers, body, complete)

    def _read_head(self) -> tuple[int, list[tuple[str, str]]]:
        while b"\r\n\r\n" not in self._rest:
            if not self._receive():
                raise EOFError("the connection ended before an answer")
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        pairs = [line.partition(":") for line in lines]
        return int(status), [(name, value.strip()) for name, _, value in pairs]

    def _read_chunks(self) -> tuple[bytes, bool]:
        body = b""
        while True:
            while b"\r\n" not in self._rest:
                if not self._receive():
                    return body, False
            size_text, _, self._rest = self._rest.partition(b"\r\n")
            size = int(size_text, 16)
            block = self._read_exactly(size + 2)
            body += block[:size]
            if len(block) < size + 2:
                return body, False
            if size == 0:
                return body, True

    def _read_exactly(self, size: int) -> bytes:
        while len(self._rest) < size and self._receive():
            pass
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    def _read_rest(self) -> bytes:
        while self._receive():
            pass
        block, self._rest = self._rest, b""
        return block

    def _receive(self) -> bool:
        assert self._sock is not None
        try:
            data = self._sock.recv(262_144)
        except ConnectionResetError:
            return False
        self._rest += data
        return bool(data)
