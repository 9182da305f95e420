"""What is measured: the two sizes of a run, and each scenario as a row of data."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec

from loadtests.bench import jobs, models
from loadtests.bench.systems import CrowdShape

OPEN_LOOP_REQUESTS_PER_S = 100
BURST_CHUNKS = 100
LONG_PROMPT_CHARS = 20_000
CONNECTIONS = 8
# Gateways begin to work on a stream's end before their client sees it.
_CROWD_SPARE_S = 0.3
CROWD = "crowd"
HOLD_MODEL = models.paced(300, 1000)


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; ``starts`` are fresh starts for start time and memory."""

    starts: int
    closed_s: float
    small_rounds: int
    prompt_rounds: int
    burst_rounds: int
    open_s: float
    open_rounds: int
    crowd_window_s: float
    crowd_rounds: int
    hold_streams: int


QUICK = Size(
    starts=1,
    closed_s=0.3,
    small_rounds=3,
    prompt_rounds=1,
    burst_rounds=1,
    open_s=1.6,
    open_rounds=1,
    crowd_window_s=0.8,
    crowd_rounds=1,
    hold_streams=200,
)
FULL = Size(
    starts=3,
    closed_s=1.5,
    small_rounds=7,
    prompt_rounds=5,
    burst_rounds=5,
    open_s=5.0,
    open_rounds=5,
    crowd_window_s=2.5,
    crowd_rounds=3,
    hold_streams=400,
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One way of loading a system.

    Attributes:
        metrics: Names of the figures that `read` returns.
        write_job: Makes the job for an endpoint; the shape is of its crowd.
        read: Takes the figures by metric out of an outcome.
        find_rounds: How many rounds of a size this scenario takes part in.
        with_direct: Whether the upstream itself is measured too, for what is subtracted.
    """

    name: str
    metrics: tuple[str, ...]
    write_job: Callable[[Size, jobs.Endpoint, CrowdShape], jobs.AnyJob]
    read: Callable[[jobs.Outcome], dict[str, float | None]]
    find_rounds: Callable[[Size], int]
    with_direct: bool = False
    is_latency: bool = False


def _small(size: Size, endpoint: jobs.Endpoint, _: CrowdShape) -> jobs.AnyJob:
    return _closed(size, endpoint, models.PLAIN)


def _long_prompt(size: Size, endpoint: jobs.Endpoint, _: CrowdShape) -> jobs.AnyJob:
    return _closed(size, endpoint, models.PLAIN, prompt_chars=LONG_PROMPT_CHARS)


def _burst(size: Size, endpoint: jobs.Endpoint, _: CrowdShape) -> jobs.AnyJob:
    return _closed(size, endpoint, models.burst(BURST_CHUNKS), stream=True)


def _closed(
    size: Size,
    endpoint: jobs.Endpoint,
    model: str,
    *,
    stream: bool = False,
    prompt_chars: int = 0,
) -> jobs.ClosedLoop:
    return jobs.ClosedLoop(
        endpoint=endpoint,
        model=model,
        stream=stream,
        prompt_chars=prompt_chars,
        connections=CONNECTIONS,
        max_s=size.closed_s,
    )


def _rate(size: Size, endpoint: jobs.Endpoint, _: CrowdShape) -> jobs.AnyJob:
    return jobs.OpenLoop(
        endpoint=endpoint,
        model=models.PLAIN,
        requests_per_s=OPEN_LOOP_REQUESTS_PER_S,
        max_s=size.open_s,
    )


def crowd_model(size: Size, shape: CrowdShape) -> str:
    """Name the model whose streams outlast the opening and the window of a crowd."""
    lasts_s = shape.opening_s + size.crowd_window_s + _CROWD_SPARE_S
    return models.paced(int(lasts_s * 1000 / shape.interval_ms), shape.interval_ms)


def _crowd(size: Size, endpoint: jobs.Endpoint, shape: CrowdShape) -> jobs.AnyJob:
    return jobs.Crowd(
        endpoint=endpoint,
        model=crowd_model(size, shape),
        stream=True,
        streams=shape.streams,
        opening_s=shape.opening_s,
        window_s=size.crowd_window_s,
    )


def hold_job(size: Size, endpoint: jobs.Endpoint) -> jobs.Hold:
    """Make the job that opens streams for their memory."""
    return jobs.Hold(endpoint=endpoint, model=HOLD_MODEL, stream=True, streams=size.hold_streams)


def light_warm_up(endpoint: jobs.Endpoint) -> list[jobs.ClosedLoop]:
    """Make the jobs after which a fresh process has imported what it needs."""
    return [
        jobs.ClosedLoop(
            endpoint=endpoint,
            model=models.PLAIN,
            stream=stream,
            connections=2,
            max_requests=100,
            max_s=0.3,
            deferred_s=0.0,
        )
        for stream in (False, True)
    ]


def heavy_warm_up(size: Size, endpoint: jobs.Endpoint) -> list[jobs.ClosedLoop]:
    """Make the jobs after which a process has seen every kind of work."""
    return [
        msgspec.structs.replace(job, deferred_s=0.0)
        for job in (
            _closed(size, endpoint, models.PLAIN, prompt_chars=LONG_PROMPT_CHARS),
            _closed(size, endpoint, models.burst(BURST_CHUNKS), stream=True),
        )
    ]


def find_models(size: Size, shapes: Iterable[CrowdShape]) -> tuple[str, ...]:
    """List every model that a run asks for, for systems that must be told beforehand."""
    crowds = sorted({crowd_model(size, shape) for shape in shapes})
    return (models.PLAIN, models.burst(BURST_CHUNKS), HOLD_MODEL, *crowds)


def _read_small(outcome: jobs.Outcome) -> dict[str, float | None]:
    return {
        "small_us": outcome.cpu_s * 1e6 / outcome.requests,
        "small_rps": outcome.requests / outcome.seconds,
    }


def _read_long_prompt(outcome: jobs.Outcome) -> dict[str, float | None]:
    return {"prompt_us": outcome.cpu_s * 1e6 / outcome.requests}


def _read_burst(outcome: jobs.Outcome) -> dict[str, float | None]:
    return {"burst_us": outcome.cpu_s * 1e6 / outcome.chunks}


def _read_crowd(outcome: jobs.Outcome) -> dict[str, float | None]:
    return {
        "crowd_us": outcome.cpu_s * 1e6 / outcome.chunks,
        "crowd_lag_p50_ms": outcome.lag_p50_ms,
        "crowd_lag_p99_ms": outcome.lag_p99_ms,
    }


def _read_rate(outcome: jobs.Outcome) -> dict[str, float | None]:
    return {"p50_ms": outcome.latency_p50_ms, "p99_ms": outcome.latency_p99_ms}


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="small",
        metrics=("small_us", "small_rps"),
        write_job=_small,
        read=_read_small,
        find_rounds=lambda size: size.small_rounds,
    ),
    Scenario(
        name="prompt-20k",
        metrics=("prompt_us",),
        write_job=_long_prompt,
        read=_read_long_prompt,
        find_rounds=lambda size: size.prompt_rounds,
    ),
    Scenario(
        name="burst",
        metrics=("burst_us",),
        write_job=_burst,
        read=_read_burst,
        find_rounds=lambda size: size.burst_rounds,
    ),
    Scenario(
        name=CROWD,
        metrics=("crowd_us", "crowd_lag_p50_ms", "crowd_lag_p99_ms"),
        write_job=_crowd,
        read=_read_crowd,
        find_rounds=lambda size: size.crowd_rounds,
        is_latency=True,
    ),
    Scenario(
        name="rate-100",
        metrics=("p50_ms", "p99_ms"),
        write_job=_rate,
        read=_read_rate,
        find_rounds=lambda size: size.open_rounds,
        with_direct=True,
        is_latency=True,
    ),
)
