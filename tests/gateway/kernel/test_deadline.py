"""A deadline passes on the clock it was given, and on no other."""

from gateway.kernel.deadline import Deadline
from tests.fakes.clock import FakeClock


def test_the_seconds_left_shrink_as_the_clock_moves(clock: FakeClock):
    deadline = Deadline.after(10, clock)

    clock.advance(4)

    assert deadline.remaining_s() == 6
    assert not deadline.passed()


def test_it_has_passed_from_its_very_moment_on(clock: FakeClock):
    deadline = Deadline.after(10, clock)

    clock.advance(10)

    assert deadline.passed()
    assert deadline.remaining_s() == 0


def test_what_remains_is_negative_afterwards(clock: FakeClock):
    deadline = Deadline.after(10, clock)

    clock.advance(12.5)

    assert deadline.remaining_s() == -2.5
    assert deadline.passed()


def test_without_a_clock_it_reads_the_monotonic_one():
    assert 3599 < Deadline.after(3600).remaining_s() <= 3600
