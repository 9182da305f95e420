"""T62: a client that leaves takes its upstream call along, in every phase, within 100 ms."""

import socket
import statistics

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat, completion, request
from tests.system.servers import CHAT, Gateway, Upstream, pause, post, wait_until
from tests.system.sizes import size_of

LIMIT_S = 0.1
PHASES = {
    "before the upstream's head": (chat("ttft", stream=True), b""),
    "before the first token": (chat("late", stream=True), b""),
    "before the first content": (chat("stall_after_0", stream=True), b""),
    "between two tokens": (chat("drip_0.02_500", stream=True), b"word3"),
    "in a silence": (chat("stall_after_2", stream=True), b"word1"),
    "waiting for a whole answer": (chat("ttft"), b""),
    "inside a whole answer": (chat("drip_0.05_200"), b""),
}


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    upstreams = {"up": upstream, "hole": upstream.black_hole}
    return crew.gateway(upstreams, GATEWAY_DEFAULT_UPSTREAM="up", GATEWAY_CONNECT_TIMEOUT_SECONDS=5)


def _started(
    gateway: Gateway, upstream: Upstream, body, request_id: str, heard: bytes, path: str = CHAT
) -> RawClient:
    """Return a client whose call has reached its phase."""
    client = RawClient(gateway.port)
    client.send(post(body, request_id, path))
    wait_until(lambda: upstream.seen(request_id), 5, "the call at the upstream")
    if heard:
        client.answer(until=heard)
    return client


def _leave(client: RawClient, how: str) -> float:
    left_s = monotonic()
    client.reset() if how == "RST" else client.close()
    return left_s


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("phase", PHASES)
def test_t62_the_upstream_is_closed_within_100_ms_of_the_clients_leaving(
    gateway, upstream, new_id, phase, how, record_property
):
    body, heard = PHASES[phase]
    ids = [f"{new_id}-{place}" for place in range(size_of("T62 clients a phase"))]

    delays_s = []
    for request_id in ids:
        client = _started(gateway, upstream, body, request_id, heard)
        left_s = _leave(client, how)
        delays_s.append(upstream.ended(request_id)["closed_s"] - left_s)

    record_property("median_ms", round(statistics.median(delays_s) * 1000, 2))
    assert max(delays_s) <= LIMIT_S, delays_s
    for request_id in ids:
        line = gateway.line(request_id)
        assert line["code"] == "client_gone", line
        assert line["status"] == (200 if heard else 499)
        assert len(upstream.seen(request_id)) == 1
        if heard:
            assert line["tokens_out"] > 0, "what was generated must be counted"
    wait_until(lambda: gateway.metric("gateway_in_flight_requests") == 0, 5, "nothing in flight")


def test_t62_leaving_while_the_connection_is_being_made_ends_the_call_too(gateway, new_id):
    client = RawClient(gateway.port)
    began_s = monotonic()
    client.send(post(chat("hole"), new_id))
    pause(0.5)

    left_s = _leave(client, "FIN")

    line = gateway.line(new_id)
    assert line["code"] == "client_gone"
    assert line["duration_ms"] / 1000 <= left_s - began_s + LIMIT_S


def test_t62_a_completion_is_cancelled_like_a_chat(gateway, upstream, new_id):
    client = _started(
        gateway,
        upstream,
        completion("drip_0.02_500", stream=True),
        new_id,
        b"word3",
        "/v1/completions",
    )

    left_s = _leave(client, "FIN")

    assert upstream.ended(new_id)["closed_s"] - left_s <= LIMIT_S


def test_t62_a_client_that_pipelined_and_left_is_noticed_too(gateway, upstream, new_id):
    """Unread bytes hide the FIN from a plain read watcher."""
    client = _started(gateway, upstream, chat("ttft", stream=True), new_id, b"")
    client.send(request("GET", "/health"))
    pause(0.3)

    left_s = _leave(client, "FIN")

    assert upstream.ended(new_id)["closed_s"] - left_s <= 0.3
    assert gateway.line(new_id)["code"] == "client_gone"


def test_t62_closing_only_the_sending_half_counts_as_leaving(gateway, upstream, new_id):
    client = _started(gateway, upstream, chat("ttft", stream=True), new_id, b"")

    left_s = monotonic()
    client.sock.shutdown(socket.SHUT_WR)

    assert upstream.ended(new_id)["closed_s"] - left_s <= LIMIT_S
    client.close()


@pytest.mark.parametrize("how", ["FIN", "RST"])
def test_t62_a_client_that_leaves_inside_its_own_request_reaches_no_upstream(
    gateway, upstream, new_id, how
):
    whole = post(chat("ok"), new_id)
    client = RawClient(gateway.port)
    client.send(whole[:-10])
    wait_until(
        lambda: gateway.metric("gateway_in_flight_requests") == 1, 5, "the request is being read"
    )

    _leave(client, how)

    assert gateway.line(new_id)["code"] == "client_gone"
    assert upstream.seen(new_id) == []
    wait_until(lambda: gateway.metric("gateway_in_flight_requests") == 0, 5, "nothing in flight")


def test_t62_leaving_before_the_head_is_complete_is_no_event_at_all(gateway):
    client = RawClient(gateway.port)
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthor")
    before = len(gateway.lines())

    client.reset()

    assert gateway.look("/health")[0] == 200
    assert len(gateway.lines()) == before


def test_t62_a_cancelled_stream_is_counted(gateway, upstream, new_id):
    before = gateway.metric("gateway_clients_gone_total")
    client = _started(gateway, upstream, chat("stall_after_2", stream=True), new_id, b"word1")

    _leave(client, "FIN")

    wait_until(
        lambda: gateway.metric("gateway_clients_gone_total") == before + 1,
        5,
        "one more client gone",
    )
