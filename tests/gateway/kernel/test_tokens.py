"""The rough token count."""

import pytest

from gateway.kernel.tokens import estimate


@pytest.mark.parametrize(("size", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_four_bytes_are_a_token_and_a_begun_one_counts(size: int, tokens: int):
    assert estimate(size) == tokens
