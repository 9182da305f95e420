"""One JSON line per event on standard output, made only of fields that were declared harmless."""

import json
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from gateway.kernel.clock import utc_now

LEVELS: Mapping[str, int] = MappingProxyType(
    {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
)

FIELDS = frozenset(
    "attempts backend bytes_in bytes_out checks code count duration_ms endpoint error exception "
    "method model models port principal reason request_id setting status stream tokens_in "
    "tokens_out ttft_ms upstream url version workers".split()
)
"""Every field a line may carry; others are dropped, so a new secret cannot slip in by accident."""

Sink = Callable[[bytes], object]


def _to_stdout(line: bytes) -> object:
    # One write of at most PIPE_BUF bytes is atomic, so lines of several workers never mix. A full
    # disk or a closed pipe must not fail the request that is being logged.
    try:
        return os.write(1, line)
    except OSError:
        return None


class Log:
    """Writes events at or above a level.

    Shared: Stateless after construction; one serves all greenlets.
    """

    def __init__(self, level: str = "INFO", sink: Sink = _to_stdout) -> None:
        self._level = LEVELS[level]
        self._sink = sink

    def info(self, event: str, **fields: Any) -> None:
        """Record that something happened."""
        self._write("INFO", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Record something an operator should look at."""
        self._write("WARNING", event, fields)

    def error(self, event: str, error: BaseException | None = None, **fields: Any) -> None:
        """Record a defect with the place it came from, not its message, which may hold secrets."""
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)[-6:]
            fields["exception"] = type(error).__name__ + "".join(
                f" < {Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames)
            )
        self._write("ERROR", event, fields)

    def _write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if LEVELS[level] < self._level:
            return
        record = {"timestamp": utc_now(), "level": level, "event": event}
        record.update({k: v for k, v in fields.items() if k in FIELDS and v is not None})
        try:
            line = orjson.dumps(record, default=str, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:
            # Half a character or a number beyond 64 bits must not fail the request it comes from.
            text = json.dumps(record, default=str, ensure_ascii=False)
            line = text.encode("utf-8", "replace") + b"\n"
        self._sink(line)
