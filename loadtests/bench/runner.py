"""Runs the comparison: starts the systems, takes the rounds in shuffled order, collects figures."""

import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from loadtests.bench import jobs, measure, scenarios, starting
from loadtests.bench.processes import find_free_ports
from loadtests.bench.results import DIRECT, Results
from loadtests.bench.scenarios import SCENARIOS, Scenario, Size
from loadtests.bench.starting import NotReady, Running
from loadtests.bench.systems import CHAT_PATH, FULL_CROWD, OURS, CrowdShape, Site, System
from loadtests.bench.workers import LoadProcess, UpstreamProcess

_PER_STREAMS = 1000
_LATE_LIMIT_MS = 5.0
_SATURATED_SHARE = 0.9
_ORDINARY_PRIORITY = "latencies were taken at ordinary priority: other work shows in them"

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Options:
    """What a person chose on the command line."""

    size: Size
    systems: tuple[System, ...]
    ours_env: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    realtime: bool = True


class Progress:
    """Says on standard error what is going on."""

    def __init__(self) -> None:
        self._begin_s = time.perf_counter()

    def say(self, text: str) -> None:
        """Write one line with the time since the beginning."""
        sys.stderr.write(f"[{time.perf_counter() - self._begin_s:6.1f} s] {text}\n")
        sys.stderr.flush()


class Comparison:
    """One run over all chosen systems; `run` ends everything that it started."""

    def __init__(self, options: Options, folder: Path, processor: int | None) -> None:
        self._options = options
        self._folder = folder
        self._processor = processor
        self._realtime = options.realtime
        self._random = random.Random(options.seed)
        self._progress = Progress()
        self._results = Results()
        self._running: dict[str, Running] = {}
        self._void: set[tuple[str, str]] = set()
        shapes = [system.crowd for system in options.systems]
        self._models = scenarios.find_models(options.size, shapes)

    def run(self) -> Results:
        """Measure everything.

        Raises:
            WorkerFailed: The benchmark's own processes do not work.
        """
        if not self._realtime:
            self._results.remarks.append(_ORDINARY_PRIORITY)
        with UpstreamProcess(self._models) as upstream, LoadProcess() as load:
            try:
                self._measure_starts(upstream, load)
                self._measure_rounds(upstream, load)
            finally:
                for running in self._running.values():
                    running.child.stop()
        return self._results

    def _measure_starts(self, upstream: UpstreamProcess, load: LoadProcess) -> None:
        """Start each system afresh so many times; the last start stays for the rounds."""
        chosen = [system for system in self._options.systems if self._is_installed(system)]
        for number in range(self._options.size.starts):
            for system in self._shuffled(chosen):
                if system.name in self._results.skipped:
                    continue
                if earlier := self._running.pop(system.name, None):
                    earlier.child.stop()
                self._measure_start(system, number, upstream, load)
        self._results.versions = {
            system.name: system.find_version() for system in chosen if system.name in self._running
        }

    def _is_installed(self, system: System) -> bool:
        missing = system.find_missing()
        if missing is not None:
            self._results.skipped[system.name] = missing
            self._progress.say(f"{system.name} is skipped: {missing}")
        return missing is None

    def _measure_start(
        self, system: System, number: int, upstream: UpstreamProcess, load: LoadProcess
    ) -> None:
        port, spare_port = find_free_ports(2)
        folder = self._folder / f"{system.name}-{number}"
        folder.mkdir()
        extra_env = self._options.ours_env if system.name == OURS else {}
        site = Site(port, spare_port, upstream.port, folder, self._models, extra_env)
        try:
            running = starting.start(system, site, self._processor)
        except NotReady as exc:
            self._results.skipped[system.name] = str(exc).partition("\n")[0]
            self._progress.say(f"{system.name} does not start: {exc}")
            return
        self._running[system.name] = running
        self._results.add(system.name, "cold_start_s", number, running.cold_start_s)
        self._measure_memory(running, number, load)

    def _measure_memory(self, running: Running, number: int, load: LoadProcess) -> None:
        """Take the memory of the idle process, then what open streams add to it.

        What is imported or compiled once belongs to the idle process, so light work comes before;
        heavy work comes after, because a heap that it has grown takes the streams in for nothing.
        """
        name, size = running.system.name, self._options.size
        for job in scenarios.light_warm_up(running.endpoint):
            self._is_right(name, "warm-up", load.run(job))
        measure.settle(running.child.pid)
        idle_mb = measure.load_memory(running.child.pid).pss_mb
        self._results.add(name, "idle_mb", number, idle_mb)
        outcome = load.run(scenarios.hold_job(size, running.endpoint))
        stream_mb = outcome.memory_mb * _PER_STREAMS / size.hold_streams
        if self._is_right(name, "open streams", outcome):
            self._results.add(name, "stream_mb", number, stream_mb)
        for job in scenarios.heavy_warm_up(size, running.endpoint):
            self._is_right(name, "warm-up", load.run(job))
        self._progress.say(
            f"start {number + 1}/{size.starts}  {name:8} cold start {running.cold_start_s:.2f} s,"
            f" idle {idle_mb:.0f} MB, {stream_mb:.1f} MB per {_PER_STREAMS} streams"
        )

    def _measure_rounds(self, upstream: UpstreamProcess, load: LoadProcess) -> None:
        size = self._options.size
        for number in range(max(scenario.find_rounds(size) for scenario in SCENARIOS)):
            for scenario in SCENARIOS:
                if number >= scenario.find_rounds(size):
                    continue
                names = [*self._running, DIRECT] if scenario.with_direct else [*self._running]
                for name in self._shuffled(names):
                    if (name, scenario.name) not in self._void:
                        self._measure(scenario, name, number, upstream, load)

    def _measure(
        self,
        scenario: Scenario,
        name: str,
        number: int,
        upstream: UpstreamProcess,
        load: LoadProcess,
    ) -> None:
        running = self._running.get(name)
        endpoint = running.endpoint if running else jobs.Endpoint(upstream.port, CHAT_PATH, {})
        shape = running.system.crowd if running else FULL_CROWD
        job = scenario.write_job(self._options.size, endpoint, shape)
        with self._before_other_work(scenario, [endpoint.pid, upstream.pid, load.pid]):
            outcome = load.run(job)
        if not self._is_right(name, scenario.name, outcome):
            self._results.drop(name, set(scenario.metrics))
            return
        figures = scenario.read(outcome)
        for metric, value in figures.items():
            self._results.add(name, metric, number, value)
        self._remark(name, scenario, outcome, shape)
        shown = ", ".join(
            f"{key} {value:.2f}" for key, value in figures.items() if value is not None
        )
        rounds = scenario.find_rounds(self._options.size)
        self._progress.say(f"round {number + 1}/{rounds}  {scenario.name:10} {name:8} {shown}")

    def _is_right(self, name: str, scenario: str, outcome: jobs.Outcome) -> bool:
        """A single wrong answer voids a scenario for a system, for the whole run."""
        if not outcome.problems and not outcome.requests:
            outcome.problems.append("nothing was answered")
        if outcome.problems:
            self._void.add((name, scenario))
            self._results.problems[name].append(f"{scenario}: {outcome.problems[0]}")
            self._progress.say(f"{name}: {scenario}: wrong answers: {outcome.problems}")
        return not outcome.problems

    def _remark(
        self, name: str, scenario: Scenario, outcome: jobs.Outcome, shape: CrowdShape
    ) -> None:
        """Note what makes a figure doubtful though all answers were right."""
        if (outcome.late_p99_ms or 0.0) > _LATE_LIMIT_MS:
            late = f"the load generator was {outcome.late_p99_ms:.1f} ms late at p99"
            self._results.remarks.append(f"{name}, {scenario.name}: {late}")
        if scenario.name != scenarios.CROWD:
            return
        offered = shape.streams * 1000 / shape.interval_ms
        taken = outcome.chunks / outcome.seconds
        if taken < _SATURATED_SHARE * offered:
            saturated = f"{taken:,.0f} of {offered:,.0f} chunks/s were delivered: saturated"
            self._results.remarks.append(f"{name}, {scenario.name}: {saturated}")

    @contextlib.contextmanager
    def _before_other_work(self, scenario: Scenario, pids: list[int]) -> Iterator[None]:
        """Keep other work of the machine out of latencies, where the system allows it."""
        wanted = [pid for pid in pids if pid] if scenario.is_latency and self._realtime else []
        try:
            for pid in wanted:
                measure.set_realtime(pid, on=True)
        except PermissionError:
            self._realtime = False
            self._results.remarks.append(_ORDINARY_PRIORITY)
        try:
            yield
        finally:
            for pid in wanted if self._realtime else ():
                measure.set_realtime(pid, on=False)

    def _shuffled(self, items: Sequence[_Item]) -> list[_Item]:
        return self._random.sample(items, len(items))
