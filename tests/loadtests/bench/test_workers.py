"""Tests of the benchmark's own two processes, really started."""

from collections.abc import Callable

from loadtests.bench import measure
from loadtests.bench.jobs import ClosedLoop
from loadtests.bench.workers import LoadProcess, UpstreamProcess


def test_load_process_measures_the_upstream_process(
    closed_loop: Callable[..., ClosedLoop],
) -> None:
    """A job goes in as a line, its outcome comes back; both processes end with the block."""
    with UpstreamProcess(("bench",)) as upstream, LoadProcess() as load:
        outcome = load.run(closed_loop(upstream.port))
    assert outcome.problems == []
    assert outcome.requests == 2
    assert measure.load_tree(upstream.pid) == measure.load_tree(load.pid) == []
