"""The clocks: one that never goes back, and the wall's."""

from datetime import UTC, datetime, timedelta

from gateway.kernel.clock import monotonic, unix_seconds, utc_now


def test_the_monotonic_clock_never_goes_back():
    moments = [monotonic() for _ in range(1_000)]

    assert moments == sorted(moments)


def test_the_wall_clock_is_aware_and_in_utc():
    now = utc_now()

    assert now.tzinfo is UTC
    assert abs(now - datetime.now().astimezone()) < timedelta(seconds=5)


def test_creation_times_are_whole_seconds_of_the_wall_clock():
    seconds = unix_seconds()

    assert isinstance(seconds, int)
    assert abs(seconds - utc_now().timestamp()) < 5
