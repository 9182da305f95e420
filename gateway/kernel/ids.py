"""Identifiers: random, short, and safe to print in a header or a log line."""

import os
import re
from urllib.parse import quote

_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_HEADER_LIMIT = 128


class _Random:
    """Random bytes, taken from the system a few hundred ids at a time.

    Shared: One a process; a forked child starts with none, or it would repeat its parent's ids.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._used = 0
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Throw away what is left."""
        self._bytes, self._used = b"", 0

    def take(self) -> bytes:
        """Return 12 bytes that nobody else gets."""
        if self._used >= len(self._bytes):
            self._bytes, self._used = os.urandom(_BYTES * 256), 0
        start = self._used
        self._used = start + _BYTES
        return self._bytes[start : start + _BYTES]


_BYTES = 12
_random = _Random()


def new_id(prefix: str) -> str:
    """Return ``prefix-`` and 24 random hex digits (96 bits)."""
    return f"{prefix}-{_random.take().hex()}"


def request_id_from(offered: str | None) -> str:
    """Return the caller's own request id when it is harmless, else a new one."""
    if offered and _SANE_ID.fullmatch(offered):
        return offered
    return new_id("req")


def header_safe(value: str) -> str:
    """Return a value that may stand in any HTTP header: printable ASCII, at most 128 characters."""
    if value.isascii() and value.isprintable() and len(value) <= _HEADER_LIMIT:
        return value
    encoded = quote(value, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~", errors="surrogatepass")
    return encoded[:_HEADER_LIMIT]
