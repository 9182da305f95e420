"""A client that keeps no rule of HTTP unless its test wants to: bytes out, bytes in, all timed."""

import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gateway.kernel.clock import monotonic

READ_BYTES = 65_536


@dataclass
class Answer:
    """One answer as it came over the wire.

    Attributes:
        whole: Whether the body's own end was seen: its length, or its last chunk.
        stamps: When each read came, and how many bytes it brought.
        left: Bytes behind the end of this answer.
    """

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False
    chunked: bool = False
    stamps: list[tuple[float, int]] = field(default_factory=list)
    left: bytes = b""

    def header(self, name: str) -> str | None:
        """Return a header's value; None when it is not there."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def document(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)

    def error(self) -> dict[str, Any]:
        """Return the error of the envelope."""
        return self.document()["error"]

    def events(self) -> list[str]:
        """Return the data of all events, comments left out."""
        blocks = self.body.decode().split("\n\n")
        return [block.removeprefix("data: ") for block in blocks if block.startswith("data: ")]

    def document_of_last_event(self) -> Any:
        """Return the last event as JSON."""
        return json.loads(self.events()[-1])

    def text(self) -> str:
        """Return the words of a streamed answer."""
        said = ""
        for event in self.events():
            for choice in json.loads(event).get("choices", ()) if event != "[DONE]" else ():
                said += choice.get("delta", {}).get("content") or choice.get("text") or ""
        return said


class RawClient:
    """One connection to the gateway."""

    def __init__(self, port: int, timeout_s: float = 15.0, *, receive_bytes: int = 0) -> None:
        self.sock = socket.socket()
        if receive_bytes:
            # Before connecting, or the window is already announced.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout_s)
        try:
            self.sock.connect(("127.0.0.1", port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._held = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def ask(self, message: bytes) -> Answer:
        """Send a request and return its answer."""
        self.send(message)
        return self.answer()

    def answer(self, *, until: bytes = b"") -> Answer:
        """Return the next answer, finished or not.

        Args:
            until: Stop as soon as the body holds these bytes.
        """
        answer = Answer()
        reader = _Body(answer)
        data, self._held = self._held, b""
        while True:
            if data:
                answer.stamps.append((monotonic(), len(data)))
            if reader.feed(data) or (until and until in answer.body):
                self._held = answer.left
                return answer
            try:
                data = self.sock.recv(READ_BYTES)
            except ConnectionResetError:
                data = b""
            if not data:
                reader.ended()
                return answer

    def rest(self) -> bytes:
        """Return every byte up to the connection's end."""
        said, self._held = self._held, b""
        while True:
            try:
                data = self.sock.recv(READ_BYTES)
            except ConnectionResetError:
                return said
            if not data:
                return said
            said += data

    def is_closed(self, within_s: float) -> bool:
        """Tell whether the other side ends the connection in time; its words are dropped."""
        ends_s = monotonic() + within_s
        try:
            while (left_s := ends_s - monotonic()) > 0:
                self.sock.settimeout(left_s)
                if not self.sock.recv(READ_BYTES):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def close(self) -> None:
        """Leave with a FIN."""
        self.sock.close()

    def reset(self) -> None:
        """Leave with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class _Body:
    """Takes an answer apart as it comes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._text = b""
        self._in_body = False
        self._length: int | None = None

    def feed(self, data: bytes) -> bool:
        """Take bytes; tell whether the answer is whole."""
        self._text += data
        if not self._in_body and not self._head():
            return False
        answer = self._answer
        if answer.chunked:
            return self._chunks()
        if self._length is None:
            answer.body += self._text
            self._text = b""
            return False
        if len(self._text) < self._length:
            answer.body = self._text
            return False
        answer.body, answer.left = self._text[: self._length], self._text[self._length :]
        answer.whole = True
        return True

    def ended(self) -> None:
        """Note that the connection ended: the end of a body without framing."""
        self._answer.whole = self._answer.whole or (
            self._in_body and not self._answer.chunked and self._length is None
        )

    def _head(self) -> bool:
        if b"\r\n\r\n" not in self._text:
            return False
        head, _, self._text = self._text.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        answer = self._answer
        answer.status = int(first.split(" ")[1])
        for line in lines:
            name, _, value = line.partition(":")
            answer.headers.append((name.lower(), value.strip()))
        answer.chunked = (answer.header("transfer-encoding") or "") == "chunked"
        length = answer.header("content-length")
        self._length = int(length) if length is not None else None
        if answer.status in {204, 304}:
            self._length = 0
        self._in_body = True
        return True

    def _chunks(self) -> bool:
        answer = self._answer
        while b"\r\n" in self._text:
            size, _, rest = self._text.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                return False
            assert rest[length : length + 2] == b"\r\n", rest[:200]
            answer.body += rest[:length]
            self._text = rest[length + 2 :]
            if not length:
                answer.left = self._text
                answer.whole = True
                return True
        return False


def request(
    method: str,
    path: str,
    *,
    key: str = "",
    body: bytes | Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a request as a well-behaved client writes it."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway.test"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def chat(model: str, *, stream: bool = False, **members: Any) -> dict[str, Any]:
    """Return the body of a chat request."""
    asked = {"model": model, "messages": [{"role": "user", "content": "hello"}], **members}
    return {**asked, "stream": True} if stream else asked


def completion(model: str, *, stream: bool = False, **members: Any) -> dict[str, Any]:
    """Return the body of a legacy completion request."""
    asked = {"model": model, "prompt": "hello", **members}
    return {**asked, "stream": True} if stream else asked


def embeddings(model: str, **members: Any) -> dict[str, Any]:
    """Return the body of an embeddings request."""
    return {"model": model, "input": "hello", **members}
