"""One call's life, closed exactly once, whatever ends it."""

import pytest

from gateway.kernel.call import Plan, Reply, Target
from gateway.kernel.errors import GatewayError, UpstreamReset, UpstreamTimeout
from gateway.pipeline.exchange import Exchange
from tests.fakes.backend import ScriptedBackend, a_reply, finish, role, says, talks, usage_event
from tests.fakes.calls import make_call
from tests.gateway.pipeline.conftest import Stage


def exchange_on(scene: Stage, plan: Plan | None = None, **call) -> Exchange:
    return Exchange(
        make_call(**call), plan or scene.plan, scene.catalog.snapshot, scene.incoming, scene.metrics
    )


def pull(exchange: Exchange, count: int = 99) -> list[bytes]:
    """Return the next blocks, as many as there are."""
    blocks = []
    for _ in range(count):
        try:
            blocks.append(next(exchange))
        except StopIteration:
            break
    return blocks


# --- closing -------------------------------------------------------------------------------------


def test_a_reply_closes_the_exchange(stage):
    scene = stage(ScriptedBackend("a", a_reply()))

    exchange_on(scene, model="m").reply()

    assert scene.incoming.facts == {
        "backend": "a", "model": "a-model", "stream": False, "reason": "direct:model",
        "tokens_in": 3, "tokens_out": 1, "estimated": None,
    }  # fmt: skip
    assert scene.figure("gateway_tokens_total", upstream="a", direction="input") == 3
    assert scene.figure("gateway_tokens_total", upstream="a", direction="output") == 1


def test_closing_again_settles_nothing_again(stage):
    scene = stage(ScriptedBackend("a", talks("x")))
    exchange = exchange_on(scene, stream=True).start(1.0)
    pull(exchange)

    for _ in range(3):
        exchange.close()

    assert scene.attempts_counted("a", "success") == 1
    assert scene.figure("gateway_time_to_first_token_seconds_count", upstream="a") == 1
    assert scene.backends[0].streams_closed == 1


def test_a_stream_that_ended_well_is_settled_once_it_is_closed(stage):
    body = (role(), says("x"), finish(), usage_event(9, 2), b"data: [DONE]\n\n")
    scene = stage(ScriptedBackend("a", body))
    exchange = exchange_on(scene, stream=True).start(1.0)

    blocks = pull(exchange)
    exchange.close()

    assert b"".join(blocks).endswith(b"[DONE]\n\n")
    assert (scene.incoming.facts["tokens_in"], scene.incoming.facts["tokens_out"]) == (9, 2)
    assert "code" not in scene.incoming.facts


def test_a_caller_that_leaves_in_the_middle_is_settled_as_gone(stage):
    scene = stage(ScriptedBackend("a", talks("x" * 40, "y")))
    exchange = exchange_on(scene, stream=True).start(1.0)
    pull(exchange, 2)

    exchange.close()

    assert scene.backends[0].streams_closed == 1
    assert scene.attempts_counted("a", "client_gone") == 1
    assert scene.incoming.facts["code"] == "client_gone"
    assert scene.incoming.facts["tokens_out"] == 10


def test_a_caller_that_leaves_before_the_first_block_costs_no_tokens(stage):
    scene = stage(ScriptedBackend("a", (b"", *talks("x"))))
    exchange = exchange_on(scene, stream=True).start(1.0)
    pull(exchange, 1)

    exchange.close()

    assert scene.backends[0].streams_closed == 1
    assert "tokens_out" not in scene.incoming.facts
    assert scene.incoming.facts["code"] == "client_gone"


def test_a_stream_that_was_never_read_is_closed_without_asking_anybody(stage):
    scene = stage(ScriptedBackend("a"))

    exchange_on(scene, stream=True).start(1.0).close()

    assert scene.asked() == [0]


def test_an_exchange_that_was_not_started_has_no_blocks(stage):
    assert pull(exchange_on(stage(ScriptedBackend("a")), stream=True)) == []


def test_a_closed_exchange_gives_no_more_blocks(stage):
    scene = stage(ScriptedBackend("a", talks("x", "y")))
    exchange = exchange_on(scene, stream=True).start(1.0)
    pull(exchange, 2)

    exchange.close()

    assert pull(exchange) == []


# --- failing -------------------------------------------------------------------------------------


def test_a_failed_reply_is_noted_and_closed(stage):
    scene = stage(ScriptedBackend("a", UpstreamReset("x")))

    with pytest.raises(UpstreamReset):
        exchange_on(scene).reply()

    assert scene.incoming.facts["code"] == "upstream_reset"
    assert scene.incoming.facts["backend"] == "a"
    assert "tokens_in" not in scene.incoming.facts


def test_a_stream_that_breaks_is_noted_with_its_tokens(stage):
    scene = stage(ScriptedBackend("a", (role(), says("x" * 40), UpstreamTimeout("x"))))
    exchange = exchange_on(scene, stream=True).start(1.0)

    with pytest.raises(UpstreamTimeout) as caught:
        pull(exchange)
    exchange.failed(caught.value)
    exchange.close()

    assert scene.incoming.facts["code"] == "upstream_timeout"
    assert scene.incoming.facts["tokens_out"] == 10
    assert scene.backends[0].streams_closed == 1


def test_a_defect_of_ours_is_settled_as_one_and_not_as_a_caller_that_left(stage):
    class Broken(ScriptedBackend):
        def reply(self, call, model, wait) -> Reply:
            raise RuntimeError("a defect")

    scene = stage(Broken("a"))

    with pytest.raises(RuntimeError):
        exchange_on(scene).reply()

    assert scene.incoming.facts["code"] == "internal_error"
    assert scene.attempts_counted("a", "internal_error") == 1
    assert scene.attempts_counted("a", "client_gone") == 0


def test_all_attempts_are_told_when_there_was_more_than_one(stage):
    scene = stage(ScriptedBackend("a", UpstreamReset("x")), ScriptedBackend("b", a_reply()))

    exchange_on(scene).reply()

    assert scene.incoming.facts["attempts"] == ["a:upstream_reset", "b:ok"]
    assert scene.incoming.facts["backend"] == "b"
    assert "code" not in scene.incoming.facts


@pytest.mark.parametrize("end", ["done", "error", "left", "unread"])
def test_every_end_settles_exactly_once(stage, end):
    steps = (role(), says("x"), UpstreamReset("x")) if end == "error" else talks("x", "y")
    scene = stage(ScriptedBackend("a", steps))
    exchange = exchange_on(scene, stream=True).start(1.0)

    try:
        pull(exchange, {"left": 2, "unread": 0}.get(end, 99))
    except GatewayError as error:
        exchange.failed(error)
    exchange.close()
    exchange.close()

    scene.metrics.flush()
    counted = [
        sample.value
        for metric in scene.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "gateway_upstream_requests_total"
    ]
    assert sum(counted) == (0 if end == "unread" else 1)
    assert scene.backends[0].streams_closed == (0 if end == "unread" else 1)


# --- what is told --------------------------------------------------------------------------------


def test_the_headers_tell_who_answered_and_why(stage):
    scene = stage(ScriptedBackend("a", UpstreamReset("x")), ScriptedBackend("b", a_reply()))
    exchange = exchange_on(scene)
    exchange.reply()

    assert exchange.headers() == [
        ("X-Backend-Used", "b"), ("X-Model-Used", "b-model"), ("X-Router-Reason", "direct:model"),
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["a\r\nSet-Cookie: x=1", "mödel", "m" * 500, "a\x00b"])
def test_no_name_of_a_model_can_break_the_headers(stage, model):
    scene = stage(ScriptedBackend("a", a_reply()))
    plan = Plan((Target("a", model),), "direct:model")
    exchange = exchange_on(scene, plan)
    exchange.reply()

    shown = dict(exchange.headers())["X-Model-Used"]

    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 128


def test_the_time_to_the_first_content_is_measured(stage, clock):
    def answer():
        yield b""
        clock.advance(0.25)
        yield role()
        clock.advance(0.5)
        yield says("x")
        clock.advance(3.0)
        yield finish() + b"data: [DONE]\n\n"

    scene = stage(ScriptedBackend("a", answer()))
    exchange = exchange_on(scene, stream=True).start(1.0)
    pull(exchange)
    exchange.close()

    assert scene.incoming.facts["ttft_ms"] == 750.0
    assert scene.figure("gateway_time_to_first_token_seconds_sum", upstream="a") == 0.75
