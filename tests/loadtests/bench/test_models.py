"""Tests of the model names that tell the fake upstream what to do."""

import pytest

from loadtests.bench import models


def test_names_and_behaviours_fit_together() -> None:
    """What the writers write, the reader reads."""
    assert models.find_behaviour(models.burst(100)) == models.Behaviour(100, 0.0)
    assert models.find_behaviour(models.paced(40, 50)) == models.Behaviour(40, 0.05)
    assert models.find_behaviour(models.PLAIN) == models.Behaviour(models.PLAIN_CHUNKS, 0.0)


@pytest.mark.parametrize("name", ["", "gpt-4o", "bench-burst-", "bench-paced-4x", "bench-burst-1x"])
def test_other_names_mean_nothing(name: str) -> None:
    """A name that is only nearly right is refused, not guessed."""
    assert models.find_behaviour(name) is None
