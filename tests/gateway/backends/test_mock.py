"""The embedded mock: the model's name is its script."""

import math
import socket
from time import perf_counter

import gevent
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backends.mock import DIMENSIONS, FAULTS, Mock, Script
from gateway.backends.normaliser import Normaliser
from gateway.kernel.call import Kind
from gateway.kernel.errors import (
    ClientGone,
    GatewayError,
    InvalidRequest,
    UpstreamBusy,
    UpstreamCredential,
    UpstreamCut,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamReset,
    UpstreamUnreachable,
)
from gateway.web.wait import Wait
from tests.fakes.backend import an_upstream
from tests.fakes.calls import make_call

MOCK = Mock(an_upstream("mock", "mock://local", serves={"gpt-4o": "mock"}), None)


def reply(wait: Wait, model: str = "mock", kind: Kind = Kind.CHAT, **fields) -> dict:
    return orjson.loads(MOCK.reply(make_call(kind, model, **fields), model, wait).body)


def stream(wait, model="mock", kind=Kind.CHAT, keep: list | None = None, **fields) -> bytes:
    """Return what a client gets of a stream, or keep it; raises what breaks it."""
    call = make_call(kind, model, stream=True, **fields)
    normaliser, out = Normaliser(call, model), [] if keep is None else keep
    for block in MOCK.stream(call, model, wait, 1.0):
        out.append(normaliser.feed(block))
        if normaliser.failure is not None:
            raise normaliser.failure
    return b"".join([*out, normaliser.finish()])


def words(out: bytes) -> list[str]:
    """Return the content pieces of a stream."""
    frames = [orjson.loads(frame[6:]) for frame in out.split(b"\n\n")[:-2]]
    choices = [frame["choices"][0] for frame in frames if frame["choices"]]
    return [c.get("text") or c.get("delta", {}).get("content") for c in choices
            if c.get("text") or c.get("delta", {}).get("content")]  # fmt: skip


# --- the script ----------------------------------------------------------------------------------


def test_a_bare_name_is_the_usual_script():
    assert Script.of("mock") == Script()


def test_every_option_can_be_set():
    name = ("mock/first_byte_s=0.5/gap_s=0.02/chunks=40/status=500/fault=cut/after=3/usage=off"
            "/tool=on")  # fmt: skip

    assert Script.of(name) == Script(
        first_byte_s=0.5, gap_s=0.02, chunks=40, status=500, fault="cut", after=3, usage=False,
        tool=True,
    )  # fmt: skip


def test_a_flag_is_on_without_a_value():
    assert Script.of("mock/tool").tool is True


@pytest.mark.parametrize(
    "option",
    ["speed=9", "chunks=many", "chunks=1.5", "gap_s=soon", "gap_s=nan", "gap_s=inf", "fault=fire",
     "fault", "chunks", "=", "chunks=", "__annotations__=1", "of=1", "first_byte_s=-inf"],
)  # fmt: skip
def test_an_option_that_nobody_knows_or_a_value_that_cannot_be_is_refused(option):
    with pytest.raises(InvalidRequest) as caught:
        Script.of(f"mock/{option}")

    assert caught.value.param == "model"
    assert "first_byte_s" in caught.value.message


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [("gap_s=-1", "gap_s", 0.0), ("gap_s=99999", "gap_s", 3600.0), ("chunks=-5", "chunks", 0),
     ("chunks=9999999", "chunks", 100_000)],
)  # fmt: skip
def test_numbers_stay_within_bounds(option, name, value):
    assert getattr(Script.of(f"mock/{option}"), name) == value


@given(st.text(max_size=30))
def test_any_name_is_a_script_or_refused(text):
    try:
        script = Script.of(f"mock/{text}")
    except InvalidRequest:
        return

    assert math.isfinite(script.first_byte_s)
    assert math.isfinite(script.gap_s)
    assert script.fault in {"", *FAULTS}


# --- answers -------------------------------------------------------------------------------------


def test_the_usual_answer_repeats_what_was_said(wait):
    out = reply(wait, messages=[{"role": "user", "content": "knock knock"}])

    assert "You said: knock knock" in out["choices"][0]["message"]["content"]
    assert out["choices"][0]["finish_reason"] == "stop"
    assert out["usage"]["completion_tokens"] > 0


def test_a_stream_says_the_same_as_a_reply(wait):
    whole = reply(wait)["choices"][0]["message"]["content"]

    assert "".join(words(stream(wait))) == whole


def test_completions_and_their_streams_say_the_same(wait):
    whole = reply(wait, kind=Kind.COMPLETION, prompt="Once")["choices"][0]["text"]

    assert "Once" in whole
    assert "".join(words(stream(wait, kind=Kind.COMPLETION, prompt="Once"))) == whole


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_keeps_within_its_limit_of_tokens(wait, name):
    out = reply(wait, **{name: 3})

    assert out["usage"]["completion_tokens"] == 3
    assert len(out["choices"][0]["message"]["content"].split()) == 3


def test_so_many_chunks_are_so_many(wait):
    assert len(words(stream(wait, "mock/chunks=40"))) == 40


def test_usage_can_be_left_out(wait):
    assert b"estimated" in stream(wait, "mock/usage=off", usage=True)
    assert b"estimated" not in stream(wait, usage=True)
    assert reply(wait, "mock/usage=off")["usage"]["estimated"] is True


TOOLS = [{"type": "function", "function": {"name": "get_weather"}}]


def test_the_first_tool_is_called_on_request(wait):
    choice = reply(wait, "mock/tool", tools=TOOLS)["choices"][0]

    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert choice["message"]["content"] is None
    assert choice["finish_reason"] == "tool_calls"


def test_the_first_tool_is_called_in_a_stream_too(wait):
    out = stream(wait, "mock/tool", tools=TOOLS)

    assert b'"name":"get_weather"' in out
    assert b'"finish_reason":"tool_calls"' in out


@pytest.mark.parametrize("tools", [[], [{"function": "f"}], [{}], [{"function": {"name": 5}}]])
def test_tools_that_are_none_do_no_harm(wait, tools):
    assert reply(wait, "mock/tool", tools=tools)["choices"]
    assert stream(wait, "mock/tool", tools=tools)


@pytest.mark.parametrize(
    "content", [None, "", [{"type": "text", "text": "a"}, {"type": "image_url"}], []]
)
def test_any_content_is_answered(wait, content):
    assert reply(wait, messages=[{"role": "user", "content": content}])["choices"]


# --- embeddings ----------------------------------------------------------------------------------


def vectors(wait: Wait, given_in: object, **fields) -> list[list[float]]:
    data = reply(wait, kind=Kind.EMBEDDINGS, input=given_in, **fields)["data"]
    return [item["embedding"] for item in data]


@pytest.mark.parametrize(
    ("given_in", "count"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
    ids=["a text", "one text", "two texts", "tokens", "two rows of tokens"],
)
def test_there_is_one_vector_for_each_input(wait, given_in, count):
    made = vectors(wait, given_in)

    assert [len(vector) for vector in made] == [DIMENSIONS] * count


def test_a_vector_depends_on_its_text_alone_and_has_length_one(wait):
    (first, second, again) = vectors(wait, ["a", "b", "a"])

    assert first == again != second
    assert math.isclose(sum(value * value for value in first), 1.0)


@pytest.mark.parametrize(("asked", "size"), [(8, 8), (4096, 4096), (9999, DIMENSIONS)])
def test_vectors_can_be_shorter(wait, asked, size):
    assert len(vectors(wait, "a", dimensions=asked)[0]) == size


# --- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [(500, UpstreamError), (401, UpstreamCredential), (429, UpstreamBusy), (404, UpstreamRejected)],
)
def test_a_status_fails_before_any_content(wait, status, kind):
    for ask in (reply, stream):
        with pytest.raises(kind) as caught:
            ask(wait, f"mock/status={status}")
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("cut", UpstreamCut), ("error", UpstreamError), ("garbage", UpstreamInvalid),
     ("reset", UpstreamReset)],
)  # fmt: skip
@pytest.mark.parametrize("after", [0, 2])
def test_a_fault_comes_after_so_many_chunks(wait, fault, kind, after):
    model = f"mock/fault={fault}/after={after}"
    heard = []

    with pytest.raises(kind):
        stream(wait, model, keep=heard)

    pieces = b"".join(heard).count(b'"content":')
    assert pieces == after + 1  # the first event has an empty one beside the role


def test_a_stall_is_silence_in_beats(wait):
    blocks = MOCK.stream(make_call(stream=True), "mock/fault=stall/after=0", wait, 0.001)

    first, *rest = [next(blocks) for _ in range(4)]

    assert b"assistant" in first
    assert rest == [b"", b"", b""]
    blocks.close()


def test_the_first_byte_and_the_gaps_take_their_time(wait):
    began_s = perf_counter()
    stream(wait, "mock/first_byte_s=0.03/gap_s=0.01/chunks=4")

    assert 0.04 <= perf_counter() - began_s < 1.0


def test_a_caller_that_leaves_is_not_waited_for():
    ours, theirs = socket.socketpair()
    wait = Wait(ours)
    gevent.spawn_later(0.01, theirs.close)

    began_s = perf_counter()
    with pytest.raises(ClientGone):
        reply(wait, "mock/first_byte_s=60")

    assert perf_counter() - began_s < 0.11
    wait.close()
    ours.close()


def test_a_mock_can_always_fail(wait):
    failing = Mock(an_upstream("down", "mock://fail"), None)

    with pytest.raises(UpstreamUnreachable):
        failing.reply(make_call(), "mock", wait)
    with pytest.raises(UpstreamUnreachable):
        next(failing.stream(make_call(stream=True), "mock", wait, 1.0))


# --- being listed --------------------------------------------------------------------------------


def test_it_lists_itself_and_the_names_it_stands_in_for():
    assert [card.id for card in MOCK.models(None)] == ["mock", "gpt-4o"]
    assert MOCK.probe() is None


def test_it_needs_no_network():
    assert Mock.http_url("mock://local") is None


def test_a_name_it_stands_in_for_is_no_script(wait):
    assert reply(wait, "llama3.1:8b")["model"] == "llama3.1:8b"


@given(st.sampled_from(FAULTS[:2] + FAULTS[2:4]), st.integers(0, 5))
def test_a_faulty_stream_never_ends_well(fault, after):
    with pytest.raises(GatewayError):
        stream(Wait(), f"mock/chunks=6/fault={fault}/after={after}")
