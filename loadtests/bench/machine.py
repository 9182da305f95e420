"""Says on what kind of machine a run was: enough to judge the numbers, nothing that names it."""

import os
import platform
import re
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_INFO = Path("/proc/meminfo")


def describe() -> str:
    """Describe processor, memory, kernel, Python and load in one line, without names or paths."""
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    return (
        f"{os.cpu_count()} x {_processor()}, {_memory_gb()} GB, "
        f"{platform.system()} {kernel}, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f} before the run"
    )


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text(), re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def _memory_gb() -> int:
    match = re.search(r"^MemTotal:\s*(\d+) kB$", _MEMORY_INFO.read_text(), re.MULTILINE)
    return round(int(match[1]) / 1024**2) if match else 0
