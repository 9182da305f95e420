"""Tests of the loops: figures from a right upstream, problems from each kind of broken one."""

from collections.abc import Callable

import msgspec
import pytest

from loadtests.bench import canned, jobs, load, models
from loadtests.bench.fake_upstream import FakeUpstream
from loadtests.bench.jobs import ClosedLoop

MakeJob = Callable[..., ClosedLoop]
Serve = Callable[[list[bytes]], int]

STREAM = canned.stream_script("bench", models.PLAIN_CHUNKS, with_usage=False).at_once(1)


def test_closed_loop_counts_checked_answers(upstream: FakeUpstream, closed_loop: MakeJob) -> None:
    """The warm-up does not count; every counted answer has a latency."""
    outcome = load.run(closed_loop(upstream.port))
    assert outcome.problems == []
    assert outcome.requests == 2
    assert (outcome.latency_p50_ms or 0) > 0


def test_closed_loop_reads_back_lags_of_streams(
    upstream: FakeUpstream, closed_loop: MakeJob
) -> None:
    """Each chunk of each stream of the loop is counted."""
    outcome = load.run(closed_loop(upstream.port, models.burst(50), stream=True))
    assert outcome.problems == []
    assert outcome.chunks == 100
    assert 0 < (outcome.lag_p50_ms or 0) < 1000


def test_open_loop_sends_all_on_time(upstream: FakeUpstream, closed_loop: MakeJob) -> None:
    """So many requests leave as the rate and the time say."""
    endpoint = closed_loop(upstream.port).endpoint
    job = jobs.OpenLoop(endpoint=endpoint, model="bench", requests_per_s=500, max_s=0.05)
    outcome = load.run(job)
    assert outcome.problems == []
    assert outcome.requests == 25
    assert outcome.late_p99_ms is not None


def test_crowd_counts_the_chunks_of_its_window(
    upstream: FakeUpstream, closed_loop: MakeJob
) -> None:
    """Chunks before the window do not count, streams are seen to their end."""
    endpoint = closed_loop(upstream.port).endpoint
    job = jobs.Crowd(
        endpoint=endpoint,
        model=models.paced(90, 5),
        stream=True,
        streams=4,
        opening_s=0.4,
        window_s=0.03,
    )
    outcome = load.run(job)
    assert outcome.problems == []
    assert outcome.requests == 4
    assert 0 < outcome.chunks < 180


def test_crowd_of_short_streams_is_refused(upstream: FakeUpstream, closed_loop: MakeJob) -> None:
    """A window in which not all streams run would measure something else."""
    endpoint = closed_loop(upstream.port).endpoint
    job = jobs.Crowd(
        endpoint=endpoint,
        model=models.paced(2, 5),
        stream=True,
        streams=2,
        opening_s=1.0,
        window_s=1.0,
    )
    assert load.run(job).problems


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (canned.refusal("500 Internal Server Error", "boom"), "status 500: "),
        (STREAM[:-5], "closed inside the reply"),
        (canned.stream_script("bench", 7, with_usage=False).at_once(1), "7 content chunks"),
        (STREAM.replace(b"00003@", b"00004@"), "out of order"),
        (canned.completion("bench"), "content chunks instead of"),
    ],
)
def test_broken_stream_is_a_problem(
    serve: Serve, closed_loop: MakeJob, reply: bytes, words: str
) -> None:
    """A gateway that answers wrongly gets no figure."""
    port = serve([STREAM, reply])
    outcome = load.run(closed_loop(port, stream=True))
    assert words in outcome.problems[0]


def test_nobody_there_is_a_problem(closed_loop: MakeJob, serve: Serve) -> None:
    """A connection that is closed at once is reported, not raised."""
    outcome = load.run(closed_loop(serve([])))
    assert outcome.requests == 0
    assert outcome.problems


def test_silence_is_a_problem(serve: Serve, closed_loop: MakeJob) -> None:
    """An answer that does not come in time counts against the system."""
    port = serve([canned.completion("bench"), b""])
    job = msgspec.structs.replace(closed_loop(port), limit_s=0.05)
    assert load.run(job).problems
