"""Tests of the little statistics."""

import pytest

from loadtests.bench.figures import find_median, find_ratio, percentile


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_percentile_is_a_value_that_occurred(share: float, expected: float) -> None:
    """Nearest rank: nothing is interpolated."""
    assert percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_percentile_of_one_value_is_that_value() -> None:
    """Few samples are no reason to fail."""
    assert percentile([3.0], 0.99) == 3.0


def test_median_over_rounds() -> None:
    """Half way between the two in the middle; None of nothing."""
    assert find_median({0: 1.0, 1: 9.0, 2: 2.0}) == 2.0
    assert find_median({0: 1.0, 5: 2.0}) == 1.5
    assert find_median({}) is None


def test_ratio_is_paired_by_round() -> None:
    """What slows both systems in one round leaves the ratio alone; lonely rounds do not count."""
    ours = {0: 10.0, 1: 20.0, 2: 10.0, 7: 1.0}
    theirs = {0: 100.0, 1: 200.0, 2: 100.0, 8: 1.0}
    assert find_ratio(ours, theirs) == pytest.approx(0.1)
    assert find_ratio({0: 1.0}, {1: 1.0}) is None
    assert find_ratio({0: 1.0}, {0: 0.0}) is None
