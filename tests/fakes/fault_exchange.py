"""One request at the fault upstream, and the means to answer it well or badly."""

import json
import socket
import struct
from typing import Any

from gevent.event import Event

USAGE = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


class Exchange:
    """One request and the means to answer it badly.

    Attributes:
        gone: Set when the peer has left.
        keep: Whether the connection may carry another request.
        watcher: The greenlet that sees the peer leave.
    """

    def __init__(self, sock: Any, kind: str, stream: bool, asked: dict[str, Any]) -> None:
        self.sock = sock
        self.kind = kind
        self.stream = stream
        self.asked = asked
        self.gone = Event()
        self.keep = True
        self.watcher: Any = None

    def pause(self, seconds: float) -> None:
        """Wait, but not past the peer's leaving."""
        if self.gone.wait(seconds):
            raise ConnectionResetError("the peer left")

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def head(self, *lines: str, status: str = "200 OK", kind: str | None = None) -> None:
        """Send a head; of a chunked body unless the lines say otherwise."""
        usual = "text/event-stream" if self.stream else "application/json"
        framing = [] if any(_frames(line) for line in lines) else ["Transfer-Encoding: chunked"]
        text = [f"HTTP/1.1 {status}", f"Content-Type: {kind or usual}", *framing, *lines, "", ""]
        self.send("\r\n".join(text).encode("latin-1"))

    def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> None:
        """Send the last chunk."""
        self.send(b"0\r\n\r\n")

    def whole(
        self, body: bytes, *lines: str, status: str = "200 OK", kind: str = "application/json"
    ) -> None:
        """Send a complete answer with its length."""
        self.head(f"Content-Length: {len(body)}", *lines, status=status, kind=kind)
        self.send(body)

    def close(self) -> None:
        """End the connection politely after this scenario."""
        self.keep = False

    def reset(self) -> None:
        """End the connection with a reset."""
        self.keep = False
        # Not before it has ended: gevent closes no socket that somebody waits on.
        self.watcher.kill()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def event(self, text: str | None, *, finish: str | None = None, first: bool = False) -> bytes:
        """Return one content event, conforming to the last letter."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        if self.kind == "completions":
            name, choice["text"] = "text_completion", text or ""
        else:
            name = "chat.completion.chunk"
            choice["delta"] = {} if text is None else {"content": text}
            if first:
                choice["delta"] = {"role": "assistant", "content": ""}
        return self.data(self._base(name) | {"choices": [choice]})

    def data(self, document: dict[str, Any]) -> bytes:
        """Return an event around a document."""
        return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"

    def words(self, count: int) -> list[bytes]:
        """Return the first events of a stream with so many words."""
        return [self.event("", first=True)] + [
            self.event(f"word{place} ") for place in range(count)
        ]

    def goodbye(self) -> list[bytes]:
        """Return the events that end a stream well."""
        wanted = (self.asked.get("stream_options") or {}).get("include_usage")
        usage = [self.data(self._base("chat.completion.chunk") | {"choices": [], "usage": USAGE})]
        return [self.event(None, finish="stop"), *(usage if wanted else []), b"data: [DONE]\n\n"]

    def document(self, text: str = "word0 word1") -> bytes:
        """Return a complete answer of this kind of call."""
        if self.kind == "embeddings":
            vectors = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 1.0]}]
            found = {"object": "list", "data": vectors, "model": self.asked["model"]}
            return json.dumps(found | {"usage": {"prompt_tokens": 2, "total_tokens": 2}}).encode()
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        if self.kind == "completions":
            name, choice["text"] = "text_completion", text
        else:
            name = "chat.completion"
            choice["message"] = {"role": "assistant", "content": text}
        return json.dumps(self._base(name) | {"choices": [choice], "usage": USAGE}).encode()

    def _base(self, name: str) -> dict[str, Any]:
        return {
            "id": "fault-1",
            "object": name,
            "created": 1_700_000_000,
            "model": self.asked["model"],
        }


def _frames(line: str) -> bool:
    return line.lower().startswith(("content-length:", "transfer-encoding:", "connection: close"))
