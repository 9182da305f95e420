"""Model names of the benchmark: the name alone tells the fake upstream how to answer."""

import re
from dataclasses import dataclass

PLAIN = "bench"
PLAIN_CHUNKS = 8

_BURST = re.compile(r"bench-burst-(\d{1,5})")
_PACED = re.compile(r"bench-paced-(\d{1,5})x(\d{1,5})ms")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How one model streams: so many content chunks, so far apart (0: all in one write)."""

    chunks: int
    interval_s: float


def burst(chunks: int) -> str:
    """Name the model whose stream is written at once."""
    return f"bench-burst-{chunks}"


def paced(chunks: int, interval_ms: int) -> str:
    """Name the model whose stream comes one chunk at a time."""
    return f"bench-paced-{chunks}x{interval_ms}ms"


def find_behaviour(model: str) -> Behaviour | None:
    """Read the behaviour out of a model's name; None when the name means nothing here."""
    if model == PLAIN:
        return Behaviour(PLAIN_CHUNKS, 0.0)
    if match := _BURST.fullmatch(model):
        return Behaviour(int(match[1]), 0.0)
    if match := _PACED.fullmatch(model):
        return Behaviour(int(match[1]), int(match[2]) / 1000)
    return None
