"""Tests of the lines between runner and load generator."""

import msgspec
import pytest

from loadtests.bench import jobs

ENDPOINT = jobs.Endpoint(8800, "/v1/chat/completions", {"X-API-Key": "k"}, 42)


@pytest.mark.parametrize(
    "job",
    [
        jobs.ClosedLoop(endpoint=ENDPOINT, model="bench", connections=8, max_s=1.0),
        jobs.OpenLoop(endpoint=ENDPOINT, model="bench", requests_per_s=100, max_s=1.0),
        jobs.Crowd(
            endpoint=ENDPOINT, model="bench", stream=True, streams=3, opening_s=1.0, window_s=1.0
        ),
        jobs.Hold(endpoint=ENDPOINT, model="bench", stream=True, streams=3),
    ],
)
def test_job_survives_the_line(job: jobs.AnyJob) -> None:
    """The kind of a job is written with it."""
    assert msgspec.json.decode(msgspec.json.encode(job), type=jobs.AnyJob) == job


def test_outcome_fills_in_percentiles_in_milliseconds() -> None:
    """Without samples there is no percentile, not zero."""
    outcome = jobs.Outcome()
    outcome.set_latencies([])
    outcome.set_lags([1_000_000, 2_000_000, 3_000_000])
    assert outcome.latency_p50_ms is None
    assert (outcome.lag_p50_ms, outcome.lag_p99_ms) == (2.0, 3.0)
