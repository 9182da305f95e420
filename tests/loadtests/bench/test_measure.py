"""Tests of what is read from the kernel, on this very process."""

import os
import subprocess
import sys

import pytest

from loadtests.bench import measure


def _spin(limit_ns: int) -> None:
    begin_ns = measure.load_cpu_ns(os.getpid())
    while measure.load_cpu_ns(os.getpid()) - begin_ns < limit_ns:
        pass


def test_meter_counts_the_processor_time_of_the_tree() -> None:
    """Ten milliseconds of work are seen as such, finer than the kernel's ticks."""
    meter = measure.CpuMeter(os.getpid())
    meter.start()
    _spin(10_000_000)
    assert 0.01 <= meter.stop() < 0.1


def test_tree_holds_the_children_and_loses_the_dead() -> None:
    """A child is part of the tree while it runs; a figure that lacks one is void."""
    meter = measure.CpuMeter(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in measure.load_tree(os.getpid())
        meter.start()
    assert child.pid not in measure.load_tree(os.getpid())
    with pytest.raises(measure.TreeChanged):
        meter.stop()


def test_nobody_has_no_tree_no_birth_and_no_memory() -> None:
    """An id that means no process is not an error."""
    nobody = 2**22 + 1
    assert measure.load_tree(nobody) == []
    assert measure.find_birth(nobody) is None
    assert measure.load_memory(nobody) == measure.Memory(0.0, 0.0)


def test_memory_is_shared_fairly() -> None:
    """Proportional memory is never more than resident memory."""
    memory = measure.load_memory(os.getpid())
    assert 1 < memory.pss_mb <= memory.rss_mb


def test_pinning_ends_with_the_block() -> None:
    """What starts inside is pinned, what comes after is as free as before."""
    before = os.sched_getaffinity(0)
    processor = min(before)
    with measure.pinned_to(processor):
        assert os.sched_getaffinity(0) == {processor}
    with measure.pinned_to(None):
        assert os.sched_getaffinity(0) == before


def test_two_processors_are_different() -> None:
    """The gateway gets another processor than the load, or none is chosen."""
    processors = measure.find_processors()
    assert processors is None or processors[0] != processors[1]
