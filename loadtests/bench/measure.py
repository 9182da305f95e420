"""Processor time and memory of a whole process tree, as Linux tells them; pinning to processors."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CPU_CLOCK_OF_PROCESS = 2
_KB_PER_MB = 1024


class TreeChanged(Exception):
    """A process of the tree ended meanwhile: its processor time is lost, the figure is void."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process tree; the proportional set size shares common pages fairly."""

    pss_mb: float
    rss_mb: float


class CpuMeter:
    """Measures the processor time, user and system, of a process tree from `start` to `stop`."""

    def __init__(self, root_pid: int) -> None:
        self._root_pid = root_pid
        self._before_ns: dict[int, int] = {}

    def start(self) -> None:
        """Begin to measure.

        Raises:
            TreeChanged: A process of the tree has just gone.
        """
        self._before_ns = self._load()

    def stop(self) -> float:
        """Return the seconds of processor time since `start`; new processes count from their birth.

        Raises:
            TreeChanged: A process of the tree has gone.
        """
        after_ns = self._load()
        if gone := self._before_ns.keys() - after_ns.keys():
            raise TreeChanged(f"{len(gone)} processes of the tree ended while they were measured")
        used_ns = sum(now - self._before_ns.get(pid, 0) for pid, now in after_ns.items())
        return used_ns / 1e9

    def _load(self) -> dict[int, int]:
        try:
            return {pid: load_cpu_ns(pid) for pid in load_tree(self._root_pid)}
        except ProcessLookupError as exc:
            raise TreeChanged("a process ended while it was measured") from exc


def load_tree(root_pid: int) -> list[int]:
    """List a process and all its descendants; empty when it has gone."""
    children: dict[int, list[int]] = {}
    alive = set()
    for pid in (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()):
        if (parent := _load_parent(pid)) is not None:
            children.setdefault(parent, []).append(pid)
            alive.add(pid)
    if root_pid not in alive:
        return []
    tree = [root_pid]
    for pid in tree:  # grows meanwhile, down to the last descendant
        tree.extend(children.get(pid, ()))
    return tree


def load_cpu_ns(pid: int) -> int:
    """Read the processor time of one process, all its threads (ended ones too), in nanoseconds.

    The clock is the kernel's own for another process, as ``clock_getcpuclockid(3)`` builds it:
    finer than the 10 ms ticks of ``/proc/<pid>/stat``, complete unlike the per-thread schedstat.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK_OF_PROCESS)
    except OSError as exc:
        raise ProcessLookupError(pid) from exc


def load_memory(root_pid: int) -> Memory:
    """Read the memory of a process tree; what has ended meanwhile has none."""
    pss_kb = rss_kb = 0
    for pid in load_tree(root_pid):
        try:
            rollup = (_PROC / str(pid) / "smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
        pss_kb += int(fields["Pss"].split()[0])
        rss_kb += int(fields["Rss"].split()[0])
    return Memory(pss_kb / _KB_PER_MB, rss_kb / _KB_PER_MB)


def settle(root_pid: int, quiet_share: float = 0.1, limit_s: float = 5.0) -> None:
    """Wait until a process tree uses less than a share of one processor, or the time is up."""
    deadline = time.perf_counter() + limit_s
    meter = CpuMeter(root_pid)
    while time.perf_counter() < deadline:
        with contextlib.suppress(TreeChanged):
            meter.start()
            pause(0.1)
            if meter.stop() < 0.1 * quiet_share:
                return


def pause(seconds: float) -> None:
    """Wait; the benchmark is no gevent program."""
    time.sleep(seconds)  # noqa: TID251  # no hub here


def find_processors() -> tuple[int, int] | None:
    """Choose a processor for the gateway and one for upstream and load; None with only one."""
    processors = sorted(os.sched_getaffinity(0))
    return (processors[0], processors[1]) if len(processors) > 1 else None


@contextlib.contextmanager
def pinned_to(processor: int | None) -> Iterator[None]:
    """Pin this process for the block's time; what it starts meanwhile stays pinned."""
    if processor is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def set_realtime(root_pid: int, *, on: bool) -> None:
    """Put all threads of a process tree before (or back among) the other work of the machine.

    Raises:
        PermissionError: The system does not allow it to this user.
    """
    policy, priority = (os.SCHED_FIFO, 1) if on else (os.SCHED_OTHER, 0)
    for pid in load_tree(root_pid):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            for thread in (_PROC / str(pid) / "task").iterdir():
                os.sched_setscheduler(int(thread.name), policy, os.sched_param(priority))


def find_birth(pid: int) -> int | None:
    """Return when a process was born, in ticks since boot: ids may be used again."""
    stat = _load_stat(pid)
    return int(stat[19]) if stat else None


def _load_parent(pid: int) -> int | None:
    stat = _load_stat(pid)
    return int(stat[1]) if stat else None


def _load_stat(pid: int) -> list[str] | None:
    """Read the fields after the program's name, which may itself hold spaces; None for the dead."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields
