"""Counts kept in plain dictionaries and handed to prometheus_client once a second.

In multiprocess mode each of its increments takes a lock, asks for the process id and packs a double
into a mapped file: nine of them cost a request 25 µs and more. Here a request pays for dictionary
updates only; a killed worker loses at most one second of counts.
"""

from bisect import bisect_left
from typing import Any

from prometheus_client import Histogram

Labels = tuple[str, ...]


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once."""

    def add(self, total: float, by_bucket: list[int]) -> None:
        """Add observations: their sum, and how many fell into each bucket."""
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, by_bucket, strict=True):
            if count:
                bucket.inc(count)


class CounterTally:
    """Increments of one counter since the last flush.

    Shared: All greenlets of a process add; none switches inside.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._pending: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1) -> None:
        """Count."""
        self._pending[labels] = self._pending.get(labels, 0) + amount

    def flush(self) -> None:
        """Hand everything over."""
        pending, self._pending = self._pending, {}
        for labels, amount in pending.items():
            (self._metric.labels(*labels) if labels else self._metric).inc(amount)


class HistogramTally:
    """Observations of one histogram since the last flush.

    Shared: As for ``CounterTally``.
    """

    def __init__(self, metric: BulkHistogram, bounds: tuple[float, ...]) -> None:
        self._metric = metric
        self._bounds = bounds
        self._pending: dict[Labels, tuple[list[float], list[int]]] = {}

    def add(self, labels: Labels, value: float) -> None:
        """Observe."""
        found = self._pending.get(labels)
        if found is None:
            found = self._pending[labels] = ([0.0], [0] * (len(self._bounds) + 1))
        found[0][0] += value
        found[1][bisect_left(self._bounds, value)] += 1

    def flush(self) -> None:
        """Hand everything over."""
        pending, self._pending = self._pending, {}
        for labels, (total, by_bucket) in pending.items():
            metric = self._metric.labels(*labels) if labels else self._metric
            metric.add(total[0], by_bucket)
