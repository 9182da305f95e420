"""The figures of a run by system, metric and round; what could not be measured, and why."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from loadtests.bench import figures

DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity; smaller is better in all but ``small_rps``."""

    name: str
    title: str
    digits: int


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("small_us", "CPU \N{MICRO SIGN}s/request, small", 0),
        Metric("small_rps", "requests/s on one core", 0),
        Metric("prompt_us", "CPU \N{MICRO SIGN}s/request, 20 kB prompt", 0),
        Metric("burst_us", "CPU \N{MICRO SIGN}s/chunk, burst of 100", 1),
        Metric("crowd_us", "CPU \N{MICRO SIGN}s/chunk, crowd", 1),
        Metric("crowd_lag_p50_ms", "chunk lag p50, crowd, ms", 2),
        Metric("crowd_lag_p99_ms", "chunk lag p99, crowd, ms", 2),
        Metric("added_p50_ms", "added p50 at 100/s, ms", 2),
        Metric("added_p99_ms", "added p99 at 100/s, ms", 2),
        Metric("stream_mb", "MB per 1,000 streams", 1),
        Metric("cold_start_s", "cold start, s", 2),
        Metric("idle_mb", "idle PSS, MB", 0),
    )
}

_ADDED = {"p50_ms": "added_p50_ms", "p99_ms": "added_p99_ms"}


@dataclass(slots=True)
class Results:
    """Everything a run found.

    Attributes:
        problems: By system, what was wrong in which scenario; such a scenario has no figures.
        skipped: Systems that were not started, with the reason.
        remarks: What makes a figure doubtful though all answers were right.
        versions: Of the systems that were started, in the order of the table.
    """

    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    skipped: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    _values: dict[tuple[str, str], dict[int, float]] = field(
        default_factory=lambda: defaultdict(dict)
    )

    def add(self, system: str, metric: str, number: int, value: float | None) -> None:
        """Record one figure of one round."""
        if value is not None:
            self._values[system, metric][number] = value

    def by_round(self, system: str, metric: str) -> Mapping[int, float]:
        """Return the figures of one metric by round; empty when not measured.

        Added latencies are differences to the upstream itself, asked directly in the same round.
        """
        for source, added in _ADDED.items():
            if metric == added:
                direct = self._values.get((DIRECT, source), {})
                own = self._values.get((system, source), {})
                return {
                    number: own[number] - direct[number] for number in own.keys() & direct.keys()
                }
        return self._values.get((system, metric), {})

    def find_median(self, system: str, metric: str) -> float | None:
        """Return the median over the rounds."""
        return figures.find_median(self.by_round(system, metric))

    def find_ratio(self, metric: str, system: str, other: str) -> float | None:
        """Return the median of the ratios of two systems, round by round."""
        return figures.find_ratio(self.by_round(system, metric), self.by_round(other, metric))

    def drop(self, system: str, metrics: set[str]) -> None:
        """Forget figures that turned out to be void."""
        for metric in metrics:
            self._values.pop((system, metric), None)

    def to_json(self) -> dict[str, object]:
        """Return all raw figures for a file.

        Shape: ``{"versions", "skipped", "problems", "remarks", "figures"}``, the last as
            ``{system: {metric: {round: value}}}``.
        """
        table: dict[str, dict[str, dict[int, float]]] = defaultdict(dict)
        for (system, metric), values in self._values.items():
            table[system][metric] = dict(values)
        return {
            "versions": self.versions,
            "skipped": self.skipped,
            "problems": dict(self.problems),
            "remarks": self.remarks,
            "figures": dict(table),
        }
