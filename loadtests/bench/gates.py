"""The gates of the design as a table of data, and their verdict over a run's results."""

import enum
from dataclasses import dataclass

from loadtests.bench.results import METRICS, Results
from loadtests.bench.systems import OURS


@dataclass(frozen=True, slots=True)
class Gate:
    """Our figure may not exceed the limit; ``against`` a peer it is the ratio to the peer's."""

    metric: str
    limit: float
    stretch: float
    against: str | None = None

    @property
    def title(self) -> str:
        """What is measured, for people."""
        title = METRICS[self.metric].title
        return f"{title}, against {self.against}" if self.against else title


GATES: tuple[Gate, ...] = (
    Gate("small_us", 350, 180),
    Gate("small_us", 1 / 18, 1 / 35, against="litellm"),
    Gate("small_us", 1 / 4, 1 / 8, against="portkey"),
    Gate("burst_us", 10, 6),
    Gate("crowd_us", 45, 35),
    Gate("added_p50_ms", 0.9, 0.5),
    Gate("added_p99_ms", 3, 1.5),
    Gate("stream_mb", 40, 25),
    Gate("cold_start_s", 1.5, 0.6),
    Gate("idle_mb", 120, 90),
)


class State(enum.Enum):
    """How a gate stands."""

    PASSED = "passed"
    FAILED = "FAILED"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One gate over one run."""

    gate: Gate
    state: State
    value: float | None


def judge(results: Results, gates: tuple[Gate, ...] = GATES) -> list[Verdict]:
    """Hold the results against the gates."""
    return [_judge_one(results, gate) for gate in gates]


def _judge_one(results: Results, gate: Gate) -> Verdict:
    """A figure that our own mistakes made void fails its gate; a missing peer does not."""
    if gate.against is None:
        value = results.find_median(OURS, gate.metric)
    else:
        value = results.find_ratio(gate.metric, OURS, gate.against)
    if value is not None:
        state = State.PASSED if value <= gate.limit else State.FAILED
    elif OURS in results.problems and results.find_median(OURS, gate.metric) is None:
        state = State.FAILED
    else:
        state = State.NOT_MEASURED
    return Verdict(gate, state, value)
