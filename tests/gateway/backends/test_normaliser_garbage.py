"""What breaks a stream becomes one of our errors, and never an answer."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.kernel.call import Kind
from gateway.kernel.errors import (
    GatewayError,
    UpstreamBusy,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
)
from gateway.kernel.sse import DONE
from tests.gateway.backends.streams import (
    ROLE,
    event,
    events,
    frame,
    heard,
    normaliser,
    says,
)


@pytest.mark.parametrize(
    ("error", "kind", "status", "code"),
    [
        ({"message": "boom", "code": 500}, UpstreamError, 502, "upstream_error"),
        ({"message": "boom", "type": "server_error"}, UpstreamError, 502, "upstream_error"),
        ("boom", UpstreamError, 502, "upstream_error"),
        (["boom"], UpstreamError, 502, "upstream_error"),
        ({"message": "slow down", "code": 429}, UpstreamBusy, 429, "upstream_busy"),
        ({"message": "no", "status": 422, "type": "bad"}, UpstreamRejected, 422, "bad"),
        ("maximum context length is 8", UpstreamRejected, 400, "context_length_exceeded"),
        ({"message": "x", "code": "context_length_exceeded"}, UpstreamRejected, 400,
         "context_length_exceeded"),
    ],
)  # fmt: skip
def test_an_error_inside_the_stream_is_raised_as_what_it_means(error, kind, status, code):
    with pytest.raises(kind) as caught:
        heard(event(ROLE), says("a"), b"event: error\n" + frame({"error": error}), DONE)

    assert (caught.value.status, caught.value.code) == (status, code)


def test_an_error_beside_a_text_is_still_an_error():
    with pytest.raises(UpstreamError):
        heard(event(ROLE), says("a"), says("b", error={"message": "boom"}))


@pytest.mark.parametrize("error", [None, "", {}, False])
def test_an_empty_error_member_is_no_error(error):
    out = heard(event(ROLE, error=error), says("a", error=error), event({}, "stop"), DONE)

    assert len(events(out)) == 3


DEEP = b'{"x":' * 400 + b"1" + b"}" * 400
GARBAGE = {
    "broken JSON": b'data: {"choices": [\n\n',
    "a list": b"data: []\n\n",
    "a number": b"data: 5\n\n",
    "HTML": b"data: <html></html>\n\n",
    "bytes that are not UTF-8": says("a").replace(b'"a"', b'"\xff"'),
    "such bytes in an unknown field": says("a", extra="?").replace(b'"?"', b'"\xff"'),
    "half a surrogate pair": says("a").replace(b'"a"', b'"\\ud83d and more"'),
    "an event over 1 MiB": says("x" * 1_100_000),
    "an event over 1 MiB without end": b"data: " + b"x" * 1_100_000,
    "a repair nested too deep to write": event({"role": "assistant", "x": "?"}).replace(
        b'"?"', DEEP),
    "an event nested too deep to read": b"data: " + b"[" * 100_000 + b"\n\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_as_an_invalid_stream(sent):
    stream = normaliser()
    stream.feed(event(ROLE) + says("a"))

    with pytest.raises(UpstreamInvalid) as caught:
        stream.feed(sent)

    assert caught.value.code == "upstream_invalid_stream"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["id", "index", "delta", "content", "role", "tool_calls", "function",
                         "arguments", "finish_reason", "text", "usage", "prompt_tokens"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(
    wild=st.fixed_dictionaries(
        {"choices": st.lists(st.dictionaries(
            st.sampled_from(["index", "delta", "finish_reason", "text"]), JSON), max_size=3)
         | JSON},
        optional=dict.fromkeys(["id", "object", "created", "model", "usage", "error"], JSON),
    ),
    kind=st.sampled_from([Kind.CHAT, Kind.COMPLETION]),
)  # fmt: skip
def test_wild_events_are_repaired_or_refused_and_nothing_else(wild, kind):
    stream = normaliser(kind, usage=True)

    try:
        out = stream.feed(frame(wild) * 2) + stream.finish()
    except GatewayError:
        return

    assert all(one["object"].endswith(("chunk", "completion")) for one in events(out))


@settings(max_examples=60)
@given(noise=st.binary(max_size=200))
def test_noise_never_looks_like_an_answer(noise):
    with pytest.raises(GatewayError):
        heard(noise)


# --- content beside a failure --------------------------------------------------------------------


def test_content_in_the_same_block_as_a_failure_is_passed_on_first():
    stream = normaliser()
    stream.feed(event(ROLE))

    out = stream.feed(says("a") + b"data: garbage\n\n" + says("b"))

    assert out == says("a")
    assert isinstance(stream.failure, UpstreamInvalid)


def test_a_role_in_the_same_block_as_a_failure_is_not():
    stream = normaliser()

    with pytest.raises(UpstreamInvalid):
        stream.feed(event(ROLE) + b"data: garbage\n\n")

    assert not stream.has_content


@pytest.mark.parametrize(
    "rest",
    [b'data: {"id":"chatcmpl-1","usa', b"data: garbage\n\n", b"<html>", b"data: garbage"],
    ids=["half a usage", "garbage", "a page", "garbage without an end"],
)
def test_what_breaks_after_the_finish_takes_nothing_from_the_answer(rest):
    stream = normaliser(usage=True)
    body = stream.feed(event(ROLE) + says("a") + event({}, "stop") + rest)

    end = stream.finish()

    assert [one["usage"]["estimated"] for one in events(end)] == [True]
    assert body + end == event(ROLE) + says("a") + event({}, "stop") + end
    assert stream.done


@pytest.mark.parametrize(
    ("index", "fits"), [(127, True), (128, False), (-1, False), (10**9, False)]
)
def test_a_stream_has_at_most_128_choices(index, fits):
    """Each index that an upstream makes up would be remembered."""
    stream = normaliser()

    if fits:
        assert stream.feed(event(ROLE, index=index))
    else:
        with pytest.raises(UpstreamInvalid):
            stream.feed(event(ROLE, index=index))
