"""T07: a worker that is full says so at once, and its observability port does not notice."""

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import Gateway, Upstream, get, post, wait_until
from tests.system.sizes import size_of

LIMIT = size_of("T07 worker connections")
IN_FLIGHT = LIMIT - 20
HEALTH_S = 0.1
ANSWER_S = 2.5


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream},
        GATEWAY_DEFAULT_UPSTREAM="up",
        GATEWAY_WORKER_CONNECTIONS=LIMIT,
        GATEWAY_MAX_IN_FLIGHT=IN_FLIGHT,
    )


def _assert_health_is_quick(gateway: Gateway) -> None:
    for path in ("/health", "/readyz") * 10:
        began_s = monotonic()
        assert gateway.look(path)[0] == 200
        assert monotonic() - began_s < HEALTH_S


def _assert_refused_quickly(gateway: Gateway) -> None:
    began_s = monotonic()
    with RawClient(gateway.port, timeout_s=ANSWER_S + 2) as client:
        client.send(get("/v1/models"))
        answer = client.answer()
    assert (answer.status, answer.error()["code"]) == (503, "overloaded"), answer
    assert answer.header("x-request-id") == answer.error()["request_id"]
    assert answer.header("retry-after") == "1"
    assert monotonic() - began_s < ANSWER_S


def test_t07_idle_connections_beyond_the_limit_cost_a_503_and_no_hang(gateway):
    flood = [RawClient(gateway.port) for _ in range(LIMIT + 100)]

    _assert_health_is_quick(gateway)
    for _ in range(3):
        _assert_refused_quickly(gateway)

    for client in flood:
        client.close()
    wait_until(lambda: gateway.ask(chat("ok")).status == 200, 5, "served again once they have left")


def test_t07_streams_beyond_the_limit_cost_a_503_and_no_hang(gateway):
    clients = []
    for _ in range(IN_FLIGHT):
        clients.append(RawClient(gateway.port))
        clients[-1].send(post(chat("late", stream=True)))
    wait_until(
        lambda: gateway.metric("gateway_in_flight_requests") == IN_FLIGHT, 15, "all are carried"
    )

    _assert_refused_quickly(gateway)
    _assert_health_is_quick(gateway)

    for client in clients:
        client.close()
    wait_until(lambda: gateway.ask(chat("ok")).status == 200, 5, "served again once they have left")


def test_t07_a_flood_of_the_observability_port_leaves_the_api_alone(gateway):
    flood = [RawClient(gateway.observability_port) for _ in range(LIMIT + 100)]

    for _ in range(10):
        began_s = monotonic()
        assert gateway.ask(chat("ok")).status == 200
        assert monotonic() - began_s < 1

    for client in flood:
        client.close()
