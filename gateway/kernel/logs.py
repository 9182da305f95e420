"""One JSON line per event on standard output, made only of fields that were declared harmless."""

import json
import os
import stat
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
    "attempts backend client code duration_ms endpoint estimated exception method model models "
    "param principal reason request_id status stream tokens_in tokens_out ttft_ms upstream "
    "upstream_status upstreams version".split()
)
"""Every field a line may carry; others are dropped, so a new secret cannot slip in by accident."""

Sink = Callable[[bytes], object]


class Outlet:
    """Standard output that makes nobody wait.

    A pipe whose reader has stopped would hold a plain write, and with it every request of the
    process. So the pipe is opened once more for writing without waiting; lines that do not fit are
    dropped, and counted in the next one that does. One write of at most PIPE_BUF bytes is atomic:
    lines of several workers never mix.

    Attributes:
        dropped: Lines lost since the last one that was written.

    Shared: One a process; nothing switches inside.
    """

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._opened: int | None = None
        self.dropped = 0

    def __call__(self, line: bytes) -> None:
        """Write a line; a full disk or a closed pipe does not fail the request it tells of."""
        if self.dropped:
            lost = {"level": "ERROR", "event": "log lines dropped", "count": self.dropped}
            line = orjson.dumps({"timestamp": utc_now(), **lost}) + b"\n" + line
        try:
            if self._opened is None:
                self._opened = _without_waiting(self._descriptor)
            os.write(self._opened, line)
        except BlockingIOError:
            self.dropped += 1
        except OSError:
            return
        else:
            self.dropped = 0


def _without_waiting(descriptor: int) -> int:
    """Return a descriptor for the same place whose writes never wait; files never do anyway."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    if stat.S_ISFIFO(mode):
        try:
            # A second opening, so that whoever shares the first one keeps waiting as before.
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            os.set_blocking(descriptor, False)
    elif stat.S_ISSOCK(mode):
        os.set_blocking(descriptor, False)
    return descriptor


class Log:
    """Writes events at or above a level.

    Shared: Stateless after construction; one serves all greenlets.
    """

    def __init__(self, level: str = "INFO", sink: Sink | None = None) -> None:
        self._level = LEVELS[level]
        self._sink = sink or Outlet()

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
        record = {"timestamp": utc_now(), "level": level, "event": event, "pid": os.getpid()}
        record.update({k: v for k, v in fields.items() if k in FIELDS and v is not None})
        try:
            line = orjson.dumps(record, default=str, option=orjson.OPT_APPEND_NEWLINE)
        except orjson.JSONEncodeError:
            # Half a character or a number beyond 64 bits must not fail the request it comes from.
            text = json.dumps(record, default=str, ensure_ascii=False)
            line = text.encode("utf-8", "replace") + b"\n"
        self._sink(line)
