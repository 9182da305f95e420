"""Whole streams, as servers really send them, come out whole however the network cuts them."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.normaliser import Normaliser
from gateway.kernel.call import Kind
from tests.fakes.calls import make_call

GOLDEN = Path(__file__).parent / "golden"
CONFORMING = sorted(path.stem for path in (GOLDEN / "conforming").glob("*.sse"))
SERVERS = sorted(path.name.split(".")[0] for path in GOLDEN.glob("*.in.sse"))
"""The servers of the contract's table; what ``mlx`` and ``transformers`` send is recorded."""


def conforming(name: str) -> tuple[bytes, Normaliser]:
    kind = Kind.COMPLETION if name == "completion" else Kind.CHAT
    call = make_call(kind, stream=True, usage=name.endswith("usage"))
    return (GOLDEN / "conforming" / f"{name}.sse").read_bytes(), Normaliser(call, call.model)


def recorded(name: str, usage: str) -> tuple[bytes, bytes, Normaliser]:
    """Return what a server sent, what a client must get, and a fresh normaliser."""
    is_path = name.startswith(("mlx", "transformers"))
    model = "models/tiny-llama" if is_path else "tiny-llama"
    call = make_call(model=model, stream=True, usage=usage == "usage")
    sent = (GOLDEN / f"{name}.in.sse").read_bytes()
    return sent, (GOLDEN / f"{name}.{usage}.sse").read_bytes(), Normaliser(call, model)


@pytest.mark.parametrize("name", CONFORMING)
def test_a_conforming_stream_passes_byte_for_byte(name):
    sent, stream = conforming(name)

    out = stream.feed(sent) + stream.finish()

    assert out == sent


@pytest.mark.parametrize("name", CONFORMING)
def test_a_conforming_stream_passes_byte_for_byte_however_it_is_cut(name):
    sent, _ = conforming(name)

    for place in range(1, len(sent)):
        _, stream = conforming(name)
        assert stream.feed(sent[:place]) + stream.feed(sent[place:]) + stream.finish() == sent


@pytest.mark.parametrize("usage", ["plain", "usage"])
@pytest.mark.parametrize("name", SERVERS)
def test_what_a_real_server_sends_is_repaired(name, usage):
    sent, wanted, stream = recorded(name, usage)

    out = stream.feed(sent) + stream.finish()

    assert out == wanted


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_real_server_sends_may_be_cut_at_every_byte(name):
    sent, wanted, _ = recorded(name, "usage")

    for place in range(1, len(sent)):
        *_, stream = recorded(name, "usage")
        out = stream.feed(sent[:place]) + stream.feed(sent[place:]) + stream.finish()
        assert out == wanted, f"cut at byte {place}"


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_real_server_sends_may_come_byte_by_byte(name):
    sent, wanted, stream = recorded(name, "plain")

    out = b"".join(stream.feed(sent[place : place + 1]) for place in range(len(sent)))

    assert out + stream.finish() == wanted


@pytest.mark.parametrize("name", SERVERS)
def test_repairing_twice_changes_nothing_more(name):
    _, wanted, stream = recorded(name, "usage")

    out = stream.feed(wanted) + stream.finish()

    assert out == wanted


@settings(max_examples=60)
@given(name=st.sampled_from(SERVERS), data=st.data())
def test_any_split_of_a_stream_gives_the_same_answer(name, data):
    sent, wanted, stream = recorded(name, "usage")
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=12)))

    edges = [0, *cuts, len(sent)]
    out = b"".join(stream.feed(sent[a:b]) for a, b in itertools.pairwise(edges))

    assert out + stream.finish() == wanted
