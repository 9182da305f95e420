"""Tests of the gates: each must be able to go red."""

import pytest

from loadtests.bench.gates import GATES, Gate, State, judge
from loadtests.bench.results import METRICS, Results
from loadtests.bench.systems import SYSTEMS


def _results(**figures: float) -> Results:
    results = Results(versions={"ours": "1.0"})
    for metric, value in figures.items():
        results.add("ours", metric, 0, value)
    return results


@pytest.mark.parametrize("gate", GATES)
def test_gates_name_metrics_and_systems_that_exist(gate: Gate) -> None:
    """The stretch is harder than the limit."""
    assert gate.metric in METRICS
    assert gate.against is None or gate.against in SYSTEMS
    assert gate.stretch < gate.limit


@pytest.mark.parametrize(
    ("value", "state"), [(349.0, State.PASSED), (350.0, State.PASSED), (351.0, State.FAILED)]
)
def test_limit_itself_passes(value: float, state: State) -> None:
    """At most the limit, not less than it."""
    (verdict,) = judge(_results(small_us=value), (Gate("small_us", 350, 180),))
    assert (verdict.state, verdict.value) == (state, value)


@pytest.mark.parametrize(("peer", "state"), [(3600.0, State.PASSED), (3599.0, State.FAILED)])
def test_ratio_gate_needs_only_the_ratio(peer: float, state: State) -> None:
    """A slow machine slows both."""
    results = _results(small_us=200.0)
    results.add("litellm", "small_us", 0, peer)
    (verdict,) = judge(results, (Gate("small_us", 1 / 18, 1 / 35, against="litellm"),))
    assert verdict.state is state


def test_gate_without_its_peer_is_not_measured() -> None:
    """A peer that is not installed is no failure of ours."""
    (verdict,) = judge(_results(small_us=1.0), (Gate("small_us", 1 / 18, 1 / 35, "litellm"),))
    assert verdict.state is State.NOT_MEASURED


def test_our_wrong_answers_fail_their_gate() -> None:
    """No figure because of our own mistake is not the same as not measured."""
    results = _results(small_us=1.0)
    results.problems["ours"].append("burst: 99 content chunks instead of 100")
    small, burst = judge(results, (Gate("small_us", 350, 180), Gate("burst_us", 10, 6)))
    assert small.state is State.PASSED
    assert burst.state is State.FAILED


def test_nothing_measured_passes_no_gate() -> None:
    """An empty run is not a green one."""
    assert {verdict.state for verdict in judge(Results())} == {State.NOT_MEASURED}
