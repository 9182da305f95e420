"""Identifiers: random, short, and safe to print in a header or a log line."""

import os
import re
from urllib.parse import quote

_SANE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_HEADER_LIMIT = 128


def new_id(prefix: str) -> str:
    """Return ``prefix-`` and 24 random hex digits (96 bits)."""
    return f"{prefix}-{os.urandom(12).hex()}"


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
