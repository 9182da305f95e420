"""Server-sent events as bytes: a parser that can be cut anywhere, and the frames we write."""

from gateway.kernel.errors import UpstreamInvalid

DONE = b"data: [DONE]\n\n"
KEEPALIVE = b": keepalive\n\n"
LINE_LIMIT_BYTES = 1_048_576


def frame(payload: bytes) -> bytes:
    """Return one canonical event around a JSON text."""
    return b"data: " + payload + b"\n\n"


class SseParser:
    """Cut a byte stream into the data of its events.

    Lines end in CR, LF or CRLF (of bytes only: U+2028 and friends belong to the data), ``data:``
    may come with or without its space, several ``data`` lines of one event are joined by a line
    feed. Comments, ``id``, ``event`` and ``retry`` are dropped.

    Raises:
        UpstreamInvalid: A line or an event passes 1 MiB.
    """

    __slots__ = ("_data", "_rest", "_size")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, block: bytes) -> list[bytes]:
        """Return the data of each event that this block completes, in order."""
        text = self._rest + block if self._rest else block
        if not self._data and text.endswith(b"\n\n") and b"\r" not in text:
            self._rest = b""
            return self._whole_events(text)
        return self._lines(text)

    def finish(self) -> list[bytes]:
        """Return the last event when the stream ended without its blank line."""
        return self._lines(self._rest + b"\n\n")

    def _whole_events(self, text: bytes) -> list[bytes]:
        """Cut a block that ends with a complete event: the usual case, without state."""
        if len(text) > LINE_LIMIT_BYTES:
            return self._lines(text)
        events = []
        for event in text.split(b"\n\n"):
            if event.startswith(b"data: ") and b"\n" not in event:
                events.append(event[6:])
            elif event:
                events += self._lines(event + b"\n\n")
        return events

    def _lines(self, text: bytes) -> list[bytes]:
        events: list[bytes] = []
        # A CR at the very end may be half of a CRLF: keep it until more is known.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = (
            text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        )
        self._rest = lines.pop() + held
        for line in lines:
            self._line(line, events)
        _refuse_beyond_limit(len(self._rest) - len(held))
        return events

    def _line(self, line: bytes, events: list[bytes]) -> None:
        _refuse_beyond_limit(len(line))
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data, self._size = [], 0
        elif line.startswith(b"data:") or line == b"data":
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            # Whole lines count: an event of empty ones must not grow without end either.
            self._size += len(line)
            _refuse_beyond_limit(self._size)


def _refuse_beyond_limit(size: int) -> None:
    if size > LINE_LIMIT_BYTES:
        raise UpstreamInvalid(
            f"The upstream sent an event larger than {LINE_LIMIT_BYTES} bytes.",
            code="upstream_invalid_stream",
        )
