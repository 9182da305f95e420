"""The benchmark's own two processes, fake upstream and load generator, seen from the runner."""

import json
import select
import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec

from loadtests.bench import jobs
from loadtests.bench.processes import stop
from loadtests.bench.systems import REPOSITORY

_START_LIMIT_S = 20.0
_SPARE_S = 60.0


class WorkerFailed(Exception):
    """The fake upstream or the load generator itself does not answer: nothing can be measured."""


class _Worker:
    """A Python module that runs as a process and speaks in lines."""

    def __init__(self, module: str, arguments: list[str]) -> None:
        self._name = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> Self:
        """Return the worker, which runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process."""
        stop(self._process)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _write_line(self, line: bytes) -> None:
        if self._process.stdin is None:
            raise WorkerFailed(self._name)
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _read_line(self, limit_s: float) -> bytes:
        output = self._process.stdout
        if output is None or not select.select([output], [], [], limit_s)[0]:
            raise WorkerFailed(f"{self._name} did not answer in {limit_s:.0f} s")
        line = output.readline()
        if not line:
            raise WorkerFailed(f"{self._name} ended")
        return line


class UpstreamProcess(_Worker):
    """The fake upstream; knows its port once it runs."""

    def __init__(self, listed_models: tuple[str, ...]) -> None:
        arguments = [word for model in listed_models for word in ("--model", model)]
        super().__init__("loadtests.bench.fake_upstream", arguments)
        self.port = int(json.loads(self._read_line(_START_LIMIT_S))["port"])


class LoadProcess(_Worker):
    """The load generator."""

    def __init__(self) -> None:
        super().__init__("loadtests.bench.load", [])

    def run(self, job: jobs.AnyJob) -> jobs.Outcome:
        """Do one job and wait for its outcome.

        Raises:
            WorkerFailed: The generator itself has failed.
        """
        self._write_line(msgspec.json.encode(job))
        line = self._read_line(2 * job.limit_s + _SPARE_S)
        return msgspec.json.decode(line, type=jobs.Outcome)
