"""A stream on its way to the client: kept alive in silence, never ended as whole when it is not."""

import errno
from collections.abc import Iterator
from typing import Protocol

from gateway.kernel.clock import Monotonic, monotonic
from gateway.kernel.errors import ClientGone, Draining, GatewayError
from gateway.kernel.logs import Log
from gateway.kernel.sse import KEEPALIVE, frame
from gateway.web.errors import encode, translate
from gateway.web.incoming import Headers

HEADERS: Headers = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]


class StreamCut(ConnectionResetError):
    """Ends a chunked body without its last chunk.

    gunicorn closes the connection silently on exactly this errno; any other exception is logged
    with a traceback, or worse, answered with a second status line inside the body.
    """

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "stream ended abnormally")


class Source(Protocol):
    """Blocks of a stream; ``b""`` means silence so far."""

    def __next__(self) -> bytes:
        """Return the next block; raise StopIteration at a good end, GatewayError at a bad one."""

    def failed(self, error: GatewayError) -> None:
        """Note what ended the stream."""

    def close(self) -> None:
        """Release everything; safe to call twice."""


class StreamBody:
    """The iterable that gunicorn writes.

    Holds the answer back until there is something to say, so that an early failure is still a
    real HTTP error; after a silence of ``heartbeat_s`` it says that it is alive.
    """

    __slots__ = (
        "_clock",
        "_cut",
        "_first",
        "_heartbeat_s",
        "_log",
        "_request_id",
        "_sent_s",
        "_source",
    )

    def __init__(
        self,
        source: Source,
        heartbeat_s: float,
        request_id: str,
        log: Log,
        clock: Monotonic = monotonic,
    ) -> None:
        self._source = source
        self._heartbeat_s = heartbeat_s
        self._request_id = request_id
        self._log = log
        self._clock = clock
        self._cut = False
        self._sent_s = clock()
        try:
            self._first = self._pull()
        except StopIteration:
            self._first = b""
        except BaseException as error:
            if isinstance(error, Exception):
                source.failed(translate(error))
            source.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        """Return the next bytes for the client.

        Raises:
            StreamCut: The stream ended badly; the client has been told in its last event.
        """
        if self._first:
            block, self._first = self._first, b""
            return block
        if self._cut:
            raise StreamCut
        try:
            return self._pull()
        except StopIteration:
            raise
        except BaseException as error:  # noqa: BLE001  # after the first byte any end is a cut stream
            return self._told(error)

    def close(self) -> None:
        """Release the source; gunicorn calls this however the answer ended."""
        self._source.close()

    def _pull(self) -> bytes:
        while True:
            block = next(self._source)
            now_s = self._clock()
            if block:
                self._sent_s = now_s
                return bytes(block)
            if now_s - self._sent_s >= self._heartbeat_s:
                self._sent_s = now_s
                return KEEPALIVE

    def _told(self, error: BaseException) -> bytes:
        self._cut = True
        if not isinstance(error, Exception):
            error = Draining("This server is stopping; send the request again.", retry_after_s=1)
        failure = translate(error)
        if failure is not error:
            self._log.error("unexpected error in a stream", error, request_id=self._request_id)
        self._source.failed(failure)
        if isinstance(failure, ClientGone):
            raise StreamCut
        return frame(encode(failure, self._request_id))
