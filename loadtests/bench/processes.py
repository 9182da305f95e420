"""Starting and ending child processes: pinned, on free loopback ports, ended by their own ids."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench import measure

_STOP_LIMIT_S = 6.0
_LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run: the whole environment is given, nothing is inherited by accident."""

    argv: Sequence[str]
    env: Mapping[str, str]
    folder: Path


class Child:
    """A running program whose output goes to a log file."""

    def __init__(self, command: Command, log: Path, processor: int | None) -> None:
        self._log = log
        with log.open("wb") as output, measure.pinned_to(processor):
            self._process = subprocess.Popen(
                command.argv,
                env=dict(command.env),
                cwd=command.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The id of the tree's root."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the program is over."""
        return self._process.poll() is not None

    def last_words(self) -> str:
        """Return the end of the log, for a person to read."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(f"    {line[:300]}" for line in lines[-_LOG_LINES:])

    def stop(self) -> None:
        """End the program: politely, then each process that is left of its tree by force."""
        births = {pid: measure.find_birth(pid) for pid in measure.load_tree(self.pid)}
        stop(self._process)
        for pid, birth in births.items():
            if birth is not None and measure.find_birth(pid) == birth:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End one child process and wait for it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def find_free_ports(count: int) -> list[int]:
    """Find loopback ports that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def base_environment(folder: Path) -> dict[str, str]:
    """Return the few variables that every program needs; its home is a folder of this run."""
    return {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
    }
