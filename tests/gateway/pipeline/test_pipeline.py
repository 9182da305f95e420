"""The order of a call's steps, from routing to the answer."""

from contextlib import closing

import orjson
import pytest

from gateway.backends.settings import BackendSettings
from gateway.kernel.errors import InvalidRequest, UnknownModel, UpstreamRejected, UpstreamReset
from gateway.kernel.logs import Log
from gateway.pipeline.pipeline import Pipeline
from gateway.routing.router import Router
from gateway.routing.settings import RoutingSettings
from gateway.web.incoming import Incoming
from gateway.web.settings import WebSettings
from gateway.web.stream import StreamCut
from tests.fakes.backend import ScriptedBackend, a_reply, role, says, talks
from tests.fakes.calls import make_call
from tests.gateway.pipeline.conftest import Stage


def pipeline_on(scene: Stage, lines: list | None = None, total_s: float = 600.0) -> Pipeline:
    return Pipeline(
        Router(scene.catalog, RoutingSettings()), scene.catalog, scene.metrics,
        Log("DEBUG", (lines if lines is not None else []).append), WebSettings(),
        BackendSettings(total_timeout_s=total_s),
    )  # fmt: skip


def serving(name: str, *answers) -> ScriptedBackend:
    """Return a backend that serves the model ``m``."""
    return ScriptedBackend(name, *answers).listing("m")


# --- deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("30", 30.0), ("0.5", 0.5), ("600", 600.0), ("9999", 600.0), ("1e9", 600.0),
        ("0", 0.1), ("-5", 0.1), ("nan", 600.0), ("inf", 600.0), ("soon", 600.0), ("", 600.0),
        (None, 600.0),
    ],
)  # fmt: skip
def test_the_clients_own_read_timeout_bounds_an_answer_in_one_piece(stage, told, seconds):
    environ = {} if told is None else {"HTTP_X_STAINLESS_READ_TIMEOUT": told}

    deadline = pipeline_on(stage()).deadline(Incoming(environ, {}), stream=False)

    assert seconds - 0.05 < deadline.remaining_s() <= seconds


def test_it_does_not_bound_a_stream(stage):
    incoming = Incoming({"HTTP_X_STAINLESS_READ_TIMEOUT": "30"}, {})

    deadline = pipeline_on(stage(), total_s=60.0).deadline(incoming, stream=True)

    assert 59.9 < deadline.remaining_s() <= 60.0


# --- answers in one piece ------------------------------------------------------------------------


def test_a_call_is_routed_asked_and_answered(stage):
    reply = a_reply()
    scene = stage(serving("a", reply))

    outgoing = pipeline_on(scene).open(make_call(model="m"), scene.incoming)

    assert outgoing.status == 200
    assert b"".join(outgoing.body) == reply.body
    headers = dict(outgoing.headers)
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Backend-Used"] == "a"
    assert headers["X-Model-Used"] == "m"
    assert headers["X-Router-Reason"] == "direct:model"


def test_the_answer_tells_who_really_answered(stage):
    scene = stage(serving("a", UpstreamReset("x")), serving("b", a_reply()))

    outgoing = pipeline_on(scene).open(make_call(model="m"), scene.incoming)

    assert dict(outgoing.headers)["X-Backend-Used"] == "b"
    assert scene.incoming.facts["attempts"] == ["a:upstream_reset", "b:ok"]


@pytest.mark.parametrize(
    ("call", "kind"),
    [({"model": "nobody's"}, UnknownModel), ({"model": "m", "pinned": "nobody"}, InvalidRequest)],
)
def test_a_call_that_cannot_be_routed_asks_nobody(stage, call, kind):
    scene = stage(serving("a"))

    with pytest.raises(kind):
        pipeline_on(scene).open(make_call(**call), scene.incoming)

    assert scene.asked() == [0]
    assert scene.incoming.facts == {"model": call["model"]}


@pytest.mark.parametrize("stream", [False, True])
def test_when_everyone_fails_the_last_error_is_the_answer(stage, stream):
    scene = stage(serving("a", UpstreamReset("x")), serving("b", UpstreamRejected("y", status=422)))

    with pytest.raises(UpstreamRejected) as caught:
        pipeline_on(scene).open(make_call(model="m", stream=stream), scene.incoming)

    assert caught.value.status == 422
    assert dict(scene.incoming.answer_headers)["X-Backend-Used"] == "b"
    assert scene.incoming.facts["code"] == "upstream_rejected"
    assert scene.incoming.facts["attempts"] == ["a:upstream_reset", "b:upstream_rejected"]


# --- streams -------------------------------------------------------------------------------------


def test_a_stream_begins_with_content_and_ends_well(stage):
    scene = stage(serving("a", talks("Hello")))

    outgoing = pipeline_on(scene).open(make_call(model="m", stream=True), scene.incoming)
    with closing(outgoing.body):
        blocks = list(outgoing.body)

    headers = dict(outgoing.headers)
    assert outgoing.status == 200
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["X-Accel-Buffering"] == "no"
    assert headers["X-Backend-Used"] == "a"
    assert b'"content":"Hello"' in blocks[0]
    assert blocks[-1].endswith(b"data: [DONE]\n\n")


def test_the_headers_of_a_stream_tell_who_really_answers(stage):
    scene = stage(serving("a", (role(), UpstreamReset("x"))), serving("b", talks("x")))

    outgoing = pipeline_on(scene).open(make_call(model="m", stream=True), scene.incoming)

    assert dict(outgoing.headers)["X-Backend-Used"] == "b"
    outgoing.body.close()


def test_a_stream_that_breaks_ends_with_its_error_and_is_cut(stage):
    scene = stage(serving("a", (role(), says("half"), UpstreamReset("broken"))))
    outgoing = pipeline_on(scene).open(make_call(model="m", stream=True), scene.incoming)

    first, last = next(outgoing.body), next(outgoing.body)
    with pytest.raises(StreamCut):
        next(outgoing.body)
    outgoing.body.close()

    assert b"half" in first
    error = orjson.loads(last.removeprefix(b"data: "))["error"]
    assert (error["code"], error["message"]) == ("upstream_reset", "broken")
    assert error["details"]["attempts"] == [{"upstream": "a", "code": "upstream_reset"}]
    assert scene.incoming.facts["code"] == "upstream_reset"


def test_a_caller_that_leaves_a_stream_closes_everything(stage):
    scene = stage(serving("a", talks("x", "y", "z")))
    outgoing = pipeline_on(scene).open(make_call(model="m", stream=True), scene.incoming)
    next(outgoing.body)

    outgoing.body.close()

    assert scene.backends[0].streams_closed == 1
    assert scene.incoming.facts["code"] == "client_gone"


@pytest.mark.parametrize("stream", [False, True])
def test_a_defect_of_ours_leaves_nothing_open(stage, stream):
    class Broken(ScriptedBackend):
        def reply(self, call, model, wait):
            raise RuntimeError("a defect")

        def stream(self, call, model, wait, beat_s):
            for block in super().stream(call, model, wait, beat_s):
                yield block
                raise RuntimeError("a defect")

    scene = stage(Broken("a", (role(), says("x"))).listing("m"))

    with pytest.raises(RuntimeError):
        pipeline_on(scene).open(make_call(model="m", stream=stream), scene.incoming)

    assert scene.incoming.facts["code"] == "internal_error"
    assert scene.attempts_counted("a", "internal_error") == 1


def test_a_heartbeat_comes_at_most_a_third_late(stage, clock):
    """Silence is noticed when the backend wakes up; it may have spoken just after its last look."""
    beats = []

    class Silent(ScriptedBackend):
        def stream(self, call, model, wait, beat_s):
            beats.append(beat_s)
            yield from super().stream(call, model, wait, beat_s)

    scene = stage(Silent("a", talks("x")).listing("m"))
    outgoing = pipeline_on(scene).open(make_call(model="m", stream=True), scene.incoming)
    outgoing.body.close()

    [beat_s] = beats
    assert beat_s <= WebSettings().heartbeat_s / 3
