"""Tests of the collected figures."""

import json

import pytest

from loadtests.bench.results import DIRECT, Results


def test_added_latency_is_the_difference_of_the_same_round() -> None:
    """Rounds without a direct figure are left out."""
    results = Results()
    for number, (own, direct) in enumerate([(1.0, 0.1), (2.0, 0.2), (9.0, None)]):
        results.add("ours", "p50_ms", number, own)
        results.add(DIRECT, "p50_ms", number, direct)
    assert results.by_round("ours", "added_p50_ms") == pytest.approx({0: 0.9, 1: 1.8})
    assert results.find_median("ours", "added_p50_ms") == pytest.approx(1.35)
    assert results.find_median("ours", "added_p99_ms") is None


def test_ratio_pairs_rounds() -> None:
    """Ours over theirs, round by round."""
    results = Results()
    for number in range(3):
        results.add("ours", "small_us", number, 10.0 * (number + 1))
        results.add("litellm", "small_us", number, 200.0 * (number + 1))
    assert results.find_ratio("small_us", "ours", "litellm") == pytest.approx(0.05)
    assert results.find_ratio("small_us", "ours", "portkey") is None


def test_dropped_figures_are_gone() -> None:
    """What turned out to be void is not reported."""
    results = Results()
    results.add("ours", "small_us", 0, 1.0)
    results.drop("ours", {"small_us", "small_rps"})
    assert results.find_median("ours", "small_us") is None


def test_json_holds_every_figure() -> None:
    """The raw figures can be written to a file."""
    results = Results(versions={"ours": "1.0"})
    results.add("ours", "small_us", 0, 1.0)
    results.problems["litellm"].append("crowd: status 500")
    written = json.loads(json.dumps(results.to_json()))
    assert written["figures"] == {"ours": {"small_us": {"0": 1.0}}}
    assert written["problems"] == {"litellm": ["crowd: status 500"]}
