"""The only place that reads a clock; everything else is handed one of these functions."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

Monotonic = Callable[[], float]
"""Returns seconds that never go back; only differences mean anything."""

monotonic: Monotonic = time.monotonic


def unix_seconds() -> int:
    """Return the wall clock as whole seconds since 1970 (the ``created`` fields of the API)."""
    return int(time.time())


def utc_now() -> datetime:
    """Return the wall clock as an aware UTC datetime."""
    return datetime.now(UTC)
