"""The little statistics of the benchmark: percentiles, medians, ratios paired by round."""

import math
import statistics
from collections.abc import Mapping, Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile, the smallest value that the share of all does not exceed.

    Args:
        values: In any order; must not be empty.
        share: 0.99 for the 99th percentile.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def find_median(by_round: Mapping[int, float]) -> float | None:
    """Return the median over the rounds; None when there are none."""
    return statistics.median(by_round.values()) if by_round else None


def find_ratio(numerator: Mapping[int, float], denominator: Mapping[int, float]) -> float | None:
    """Return the median of the ratios round by round; None without a common round.

    Pairing takes out what the machine did to both in one round, which a ratio of medians keeps.
    """
    ratios = [
        numerator[number] / denominator[number]
        for number in numerator.keys() & denominator.keys()
        if denominator[number]
    ]
    return statistics.median(ratios) if ratios else None
