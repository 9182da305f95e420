"""Counts that wait in dictionaries until they are handed over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.usage.tally import BulkHistogram, CounterTally, HistogramTally

BOUNDS = (0.1, 1.0, 10.0)


@pytest.fixture
def registry():
    """A registry of its own."""
    return CollectorRegistry()


def buckets_of(registry, name):
    """Return the counts of a histogram by their upper bound, and its sum."""
    [family] = [family for family in registry.collect() if family.name == name]
    found = {s.labels.get("le"): s.value for s in family.samples if s.name.endswith("_bucket")}
    return found, registry.get_sample_value(f"{name}_sum")


def test_nothing_is_handed_over_before_the_flush(registry):
    tally = CounterTally(Counter("seen_total", "x", ("who",), registry=registry))

    tally.add(("a",))
    tally.add(("a",), 2)
    before = registry.get_sample_value("seen_total", {"who": "a"})
    tally.flush()

    assert before is None
    assert registry.get_sample_value("seen_total", {"who": "a"}) == 3


def test_a_second_flush_adds_nothing(registry):
    tally = CounterTally(Counter("seen_total", "x", registry=registry))
    tally.add(())

    tally.flush()
    tally.flush()

    assert registry.get_sample_value("seen_total") == 1


def test_what_comes_after_a_flush_is_added_by_the_next(registry):
    tally = CounterTally(Counter("seen_total", "x", registry=registry))

    for _ in range(3):
        tally.add(())
        tally.flush()

    assert registry.get_sample_value("seen_total") == 3


@given(st.lists(st.sampled_from([0.0, 0.05, 0.1, 0.11, 1.0, 5.0, 10.0, 10.1, 1e6]), max_size=30))
def test_a_bulk_histogram_counts_as_the_librarys_own_does(values):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = HistogramTally(BulkHistogram("it", "x", registry=ours, buckets=BOUNDS), BOUNDS)
    plain = Histogram("it", "x", registry=theirs, buckets=BOUNDS)

    for place, value in enumerate(values):
        tally.add((), value)
        plain.observe(value)
        if place % 7 == 0:
            tally.flush()
    tally.flush()

    (counts, total), (their_counts, their_total) = buckets_of(ours, "it"), buckets_of(theirs, "it")
    assert counts == their_counts
    assert total == pytest.approx(their_total)


def test_labels_are_kept_apart(registry):
    histogram = BulkHistogram("it", "x", ("who",), registry=registry, buckets=BOUNDS)
    tally = HistogramTally(histogram, BOUNDS)

    tally.add(("a",), 0.5)
    tally.add(("b",), 5.0)
    tally.flush()

    assert registry.get_sample_value("it_sum", {"who": "a"}) == 0.5
    assert registry.get_sample_value("it_sum", {"who": "b"}) == 5.0
