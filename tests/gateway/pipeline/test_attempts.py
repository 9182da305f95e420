"""The targets of a plan, tried in order until one answers with content."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.kernel.call import Reply, Usage
from gateway.kernel.errors import (
    ClientGone,
    Draining,
    GatewayError,
    InvalidRequest,
    UpstreamBusy,
    UpstreamCredential,
    UpstreamCut,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamReset,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.kernel.sse import DONE
from gateway.pipeline.attempts import Attempts
from tests.fakes.backend import ScriptedBackend, a_reply, finish, role, says, talks, usage_event
from tests.fakes.calls import make_call
from tests.gateway.pipeline.conftest import Stage

FALLING = [
    UpstreamError("x"), UpstreamUnreachable("x"), UpstreamReset("x"), UpstreamTimeout("x"),
    UpstreamInvalid("x"), UpstreamCredential("x"), UpstreamBusy("x"), UpstreamCut("x"),
]  # fmt: skip
STAYING = [UpstreamRejected("x", status=422), InvalidRequest("x"), ClientGone("x"), Draining("x")]
GARBAGE = b"data: garbage\n\n"
ERROR = b'data: {"error":{"message":"boom","code":500}}\n\n'


def attempts_on(stage: Stage, **call) -> Attempts:
    wait = stage.incoming.wait()
    return Attempts(make_call(**call), stage.plan, stage.catalog.snapshot, wait, stage.metrics)


def outcomes(attempts: Attempts) -> list[tuple[str, str]]:
    return [(made.target.upstream, made.outcome) for made in attempts.made]


def named(errors: list[GatewayError]) -> list:
    return [pytest.param(error, id=type(error).__name__) for error in errors]


# --- finished answers ----------------------------------------------------------------------------


def test_the_first_target_that_answers_is_enough(stage):
    reply = a_reply()
    scene = stage(ScriptedBackend("a", reply), ScriptedBackend("b"))
    attempts = attempts_on(scene)

    assert attempts.reply() is reply
    assert outcomes(attempts) == [("a", "ok")]
    assert attempts.usage == Usage(3, 1)
    assert scene.asked() == [1, 0]


@pytest.mark.parametrize("error", named(FALLING))
def test_after_a_failure_of_the_upstream_the_next_is_asked_for_its_own_model(stage, error):
    scene = stage(ScriptedBackend("a", error), ScriptedBackend("b", a_reply("from b")))
    attempts = attempts_on(scene)

    reply = attempts.reply()

    assert b"from b" in reply.body
    assert attempts.target.upstream == "b"
    assert outcomes(attempts) == [("a", error.code), ("b", "ok")]
    assert scene.backends[1].calls[0][1] == "b-model"


@pytest.mark.parametrize("error", named(STAYING))
def test_after_a_failure_of_the_caller_nobody_else_is_asked(stage, error):
    scene = stage(ScriptedBackend("a", error), ScriptedBackend("b", a_reply()))

    with pytest.raises(type(error)) as caught:
        attempts_on(scene).reply()

    assert caught.value is error
    assert scene.asked() == [1, 0]


def test_every_target_is_asked_once_and_the_last_error_tells_the_trail(stage):
    scene = stage(
        ScriptedBackend("a", UpstreamReset("x")), ScriptedBackend("b", UpstreamTimeout("x")),
        ScriptedBackend("c", UpstreamError("last", details={"upstream_status": 500})),
    )  # fmt: skip

    with pytest.raises(UpstreamError, match="last") as caught:
        attempts_on(scene).reply()

    assert scene.asked() == [1, 1, 1]
    assert caught.value.details == {
        "upstream_status": 500,
        "attempts": [
            {"upstream": "a", "code": "upstream_reset"},
            {"upstream": "b", "code": "upstream_timeout"},
            {"upstream": "c", "code": "upstream_error"},
        ],
    }


def test_a_caller_that_left_is_told_no_trail(stage):
    scene = stage(ScriptedBackend("a", ClientGone("x")))

    with pytest.raises(ClientGone) as caught:
        attempts_on(scene).reply()

    assert caught.value.details is None


def test_when_the_time_is_over_nobody_else_is_asked(stage):
    scene = stage(ScriptedBackend("a", UpstreamReset("x")), ScriptedBackend("b", a_reply()))

    with pytest.raises(UpstreamReset):
        attempts_on(scene, total_s=0.0).reply()

    assert scene.asked() == [1, 0]


def test_each_attempt_is_counted_and_timed(stage, clock):
    class Slow(ScriptedBackend):
        def reply(self, call, model, wait) -> Reply:
            clock.advance(2.0)
            return super().reply(call, model, wait)

    scene = stage(Slow("a", UpstreamReset("x")), Slow("b", a_reply()))
    attempts = attempts_on(scene)

    attempts.reply()

    assert [made.took_s for made in attempts.made] == [2.0, 2.0]
    assert scene.attempts_counted("a", "upstream_reset") == 1
    assert scene.attempts_counted("b", "success") == 1
    assert scene.figure("gateway_upstream_latency_seconds_sum", upstream="b") == 2.0


@pytest.mark.parametrize("streamed", [False, True])
def test_a_failed_attempt_is_counted_once(stage, streamed):
    scene = stage(ScriptedBackend("a", UpstreamReset("x")))
    attempts = attempts_on(scene, stream=streamed)

    with pytest.raises(UpstreamReset):
        list(attempts.blocks(1.0)) if streamed else attempts.reply()
    attempts.settle("client_gone")

    assert scene.attempts_counted("a", "upstream_reset") == 1
    assert scene.attempts_counted("a", "client_gone") == 0


def test_an_upstreams_own_word_for_a_rejection_makes_no_new_series(stage):
    rejected = UpstreamRejected("x", status=400, code="their_own_word")
    scene = stage(ScriptedBackend("a", rejected))
    attempts = attempts_on(scene)

    with pytest.raises(UpstreamRejected):
        attempts.reply()

    assert outcomes(attempts) == [("a", "their_own_word")]
    assert scene.attempts_counted("a", "upstream_rejected") == 1
    assert scene.attempts_counted("a", "their_own_word") == 0


KEY = "Zq8s0m3ArbitraryKeyValue1234"


@pytest.mark.parametrize("streamed", [False, True])
def test_the_upstreams_key_is_hidden_wherever_the_upstream_quotes_it(stage, streamed):
    """It knows the key, and says it in any form that no pattern can tell."""
    told = UpstreamRejected(f"bad {KEY}", status=400, code=f"no {KEY}", param=f"x.{KEY}")
    attempts = attempts_on(stage(ScriptedBackend("a", told, api_key=KEY)), stream=streamed)

    with pytest.raises(UpstreamRejected) as caught:
        list(attempts.blocks(1.0)) if streamed else attempts.reply()

    error = caught.value
    assert (error.message, error.code, error.param) == (
        "bad [secret]", "no [secret]", "x.[secret]")  # fmt: skip
    assert KEY not in str(error.envelope("r"))
    assert KEY not in str(outcomes(attempts))


# --- streams -------------------------------------------------------------------------------------


def stream_on(scene: Stage, **call) -> tuple[Attempts, list[bytes], GatewayError | None]:
    """Return the attempts, every block, and what ended the stream badly."""
    attempts, blocks = attempts_on(scene, stream=True, model="public", **call), []
    try:
        blocks.extend(attempts.blocks(1.0))
    except GatewayError as error:
        return attempts, blocks, error
    return attempts, blocks, None


def texts(blocks: list[bytes]) -> list[str]:
    """Return the pieces of content, in order."""
    frames = b"".join(blocks).split(b"\n\n")
    said = [orjson.loads(one[6:]) for one in frames if one.startswith(b"data: {")]
    deltas = [choice["delta"] for one in said for choice in one["choices"]]
    return [delta["content"] for delta in deltas if delta.get("content")]


def test_a_stream_passes_normalised(stage):
    attempts, blocks, error = stream_on(stage(ScriptedBackend("a", talks("Hello", " you"))))

    assert error is None
    assert texts(blocks) == ["Hello", " you"]
    assert b"".join(blocks).count(b'"model":"public"') == 4
    assert b"".join(blocks).endswith(DONE)
    assert outcomes(attempts) == [("a", "ok")]


def test_nothing_is_given_out_before_there_is_content(stage):
    _, blocks, _ = stream_on(stage(ScriptedBackend("a", (b"", role(), b"", says("a"), finish()))))

    assert blocks[:3] == [b"", b"", b""]
    assert b"assistant" in blocks[3]
    assert texts([blocks[3]]) == ["a"]


def test_an_answer_without_any_text_is_an_answer(stage):
    attempts, blocks, error = stream_on(
        stage(ScriptedBackend("a", (role(), finish("length"), DONE)))
    )

    assert error is None
    assert b'"finish_reason":"length"' in b"".join(blocks)
    assert outcomes(attempts) == [("a", "ok")]


EARLY = {
    "at once": UpstreamUnreachable("x"), "after a role": (role(), UpstreamReset("x")),
    "an error event": (role(), ERROR), "garbage": (role(), GARBAGE), "a cut": (role(),),
    "an early [DONE]": (role(), DONE), "silence, then nothing": (b"", b"", UpstreamTimeout("x")),
    "an empty text": (role(), says(""), UpstreamReset("x")), "not one byte": (),
    "a usage": (role(), usage_event(1, 0), UpstreamReset("x")),
}  # fmt: skip


@pytest.mark.parametrize("answer", EARLY.values(), ids=EARLY.keys())
def test_before_any_content_the_next_target_is_asked(stage, answer):
    scene = stage(ScriptedBackend("a", answer), ScriptedBackend("b", talks("from b")))

    attempts, blocks, error = stream_on(scene)

    assert error is None
    assert texts(blocks) == ["from b"]
    assert b"".join(blocks).count(b'"role"') == 1
    assert [upstream for upstream, _ in outcomes(attempts)] == ["a", "b"]
    assert attempts.target.upstream == "b"


@pytest.mark.parametrize("error", named(STAYING))
def test_a_failure_of_the_caller_asks_nobody_else_for_a_stream(stage, error):
    scene = stage(ScriptedBackend("a", error), ScriptedBackend("b", talks("x")))

    _, blocks, raised = stream_on(scene)

    assert raised is error
    assert texts(blocks) == []
    assert scene.asked() == [1, 0]


LATE = {
    "a reset": (UpstreamReset("x"), "upstream_reset"),
    "a timeout": (UpstreamTimeout("x", code="upstream_stalled"), "upstream_stalled"),
    "an error event": (ERROR, "upstream_error"),
    "garbage": (GARBAGE, "upstream_invalid_stream"),
    "an early [DONE]": (DONE, "upstream_truncated"),
    "the end": (b"", "upstream_truncated"),
}  # fmt: skip


@pytest.mark.parametrize(("end", "code"), LATE.values(), ids=LATE.keys())
def test_after_content_nobody_else_is_asked(stage, end, code):
    scene = stage(ScriptedBackend("a", (role(), says("half"), end)), ScriptedBackend("b", talks()))

    attempts, blocks, error = stream_on(scene)

    assert texts(blocks) == ["half"]
    assert error.code == code
    assert error.details["attempts"] == [{"upstream": "a", "code": code}]
    assert outcomes(attempts) == [("a", code)]
    assert scene.asked() == [1, 0]


@pytest.mark.parametrize("end", [ERROR, GARBAGE, DONE])
def test_content_in_the_same_block_as_a_failure_is_given_out_first(stage, end):
    scene = stage(
        ScriptedBackend("a", (role() + says("half") + end,)), ScriptedBackend("b", talks())
    )

    _, blocks, error = stream_on(scene)

    assert texts(blocks) == ["half"]
    assert isinstance(error, UpstreamError)
    assert scene.asked() == [1, 0]


def test_a_last_event_that_was_not_ended_is_given_out_before_the_cut_is_told(stage):
    scene = stage(ScriptedBackend("a", (role(), says("half").rstrip())))

    _, blocks, error = stream_on(scene)

    assert texts(blocks) == ["half"]
    assert isinstance(error, UpstreamCut)


AFTER_THE_END = [UpstreamReset("x"), UpstreamTimeout("x"), GARBAGE, ERROR, b'data: {"usa']


@pytest.mark.parametrize("end", AFTER_THE_END, ids=["reset", "timeout", "garbage", "error", "half"])
@pytest.mark.parametrize("joined", [False, True], ids=["apart", "in the same block"])
def test_what_breaks_after_the_models_finish_takes_nothing_from_the_answer(stage, end, joined):
    body = (role(), says("all"), finish())
    steps = (b"".join((*body, end)),) if joined and isinstance(end, bytes) else (*body, end)

    attempts, blocks, error = stream_on(stage(ScriptedBackend("a", steps)))

    assert error is None
    assert texts(blocks) == ["all"]
    assert b"".join(blocks).endswith(DONE)
    assert outcomes(attempts) == [("a", "ok")]


def test_nothing_is_pulled_after_the_end(stage):
    pulled = []

    def answer():
        for block in (*talks("a"), says("late")):
            pulled.append(block)
            yield block

    scene = stage(ScriptedBackend("a", answer()))

    stream_on(scene)

    assert says("late") not in pulled
    assert scene.backends[0].streams_closed == 1


def test_a_stream_that_is_left_is_closed_once(stage):
    scene = stage(ScriptedBackend("a", talks("a", "b", "c")))
    attempts = attempts_on(scene, stream=True)
    blocks = attempts.blocks(1.0)
    while not texts([next(blocks)]):
        pass

    blocks.close()
    attempts.settle("client_gone")

    assert (scene.backends[0].streams_closed, scene.backends[0].open_streams) == (1, 0)
    assert outcomes(attempts) == [("a", "client_gone")]
    assert scene.attempts_counted("a", "client_gone") == 1


def test_every_abandoned_attempt_is_closed_too(stage):
    scene = stage(ScriptedBackend("a", (role(), ERROR)), ScriptedBackend("b", talks("x")))

    stream_on(scene)

    assert [backend.streams_closed for backend in scene.backends] == [1, 1]


# --- settling ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ((role(), says("a"), finish(), usage_event(9, 2), DONE), Usage(9, 2)),
        ((role(), says("a"), usage_event(9, 2), UpstreamReset("x")), Usage(9, 2)),
        ((role(), UpstreamReset("x")), None),
        ((), None),
    ],
    ids=["complete", "broken off", "without content", "nothing"],
)
def test_tokens_are_counted_as_far_as_there_was_content(stage, answer, usage):
    attempts, *_ = stream_on(stage(ScriptedBackend("a", answer)))

    attempts.settle("client_gone")

    assert attempts.usage == usage


def test_tokens_that_nobody_reported_are_estimated(stage):
    attempts, *_ = stream_on(stage(ScriptedBackend("a", (role(), says("x" * 40)))))

    attempts.settle("client_gone")

    assert attempts.usage.completion_tokens == 10
    assert attempts.usage.estimated


def test_settling_does_not_change_an_attempt_that_has_ended(stage):
    scene = stage(ScriptedBackend("a", talks("a")))
    attempts, *_ = stream_on(scene)

    attempts.settle("client_gone")

    assert outcomes(attempts) == [("a", "ok")]
    assert scene.attempts_counted("a", "client_gone") == 0


def test_an_upstream_that_never_says_anything_is_given_up_after_a_mebibyte(stage):
    """What comes before the first content is held, so that another may still answer."""
    taken = 0

    def empties():
        nonlocal taken
        yield role()
        for _ in range(1_000):
            taken += 1
            yield says("") * 100

    scene = stage(ScriptedBackend("a", empties()), ScriptedBackend("b", talks("Hello")))

    attempts, blocks, error = stream_on(scene)

    assert error is None
    assert texts(blocks) == ["Hello"]
    assert outcomes(attempts) == [("a", "upstream_invalid_response"), ("b", "ok")]
    assert taken * len(says("") * 100) < 2 * 1_048_576


# --- whatever happens ----------------------------------------------------------------------------

STEPS = st.sampled_from(
    [b"", role(), "text", finish(), DONE, GARBAGE, ERROR, usage_event(1, 1), UpstreamReset("x"),
     UpstreamRejected("x", status=400), ClientGone("x")],
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=3))
def test_texts_of_two_models_are_never_joined_and_nobody_is_asked_twice(stage, scripts):
    backends = [
        ScriptedBackend(name, [says(name) if step == "text" else step for step in steps])
        for name, steps in zip("abc", scripts, strict=False)
    ]
    scene = stage(*backends)

    attempts, blocks, error = stream_on(scene)
    attempts.settle("client_gone")

    assert len(set(texts(blocks))) <= 1
    assert max(scene.asked()) == 1
    assert set(texts(blocks)) <= {attempts.target.upstream}
    assert (error is None) == b"".join(blocks).endswith(DONE)
    assert all(made.outcome != "started" for made in attempts.made)
    assert all(one.streams_closed == len(one.calls) for one in backends)
