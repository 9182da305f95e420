"""T46 and T49: a hostile model server cannot fill our memory, set our headers or impersonate."""

import pytest

from tests.fakes.rawclient import chat
from tests.system.servers import Gateway, Upstream, pause, running, wait_until
from tests.system.sizes import size_of

BOMB_MB = size_of("T46 bomb megabytes")
HEADER_MB = size_of("T46 header megabytes")
MEMORY_BYTES = 20_000_000
PLAIN_HEADERS = {
    "server", "date", "connection", "content-type", "cache-control", "content-length",
    "x-request-id", "x-content-type-options", "x-backend-used", "x-model-used", "x-router-reason",
}  # fmt: skip
STREAM_HEADERS = PLAIN_HEADERS - {"content-length"} | {"transfer-encoding", "x-accel-buffering"}


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway({"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up")


BOMBS = (f"gzipbomb_{BOMB_MB}", f"gzipbomb_{BOMB_MB}_500", "layers", f"bigheader_{HEADER_MB}")


@pytest.mark.parametrize(
    ("model", "stream"),
    [*((bomb, stream) for bomb in BOMBS for stream in (False, True)), ("hugeline_64", True)],
)
def test_t46_a_bomb_stays_small(gateway, model, stream):
    gateway.ask(chat("ok"))
    before = gateway.rss_bytes()
    gateway.forget_peak()

    answer = gateway.ask(chat(model, stream=stream))

    assert answer.status == 502, answer
    assert gateway.peak_bytes() - before < MEMORY_BYTES


def _served_but_unreachable(gateway: Gateway) -> bool:
    assert gateway.ask(chat("ok")).status == 200
    return gateway.look("/health")[1]["services"]["hostile"] == "unreachable"


@pytest.mark.parametrize(
    "bomb", [f"gzipbomb_{BOMB_MB}", f"bigheader_{HEADER_MB}", "never_ends", "drip_head"]
)
def test_t46_a_bomb_in_the_model_list_harms_nobody(crew, tmp_path, bomb):
    """The look at an upstream happens in the background, in every worker."""
    with running(Upstream("--list", bomb)) as hostile, running(Upstream()) as sound:
        both = {"hostile": hostile, "sound": sound}
        gateway = Gateway(
            tmp_path, both, HEALTH_CHECK_INTERVAL_SEC=0.2, HEALTH_CHECK_TIMEOUT_SEC=0.5
        )
        with running(gateway):
            before = gateway.rss_bytes()
            gateway.forget_peak()

            wait_until(lambda: _served_but_unreachable(gateway), 15, "the look at the hostile one")
            for _ in range(40):
                assert gateway.ask(chat("ok")).status == 200

            assert gateway.look("/health")[1]["services"]["sound"] == "healthy"
            assert gateway.peak_bytes() - before < MEMORY_BYTES


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["set_cookie", "informational"])
def test_t49_only_our_own_headers_come_out(gateway, model, stream):
    answer = gateway.ask(chat(model, stream=stream))

    assert answer.status == 200, answer
    assert {name for name, _ in answer.headers} == (STREAM_HEADERS if stream else PLAIN_HEADERS)
    assert answer.header("server") == "nexus-gateway"
    assert b"evil" not in repr(answer.headers).encode()
    assert answer.whole


def test_t49_only_data_and_our_own_comments_come_out_of_a_stream(gateway):
    """An ``event:`` name could make a browser run something, ``retry:`` could make it hammer us."""
    answer = gateway.ask(chat("event_names", stream=True))

    assert answer.events()[-1] == "[DONE]"
    for line in answer.body.split(b"\n"):
        assert line == b"" or line.startswith(b"data: {") or line == b"data: [DONE]", line


@pytest.mark.parametrize("model", ["second_answer", "late_answer"])
def test_t49_bytes_behind_an_answer_reach_nobody(gateway, upstream, new_id, model):
    """A server out of step would hand one caller's answer to the next."""
    first = gateway.ask(chat(model), X_Request_Id=new_id)
    pause(0.3)
    next_ones = [gateway.ask(chat("ok"), X_Request_Id=f"{new_id}-{place}") for place in range(3)]

    for answer in (first, *next_ones):
        assert b"stolen" not in answer.body
    assert all(answer.status == 200 for answer in next_ones)
    connection = upstream.seen(new_id)[0]["connection"]
    assert all(
        record["connection"] != connection
        for place in range(3)
        for record in upstream.seen(f"{new_id}-{place}")
    )


def test_t49_a_redirect_is_not_followed(gateway, upstream, new_id):
    answer = gateway.ask(chat("302"), X_Request_Id=new_id)

    assert answer.status == 502
    assert answer.header("location") is None
    assert len(upstream.seen(new_id)) == 1


def test_t49_the_upstream_sees_only_our_own_headers(gateway, upstream, new_id):
    gateway.ask(
        chat("ok"), X_Request_Id=new_id, Cookie="sid=mine", X_Forwarded_For="6.6.6.6", X_Api_Base="http://evil.test",
        OpenAI_Organization="org-mine", X_Stainless_Lang="python", Traceparent="00-x",
    )  # fmt: skip

    seen = set(upstream.seen(new_id)[0]["headers"])
    assert seen == {
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "x-request-id",
    }
