"""Streams stay alive in silence, are never held back, and leave in the packets they came in."""

import itertools
import statistics

import pytest

from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import Gateway, Upstream, post

BEAT_S = 0.4
COMMENT = b": keepalive\n\n"


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream},
        GATEWAY_DEFAULT_UPSTREAM="up",
        GATEWAY_HEARTBEAT_SECONDS=BEAT_S,
        GATEWAY_IDLE_TIMEOUT_SECONDS=2,
        GATEWAY_FIRST_BYTE_TIMEOUT_SECONDS=3,
    )


@pytest.mark.parametrize("model", ["late_1.5", "ttft_1.5"])
def test_a_silent_upstream_costs_a_comment_each_beat(gateway, model):
    """Whether its head has come or nothing at all: proxies cut silent streams."""
    answer = gateway.ask(chat(model, stream=True))

    assert answer.status == 200
    assert answer.whole
    assert answer.text() == "word0 word1 "
    assert 2 <= answer.body.count(COMMENT) <= 4, answer.body[:300]


def test_a_silence_between_two_words_is_filled_too(gateway):
    answer = gateway.ask(chat("drip_1.2_2", stream=True))

    assert answer.whole
    assert answer.body.count(COMMENT) >= 4
    assert answer.text() == "word0 word1 "


def test_comments_stand_only_between_events(gateway):
    answer = gateway.ask(chat("drip_0.5_4", stream=True))

    for block in answer.body.split(b"\n\n")[:-1]:
        assert block.startswith((b"data: ", b": keepalive")), block
        assert b"\n" not in block


def test_a_lively_stream_carries_no_comment(gateway):
    answer = gateway.ask(chat("drip_0.05_20", stream=True))

    assert COMMENT not in answer.body


def test_a_failure_after_a_comment_but_before_content_is_told_in_the_stream(gateway, new_id):
    answer = gateway.ask(chat("stall_after_0", stream=True), X_Request_Id=new_id)

    assert answer.status == 200
    assert answer.document_of_last_event()["error"]["code"] == "upstream_stalled"
    assert not answer.whole


def test_an_early_failure_is_told_before_the_first_beat(gateway):
    answer = gateway.ask(chat("500", stream=True))

    assert answer.status == 502


def test_words_leave_as_they_come(gateway):
    """Each word is read alone, and none waits for the next."""
    with RawClient(gateway.port) as client:
        client.send(post(chat("drip_0.1_10", stream=True)))
        answer = client.answer()

    moments = [moment for moment, _ in answer.stamps]
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(gaps) >= 9
    assert 0.08 <= statistics.median(gaps) <= 0.14, gaps


def test_small_writes_are_not_held_for_an_acknowledgement(gateway):
    """Nagle's algorithm and a delayed acknowledgement would hold each second word 40 ms."""
    first_gaps_s = []
    with RawClient(gateway.port) as client:
        for _ in range(7):
            for _ in range(5):  # until the kernel takes it for a dialogue and delays what it may
                client.ask(post(chat("ok")))
            moments = [
                moment for moment, _ in client.ask(post(chat("drip_0.005_4", stream=True))).stamps
            ]
            assert len(moments) >= 4, "each word in a packet of its own"
            first_gaps_s.append(moments[1] - moments[0])

    assert statistics.median(first_gaps_s) < 0.025, first_gaps_s
