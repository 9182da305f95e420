"""One connection to an upstream: opened, written, read; geventhttpclient's C parser parses it."""

import errno
import socket
import ssl
from typing import Any

import gevent
from gevent import monkey
from geventhttpclient._parser import HTTPParseError, HTTPResponseParser

from gateway.backends.resolver import Address
from gateway.backends.settings import BackendSettings
from gateway.kernel.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.web.wait import Wait

READ_BYTES = 65_536
"""At least 16,384, or bytes stay inside OpenSSL where no watcher sees them."""
_READ, _WRITE = 1, 2
_FINAL_STATUS = 200
_RawSocket = monkey.get_original("socket", "socket")


class Parser(HTTPResponseParser):
    """Collects one HTTP answer; refuses a second one on the same connection."""

    def __init__(self) -> None:
        super().__init__()
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.headers_complete = False
        self.complete = False
        self._name = ""
        self._value = ""

    def _on_message_begin(self) -> None:
        if self.complete:
            # Bytes after a finished answer would otherwise be joined to its body: one caller
            # would read another's answer.
            raise HTTPParseError("bytes after the end of the answer")

    def _on_header_field(self, text: str) -> None:
        if self.headers_complete:
            return  # trailers: nobody reads them, and they have no end of their own
        if self._value:
            self._flush()
        self._name += text

    def _on_header_value(self, text: str) -> None:
        if not self.headers_complete:
            self._value += text or " "

    def _on_headers_complete(self) -> bool:
        self._flush()
        self.headers_complete = self.get_code() >= _FINAL_STATUS
        if not self.headers_complete:
            self.headers.clear()
        return False

    def _on_body(self, data: bytes) -> None:
        self.body += data

    def _on_message_complete(self) -> None:
        self.complete = self.headers_complete

    def _on_status(self, text: str) -> None:
        """Ignore the reason phrase: it is the upstream's own words."""

    def _flush(self) -> None:
        if self._name:
            self.headers[self._name.lower()] = self._value.strip()
        self._name = self._value = ""


class Connection:
    """One socket to an upstream, used by one exchange at a time."""

    __slots__ = ("_readable", "_sock", "heard", "parser")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._readable = gevent.get_hub().loop.io(sock.fileno(), _READ)
        self.parser = Parser()
        self.heard = False

    def send(self, data: bytes, wait: Wait, until_s: float) -> None:
        """Send all of it."""
        view = memoryview(data)
        writable: Any = None
        try:
            while view:
                try:
                    view = view[self._sock.send(view) :]
                except (BlockingIOError, ssl.SSLWantWriteError):
                    writable = writable or gevent.get_hub().loop.io(self._sock.fileno(), _WRITE)
                    if not wait.until(writable, until_s):
                        raise UpstreamTimeout(
                            "The upstream did not take the request in time."
                        ) from None
        finally:
            if writable is not None:
                writable.close()

    def receive(self, wait: Wait, wake_at_s: float) -> bytes | None:
        """Return the next bytes, ``b""`` at the end, or None when the moment came first."""
        if getattr(self._sock, "pending", int)() == 0 and not wait.until(self._readable, wake_at_s):
            return None
        try:
            data: bytes = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        self.heard = self.heard or bool(data)
        return data

    def reset(self) -> None:
        """Make ready for the next answer."""
        self.parser = Parser()
        self.heard = False

    def is_alive(self) -> bool:
        """Tell whether an idle connection can carry another request.

        An answer whose last bytes came late is finished here, so that its connection is not lost.
        """
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return self.parser.complete
        except OSError:
            return False
        if not data or self.parser.complete:
            return False
        try:
            self.parser.feed(data)
        except HTTPParseError:
            return False
        return self.parser.complete

    def close(self) -> None:
        """Close the socket."""
        self._readable.stop()
        self._readable.close()
        self._sock.close()


def open_connection(
    address: Address, tls: ssl.SSLContext | None, host: str, wait: Wait, until_s: float
) -> Connection:
    """Connect to one address, with TLS when a context is given.

    Raises:
        UpstreamUnreachable, UpstreamTimeout, ClientGone.
    """
    try:
        raw = _connected(address, wait, until_s)
        return Connection(raw if tls is None else _secured(raw, tls, host, wait, until_s))
    except ssl.SSLError as error:
        raise UpstreamUnreachable(
            "The upstream's certificate or TLS handshake was refused."
        ) from error
    except OSError as error:
        raise UpstreamUnreachable(
            "The upstream refused the connection or cannot be reached.", retry_after_s=1
        ) from error


def _connected(address: Address, wait: Wait, until_s: float) -> Any:
    family, where = address
    raw = _RawSocket(family, socket.SOCK_STREAM)
    try:
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = raw.connect_ex(where)
        if failed == errno.EINPROGRESS:
            _until_ready(raw, _WRITE, wait, until_s)
            failed = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, "connect")
    except BaseException:
        raw.close()
        raise
    return raw


def _secured(raw: Any, tls: ssl.SSLContext, host: str, wait: Wait, until_s: float) -> Any:
    secured = tls.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.setblocking(False)
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                _until_ready(secured, _READ, wait, until_s)
            except ssl.SSLWantWriteError:
                _until_ready(secured, _WRITE, wait, until_s)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


def _until_ready(sock: Any, event: int, wait: Wait, until_s: float) -> None:
    watcher = gevent.get_hub().loop.io(sock.fileno(), event)
    try:
        if not wait.until(watcher, until_s):
            raise UpstreamTimeout(
                "No connection to the upstream could be made in time.",
                code="upstream_connect_timeout",
            )
    finally:
        watcher.close()


def tls_problems(settings: BackendSettings) -> list[str]:
    """Return what is wrong with the files that the TLS settings name."""
    if not settings.ca_bundle and not settings.client_cert:
        return []
    try:
        tls_context(settings)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        return [f"BACKEND_CA_BUNDLE or BACKEND_CLIENT_CERT: a file cannot be used ({reason})"]
    return []


def tls_context(settings: BackendSettings) -> ssl.SSLContext:
    """Return how certificates are checked and shown, by ``BACKEND_*`` settings."""
    context = ssl.create_default_context(cafile=settings.ca_bundle or None)
    if not settings.verify_tls and not settings.ca_bundle:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.client_cert:
        certificate, _, key = settings.client_cert.partition(",")
        context.load_cert_chain(certificate, key or None)
    return context
