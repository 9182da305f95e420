"""The load generator: its own process that takes jobs as JSON lines and answers with outcomes.

Loops are plain functions over a `Crew`. Processor time is read here, next to the first and the last
byte, not in the runner, so that no message between processes lies inside the measured time.
"""

import contextlib
import sys
import time

import msgspec

from loadtests.bench import jobs, measure
from loadtests.bench.crew import Answer, Crew

_MAX_PROBLEMS = 3
_QUIET_S = 0.3
_OPEN_LOOP_CONNECTIONS = 4


class _Meter:
    """Processor time and memory of the system under test; measures nothing when there is none."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu = measure.CpuMeter(pid)

    def settle(self) -> None:
        if self._pid:
            measure.settle(self._pid)

    def start(self) -> None:
        if self._pid:
            self._cpu.start()

    def stop(self) -> float:
        return self._cpu.stop() if self._pid else 0.0

    def load_memory_mb(self) -> float:
        return measure.load_memory(self._pid).pss_mb if self._pid else 0.0


class _Tally:
    """Collects the answers of one job."""

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []
        self.problems: list[str] = []
        self.requests = 0

    def add(self, answers: list[Answer]) -> None:
        for answer in answers:
            self.requests += 1
            if answer.problem is None:
                self.latencies_ns.append(answer.latency_ns)
            elif len(self.problems) < _MAX_PROBLEMS:
                self.problems.append(answer.problem)

    def has_failed(self) -> bool:
        """One wrong answer is enough: a job with a problem has no figures, so it need not go on."""
        return bool(self.problems)


def run(job: jobs.AnyJob) -> jobs.Outcome:
    """Do one job."""
    crew = Crew(job)
    meter = _Meter(job.endpoint.pid)
    meter.settle()
    try:
        match job:
            case jobs.ClosedLoop():
                return _run_closed_loop(job, crew, meter)
            case jobs.OpenLoop():
                return _run_open_loop(job, crew, meter)
            case jobs.Crowd():
                return _run_crowd(job, crew, meter)
            case jobs.Hold():
                return _run_hold(job, crew, meter)
    except (OSError, measure.TreeChanged) as exc:
        return jobs.Outcome(problems=[f"{type(exc).__name__}: {exc}"])
    finally:
        crew.close()


def _run_closed_loop(job: jobs.ClosedLoop, crew: Crew, meter: _Meter) -> jobs.Outcome:
    """Measure from the first request of the loop until deferred work (logs, ledger) is done too."""
    tally = _warm_up(job, crew, job.connections)
    if tally.has_failed():
        return jobs.Outcome(problems=tally.problems)
    clients, crew.idle = crew.idle, []
    crew.lags_ns.clear()
    meter.start()
    begin_s = time.perf_counter()
    sent = 0
    for client in clients:
        crew.send(client)
        sent += 1
    while crew.waiting and not tally.has_failed() and _left_s(job, begin_s) > 0:
        answers = crew.poll(_left_s(job, begin_s))
        tally.add(answers)
        for _ in answers:
            if tally.has_failed():
                break
            if sent < job.max_requests and time.perf_counter() - begin_s < job.max_s:
                crew.send()
                sent += 1
    seconds = time.perf_counter() - begin_s
    _report_unanswered(crew, tally)
    measure.pause(job.deferred_s)
    outcome = _close_tally(tally, crew, seconds)
    outcome.cpu_s = meter.stop()
    return outcome


def _warm_up(job: jobs.Job, crew: Crew, connections: int) -> _Tally:
    """Connect so many clients and let each ask once; only problems count."""
    tally = _Tally()
    begin_s = time.perf_counter()
    for _ in range(connections):
        crew.send(crew.connect())
    while crew.waiting and not tally.has_failed() and _left_s(job, begin_s) > 0:
        tally.add(crew.poll(_left_s(job, begin_s)))
    _report_unanswered(crew, tally)
    tally.latencies_ns.clear()
    tally.requests = 0
    return tally


def _run_open_loop(job: jobs.OpenLoop, crew: Crew, meter: _Meter) -> jobs.Outcome:
    """Send on the beat; a late answer delays no later request."""
    tally = _warm_up(job, crew, _OPEN_LOOP_CONNECTIONS)
    if tally.has_failed():
        return jobs.Outcome(problems=tally.problems)
    late_ns = []
    total = int(job.requests_per_s * job.max_s)
    interval_ns = int(1e9 / job.requests_per_s)
    meter.start()
    begin_s = time.perf_counter()
    first_ns = time.monotonic_ns() + interval_ns
    for number in range(total):
        due_ns = first_ns + number * interval_ns
        while (left_ns := due_ns - time.monotonic_ns()) > 0:
            tally.add(crew.poll(left_ns / 1e9))
        late_ns.append(-left_ns)
        crew.send()
    while crew.waiting and not tally.has_failed() and _left_s(job, begin_s) > 0:
        tally.add(crew.poll(_left_s(job, begin_s)))
    seconds = time.perf_counter() - begin_s
    _report_unanswered(crew, tally)
    outcome = _close_tally(tally, crew, seconds)
    outcome.cpu_s = meter.stop()
    outcome.late_p99_ms = sorted(late_ns)[int(len(late_ns) * 0.99)] / 1e6
    return outcome


def _run_crowd(job: jobs.Crowd, crew: Crew, meter: _Meter) -> jobs.Outcome:
    """Open all streams, measure in a window in which all of them run, then see each to its end."""
    tally = _Tally()
    begin_s = time.perf_counter()
    _open_streams(job, crew, tally)
    _let_run(crew, tally, _QUIET_S)
    opening_s = time.perf_counter() - begin_s
    if opening_s > job.opening_s and not tally.has_failed():
        tally.problems.append(f"took {opening_s:.1f} s instead of {job.opening_s} to open all")
    if tally.has_failed():
        return jobs.Outcome(problems=tally.problems)
    before = len(crew.lags_ns)
    meter.start()
    window_start_s = time.perf_counter()
    _let_run(crew, tally, job.window_s)
    if tally.requests:
        return jobs.Outcome(problems=[*tally.problems, "a stream ended inside the window"])
    seconds = time.perf_counter() - window_start_s
    cpu_s = meter.stop()
    lags_ns = crew.lags_ns[before:]
    while crew.waiting and not tally.has_failed() and _left_s(job, begin_s) > 0:
        tally.add(crew.poll(_left_s(job, begin_s)))
    _report_unanswered(crew, tally)
    outcome = jobs.Outcome(
        problems=tally.problems,
        requests=tally.requests,
        chunks=len(lags_ns),
        seconds=seconds,
        cpu_s=cpu_s,
    )
    outcome.set_lags(lags_ns)
    return outcome


def _run_hold(job: jobs.Hold, crew: Crew, meter: _Meter) -> jobs.Outcome:
    """Compare the memory without and with the open streams; then leave them."""
    tally = _Tally()
    before_mb = meter.load_memory_mb()
    _open_streams(job, crew, tally)
    _let_run(crew, tally, _QUIET_S)
    return jobs.Outcome(
        problems=tally.problems,
        requests=job.streams,
        memory_mb=meter.load_memory_mb() - before_mb,
    )


def _let_run(crew: Crew, tally: _Tally, seconds: float) -> None:
    """Read what comes for a while."""
    end_s = time.perf_counter() + seconds
    while (left_s := end_s - time.perf_counter()) > 0:
        tally.add(crew.poll(left_s))


def _open_streams(job: jobs.Crowd | jobs.Hold, crew: Crew, tally: _Tally) -> None:
    """Start all streams and wait until each has brought content."""
    begin_s = time.perf_counter()
    for _ in range(job.streams):
        crew.send(crew.connect())
        tally.add(crew.poll(0))
    while crew.streaming < job.streams and not tally.requests:
        if _left_s(job, begin_s) <= 0:
            tally.problems.append(f"only {crew.streaming} of {job.streams} streams came to content")
            return
        tally.add(crew.poll(0.05))
    if tally.requests and not tally.problems:
        tally.problems.append("a stream ended before all were open")


def _close_tally(tally: _Tally, crew: Crew, seconds: float) -> jobs.Outcome:
    outcome = jobs.Outcome(
        problems=tally.problems,
        requests=tally.requests,
        chunks=len(crew.lags_ns),
        seconds=seconds,
    )
    outcome.set_latencies(tally.latencies_ns)
    outcome.set_lags(crew.lags_ns)
    return outcome


def _report_unanswered(crew: Crew, tally: _Tally) -> None:
    if crew.waiting and not tally.has_failed():
        tally.problems.append(f"{crew.waiting} requests without a whole answer in time")


def _left_s(job: jobs.Job, begin_s: float) -> float:
    return begin_s + job.limit_s - time.perf_counter()


def main() -> int:
    """Do the jobs that come on standard input, one a line, until it closes."""
    decoder = msgspec.json.Decoder(jobs.AnyJob)
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(msgspec.json.encode(run(decoder.decode(line))) + b"\n")
            sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
