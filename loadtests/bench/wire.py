"""Reading HTTP/1.1 replies and server-sent events out of raw bytes, as fast as plain Python can.

A client for benchmarks on loopback: it is strict about what it understands and knows nothing else
(no redirects, no compression, no trailers worth keeping).
"""

import re

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)


class MalformedReply(Exception):
    """What came is not an HTTP/1.1 reply or not whole."""


class ReplyReader:
    """Reads the replies of one keep-alive connection, one after the other."""

    __slots__ = ("_chunked", "_raw", "_remaining", "complete", "keep_alive", "status")

    def __init__(self) -> None:
        self._raw = b""
        self.reset()

    def reset(self) -> None:
        """Get ready for the next reply."""
        self.status = 0
        self.complete = False
        self.keep_alive = True
        self._chunked = False
        self._remaining: int | None = 0

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the socket; returns the body bytes that they complete.

        Raises:
            MalformedReply: The bytes are no reply, or more came than the reply may have.
        """
        self._raw = self._raw + data if self._raw else data
        if not self.status and not self._read_head():
            return b""
        body = self._read_chunks() if self._chunked else self._read_plain()
        if self.complete and self._raw:
            raise MalformedReply("bytes after the end of the reply")
        return body

    def end(self) -> None:
        """Say that the peer closed the connection.

        Raises:
            MalformedReply: The reply was not whole.
        """
        if self.complete:
            return
        if not self.status or self._chunked or self._remaining is not None:
            raise MalformedReply("the connection was closed inside the reply")
        self.complete = True

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._raw[: end + 2]
        self._raw = self._raw[end + 4 :]
        match = _STATUS.match(head)
        if not match:
            raise MalformedReply("no HTTP status line")
        self.status = int(match[1])
        self._chunked = _CHUNKED.search(head) is not None
        length = _CONTENT_LENGTH.search(head)
        self._remaining = int(length[1]) if length else None
        delimited = self._chunked or length is not None
        self.keep_alive = delimited and _CLOSE.search(head) is None
        return True

    def _read_plain(self) -> bytes:
        if self._remaining is None:
            body, self._raw = self._raw, b""
            return body
        body = self._raw[: self._remaining]
        self._raw = self._raw[self._remaining :]
        self._remaining -= len(body)
        self.complete = not self._remaining
        return body

    def _read_chunks(self) -> bytes:
        raw, start, parts = self._raw, 0, []
        while (line_end := raw.find(b"\r\n", start)) >= 0:
            size = _chunk_size(raw[start:line_end])
            stop = line_end + 2 + size
            if len(raw) < stop + 2:
                break
            if not size:
                self.complete = True
                start = stop + 2
                break
            parts.append(raw[line_end + 2 : stop])
            start = stop + 2
        self._raw = raw[start:]
        return parts[0] if len(parts) == 1 else b"".join(parts)


class EventReader:
    """Cuts a body into the data of its server-sent events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, body: bytes) -> list[bytes]:
        """Take body bytes; returns the data of the events that they complete, without comments."""
        text = self._rest + body if self._rest else body
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        *events, self._rest = text.split(b"\n\n")
        return [data for event in events if (data := _event_data(event)) is not None]

    @property
    def is_empty(self) -> bool:
        """Whether nothing of an unfinished event is left."""
        return not self._rest.strip()


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.partition(b";")[0], 16)
    except ValueError as exc:
        raise MalformedReply("a chunk without a size") from exc


def _event_data(event: bytes) -> bytes | None:
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    lines = [
        line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")
    ]
    return b"\n".join(lines) if lines else None
