"""Tests of the scenario table."""

import pytest

from loadtests.bench import jobs, models, scenarios
from loadtests.bench.results import METRICS
from loadtests.bench.scenarios import FULL, QUICK, SCENARIOS, Scenario, Size
from loadtests.bench.systems import FULL_CROWD, SYSTEMS

ENDPOINT = jobs.Endpoint(1, "/", {})
OUTCOME = jobs.Outcome(
    requests=100,
    chunks=1000,
    seconds=2.0,
    cpu_s=0.05,
    latency_p50_ms=1.0,
    latency_p99_ms=2.0,
    lag_p50_ms=3.0,
    lag_p99_ms=4.0,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_reads_the_metrics_it_names(scenario: Scenario) -> None:
    """What is dropped with wrong answers is all that was added."""
    figures = scenario.read(OUTCOME)
    assert tuple(figures) == scenario.metrics
    assert set(figures) - {"p50_ms", "p99_ms"} <= METRICS.keys()
    assert None not in figures.values()


@pytest.mark.parametrize("size", [QUICK, FULL], ids=["quick", "full"])
def test_all_models_of_a_run_are_known_beforehand(size: Size) -> None:
    """LiteLLM must be told every model, and the fake upstream must understand it."""
    shapes = [system.crowd for system in SYSTEMS.values()]
    known = scenarios.find_models(size, shapes)
    asked = {
        scenario.write_job(size, ENDPOINT, shape).model
        for scenario in SCENARIOS
        for shape in shapes
    }
    asked |= {job.model for job in scenarios.light_warm_up(ENDPOINT)}
    asked |= {job.model for job in scenarios.heavy_warm_up(size, ENDPOINT)}
    asked.add(scenarios.hold_job(size, ENDPOINT).model)
    assert asked <= set(known)
    assert all(models.find_behaviour(model) for model in known)


def test_crowd_streams_outlast_opening_and_window() -> None:
    """Otherwise streams end while they are measured."""
    behaviour = models.find_behaviour(scenarios.crowd_model(FULL, FULL_CROWD))
    assert behaviour is not None
    lasts_s = behaviour.chunks * behaviour.interval_s
    assert lasts_s >= FULL_CROWD.opening_s + FULL.crowd_window_s - behaviour.interval_s


def test_figures_are_microseconds_of_processor_time() -> None:
    """50 ms over 100 requests are 500 microseconds each."""
    small = SCENARIOS[0].read(OUTCOME)
    assert small == {"small_us": pytest.approx(500.0), "small_rps": pytest.approx(50.0)}
