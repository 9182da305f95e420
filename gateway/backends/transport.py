"""The one door to the upstreams on the hot path: pooled connections, four clocks, hard caps.

Connections, pool and waiting are ours, because geventhttpclient's own pool judges every connection
dead above descriptor 1,023 and its ``read(n)`` waits for n bytes.
"""

import errno
import math
import ssl
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from geventhttpclient._parser import HTTPParseError

from gateway.backends.connection import Connection, Parser, open_connection
from gateway.backends.resolver import Resolver
from gateway.backends.settings import BackendSettings
from gateway.kernel.deadline import Deadline
from gateway.kernel.errors import (
    UpstreamCut,
    UpstreamError,
    UpstreamInvalid,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.web.wait import Wait

ERROR_LIMIT_BYTES = 65_536
REFUSAL_S = 2.0
STALE_S = 0.25
"""How soon a stale connection shows itself; after longer the work may have been done."""
HEAD_LIMIT_BYTES = 65_536
"""The parser itself has no cap: 20 MB of one header were swallowed in a test."""
IDLE_POOL_SIZE = 256


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each phase of one exchange with an upstream may take, in seconds."""

    connect_s: float
    first_byte_s: float
    idle_s: float

    @classmethod
    def of(cls, settings: BackendSettings) -> "Timeouts":
        """Return the house's defaults."""
        return cls(
            settings.connect_timeout_s, settings.first_byte_timeout_s, settings.idle_timeout_s
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the head of an answer may take, and how often its caller wants a sign of waiting."""

    first_byte_s: float
    beat_s: float = math.inf


Opening = Generator[bytes, None, "Response"]
"""Yields ``b""`` at each beat without an answer; returns the answer once its head is there."""


class Response:
    """An upstream's answer, head read, body to come."""

    def __init__(
        self,
        connection: Connection,
        pool: "Pool",
        wait: Wait,
        deadline: Deadline,
        first_byte_s: float,
    ) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._wait = wait
        self._deadline = deadline
        self._first_byte_s = first_byte_s
        self.status: int = connection.parser.get_code()
        self.headers: Mapping[str, str] = connection.parser.headers

    def blocks(self, beat_s: float) -> Iterator[bytes]:
        """Yield the body as it comes; ``b""`` each time nothing came for ``beat_s``.

        Raises:
            UpstreamTimeout: Silence longer than the idle limit, or the total time is over.
            UpstreamCut: The connection broke inside the body.
            ClientGone: The caller left.
        """
        wait, parser = self._wait, self._parser()
        heard_s, began = wait.now(), bool(parser.body)
        if began:
            yield self._take(parser)
        while not parser.complete:
            now_s = wait.now()
            silence_s = self._pool.timeouts.idle_s if began else self._first_byte_s
            ends_s = min(heard_s + silence_s, self._deadline.ends_at_s)
            data = self._receive(min(now_s + beat_s, ends_s))
            if data:
                heard_s = wait.now()
                if parser.body:
                    began = True
                    yield self._take(parser)
            elif data is None and wait.now() >= ends_s:
                raise _late(self._deadline, silence_s, began=began)
            elif data is None:
                yield b""
            else:
                return

    def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            UpstreamInvalid: It is larger than the limit.
            UpstreamCut: It ended early.
            UpstreamTimeout, ClientGone: As for ``blocks``.
        """
        parts, size = [], 0
        for block in self.blocks(self._pool.timeouts.idle_s):
            parts.append(block)
            size += len(block)
            if size > limit_bytes:
                raise UpstreamInvalid(f"The upstream's answer is larger than {limit_bytes} bytes.")
        if not self._parser().complete:
            raise UpstreamCut("The upstream closed the connection inside its answer.")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_refusal(self) -> bytes:
        """Return the body of a refusal; nothing when it is too large, compressed or cut off.

        The status already tells what the answer means, so a bad body must not hide it.

        Raises:
            ClientGone: The caller left.
        """
        if self.headers.get("content-encoding", "identity") != "identity":
            return b""
        # Its own short clock: a refusal without its body must not hold up the next target.
        ends_s = min(self._deadline.ends_at_s, self._wait.now() + REFUSAL_S)
        self._deadline = Deadline(ends_s, self._deadline.clock)
        try:
            return self.read(ERROR_LIMIT_BYTES)
        except UpstreamError:
            return b""

    def close(self, *, ending: bool = False) -> None:
        """Give the connection back if its answer is complete, else close it. Safe to call twice.

        Args:
            ending: The answer ends here, though its last bytes may still be on their way.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection, ending=ending)

    def _parser(self) -> Parser:
        if self._connection is None:
            raise RuntimeError("the answer was closed")
        return self._connection.parser

    def _take(self, parser: Parser) -> bytes:
        block = bytes(parser.body)
        parser.body.clear()
        return block

    def _receive(self, wake_at_s: float) -> bytes | None:
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = connection.receive(self._wait, wake_at_s)
            if data is not None:
                connection.parser.feed(data)
        except HTTPParseError as error:
            if not data:
                return b""
            raise UpstreamInvalid("The upstream's answer is not HTTP.") from error
        except OSError as error:
            raise UpstreamCut("The connection to the upstream broke inside its answer.") from error
        return data


class Pool:
    """Connections to one upstream, the most recently used first.

    Shared: One a process and upstream. The list changes only between switches of greenlets.
    """

    def __init__(
        self, url: str, timeouts: Timeouts, resolver: Resolver, tls: ssl.SSLContext | None = None
    ) -> None:
        parts: SplitResult = urlsplit(url)
        self.timeouts = timeouts
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = tls if parts.scheme == "https" else None
        self._host_header = parts.netloc.rpartition("@")[2]
        self._resolver = resolver
        self._idle: list[Connection] = []

    def request(
        self,
        head: bytes,
        body: bytes,
        wait: Wait,
        deadline: Deadline,
        *,
        patient: bool = False,
    ) -> Response:
        """Send a request and return its answer once the head is there.

        A pooled connection that turns out to be stale (ended before any byte came) is replaced by a
        fresh one, once.

        Args:
            head: Request line and headers without Host, Content-Length and the empty line.
            patient: Let only the total time bound the wait for the first byte: an answer that is
                not streamed is sent when the model has finished, minutes later perhaps.

        Raises:
            UpstreamUnreachable, UpstreamReset, UpstreamTimeout, UpstreamInvalid, ClientGone.
        """
        pace = Pace(math.inf if patient else self.timeouts.first_byte_s)
        opening = self._open(self._message(head, body), wait, deadline, pace)
        while True:
            try:
                next(opening)
            except StopIteration as end:
                response: Response = end.value
                return response

    def opening(
        self, head: bytes, body: bytes, wait: Wait, deadline: Deadline, beat_s: float
    ) -> Opening:
        """Send a request as ``request`` does, with a sign at each beat until the head is there."""
        pace = Pace(self.timeouts.first_byte_s, beat_s)
        return self._open(self._message(head, body), wait, deadline, pace)

    def give_back(self, connection: Connection, *, ending: bool = False) -> None:
        """Keep a connection whose answer is complete (or about to be), close any other."""
        parser = connection.parser
        reusable = parser.headers_complete and not parser.parser_failed()
        if reusable and not parser.complete:
            reusable = connection.is_alive() or (ending and not parser.parser_failed())
        if reusable and parser.should_keep_alive() and len(self._idle) < IDLE_POOL_SIZE:
            self._idle.append(connection)
        else:
            connection.close()

    def weed(self) -> None:
        """Close the idle connections that the upstream has closed: some are never taken again."""
        idle, self._idle = self._idle, []
        for connection in idle:
            if connection.is_alive():
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close every idle connection."""
        while self._idle:
            self._idle.pop().close()

    def _checked_out(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                connection.reset()
                return connection
            connection.close()
        return None

    def _message(self, head: bytes, body: bytes) -> bytes:
        return b"%s\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (
            head, self._host_header.encode("ascii"), len(body), body,
        )  # fmt: skip

    def _open(self, message: bytes, wait: Wait, deadline: Deadline, pace: Pace) -> Opening:
        connection = self._checked_out()
        if connection is not None:
            began_s = wait.now()
            try:
                return (yield from self._exchange(connection, message, wait, deadline, pace))
            except UpstreamReset:
                if connection.heard or wait.now() - began_s > STALE_S:
                    raise
        fresh = self._connect(wait, deadline)
        return (yield from self._exchange(fresh, message, wait, deadline, pace))

    def _exchange(
        self, connection: Connection, message: bytes, wait: Wait, deadline: Deadline, pace: Pace
    ) -> Opening:
        until_s = min(wait.now() + pace.first_byte_s, deadline.ends_at_s)
        try:
            connection.send(message, wait, until_s)
            yield from self._read_head(connection, wait, deadline, pace)
        except OSError as error:
            connection.close()
            raise UpstreamReset("The upstream closed the connection before it answered.") from error
        except BaseException:
            connection.close()
            raise
        return Response(connection, self, wait, deadline, pace.first_byte_s)

    @staticmethod
    def _read_head(
        connection: Connection, wait: Wait, deadline: Deadline, pace: Pace
    ) -> Iterator[bytes]:
        until_s = min(wait.now() + pace.first_byte_s, deadline.ends_at_s)
        parser, received = connection.parser, 0
        while not parser.headers_complete:
            data = connection.receive(wait, min(until_s, wait.now() + pace.beat_s))
            if data is None:
                if wait.now() >= until_s:
                    raise _late(deadline, pace.first_byte_s, began=False)
                yield b""
                continue
            if not data:
                if received:
                    raise UpstreamInvalid("The upstream ended inside the head of its answer.")
                raise ConnectionResetError(errno.ECONNRESET, "closed before any byte")
            received += len(data)
            try:
                parser.feed(data)
            except HTTPParseError as error:
                raise UpstreamInvalid("The upstream's answer is not HTTP.") from error
            if received > HEAD_LIMIT_BYTES and not parser.headers_complete:
                raise UpstreamInvalid(
                    f"The head of the upstream's answer is larger than {HEAD_LIMIT_BYTES} bytes."
                )
        if sum(len(name) + len(value) for name, value in parser.headers.items()) > HEAD_LIMIT_BYTES:
            raise UpstreamInvalid(
                f"The head of the upstream's answer is larger than {HEAD_LIMIT_BYTES} bytes."
            )

    def _connect(self, wait: Wait, deadline: Deadline) -> Connection:
        until_s = min(wait.now() + self.timeouts.connect_s, deadline.ends_at_s)
        failure: UpstreamError = UpstreamUnreachable("The upstream's name has no address.")
        for address in self._resolver.find(self._host, self._port, wait, until_s):
            try:
                return open_connection(address, self._tls, self._host, wait, until_s)
            except UpstreamError as error:
                failure = error
        raise failure


def _late(deadline: Deadline, silence_s: float, *, began: bool) -> UpstreamTimeout:
    """Return the error for a clock that ran out: the total, the first byte's or the silence's."""
    if deadline.passed():
        return UpstreamTimeout("The answer took longer than this request may take.")
    if began:
        return UpstreamTimeout(
            f"The upstream was silent for {silence_s:g} s.", code="upstream_stalled"
        )
    return UpstreamTimeout(
        f"The upstream sent no answer within {silence_s:g} s.", code="upstream_first_token_timeout"
    )
