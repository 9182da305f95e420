"""T59, F29: a stop ends every stream properly and in time, and says beforehand that it comes."""

import http
from pathlib import Path

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import Answer, RawClient, chat
from tests.system.servers import Gateway, Upstream, pause, post, running, wait_until
from tests.system.sizes import size_of

GRACEFUL_S = 10
STREAMS = size_of("T59 streams")
MODELS = ("drip_0.1_20", "drip_0.05_400", "stall_after_2", "late", "ttft")
"""One that ends in time, four that would go on: talking, silent, without content, or a head."""


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


def _gateway(folder: Path, upstream: Upstream, **settings) -> Gateway:
    return Gateway(
        folder,
        {"up": upstream},
        GATEWAY_DEFAULT_UPSTREAM="up",
        GATEWAY_GRACEFUL_TIMEOUT_SECONDS=GRACEFUL_S,
        **settings,
    )


def _exit(gateway: Gateway) -> tuple[int, float]:
    """Return the exit code and how long it took from now."""
    began_s = monotonic()
    code = gateway.process.wait(GRACEFUL_S + 10)
    return code, monotonic() - began_s


def _assert_ended_properly(answer: Answer, model: str) -> str:
    if model == MODELS[0]:
        assert answer.events()[-1] == "[DONE]", answer
        assert answer.whole
        return "done"
    if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        assert answer.error()["code"] == "server_draining"
        assert answer.whole
        return "server_draining"
    error = answer.document_of_last_event()["error"]
    assert error["code"] == "server_draining", answer
    assert not answer.whole
    assert b"[DONE]" not in answer.body
    return str(error["code"])


@pytest.mark.parametrize("workers", [1, 2])
def test_t59_a_stop_with_200_streams_ends_each_of_them(upstream, tmp_path, new_id, workers):
    with running(_gateway(tmp_path, upstream, WEB_CONCURRENCY=workers)) as gateway:
        clients = []
        for place in range(STREAMS):
            model = MODELS[place % len(MODELS)]
            client = RawClient(gateway.port, timeout_s=30)
            client.send(post(chat(model, stream=True), f"{new_id}-{place}"))
            clients.append((client, model))
        wait_until(
            lambda: gateway.metric("gateway_in_flight_requests") >= STREAMS * 0.8,
            10,
            "all are carried",
        )

        gateway.terminate()
        stopped_s = monotonic()
        for client, model in clients:
            _assert_ended_properly(client.answer(), model)
            client.close()
        code, _ = _exit(gateway)
        took_s = monotonic() - stopped_s

        assert code == 0
        assert took_s <= GRACEFUL_S - 2
        finished = {line["request_id"] for line in gateway.lines(event="request")}
        assert {f"{new_id}-{place}" for place in range(STREAMS)} <= finished, (
            "every request has its line"
        )
        for word in ("SIGKILL", "graceful timeout", "Traceback", "Exception"):
            assert word not in gateway.output()


def test_t59_readiness_turns_before_the_doors_close(upstream, tmp_path):
    with running(_gateway(tmp_path, upstream)) as gateway, RawClient(gateway.port) as client:
        client.send(post(chat("drip_0.1_20", stream=True)))
        client.answer(until=b"word1")

        gateway.terminate()
        seen = set()
        ends_s = monotonic() + 1.5
        while monotonic() < ends_s:
            try:
                seen.add(gateway.look("/readyz")[0])
            except OSError:
                seen.add(0)
            pause(0.02)

        assert seen >= {503, 0}
        assert client.rest().endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_t59_short_requests_finish(upstream, tmp_path):
    with running(_gateway(tmp_path, upstream)) as gateway, RawClient(gateway.port) as client:
        client.send(post(chat("ttft_1.5")))
        pause(0.2)

        gateway.terminate()
        answer = client.answer()

        assert answer.status == 200
        assert answer.header("connection") is not None
        assert _exit(gateway)[0] == 0


def test_t59_what_arrives_too_late_is_refused_and_not_left_hanging(upstream, tmp_path):
    with running(_gateway(tmp_path, upstream)) as gateway:
        open_before = RawClient(gateway.port, timeout_s=5)
        gateway.terminate()

        outcomes = []
        ends_s = monotonic() + 2
        while monotonic() < ends_s:
            began_s = monotonic()
            try:
                outcomes.append(gateway.ask(chat("ok"), timeout_s=3).status)
            except (ConnectionError, TimeoutError) as error:
                outcomes.append(type(error).__name__)
            assert monotonic() - began_s < 2
            pause(0.05)

        assert set(outcomes) <= {200, 503, 0, "ConnectionRefusedError", "ConnectionResetError"}, (
            outcomes
        )
        assert outcomes[-1] == "ConnectionRefusedError"
        open_before.close()


def test_t59_idle_connections_delay_nothing(upstream, tmp_path):
    with running(_gateway(tmp_path, upstream)) as gateway:
        idle = [RawClient(gateway.port) for _ in range(20)]
        for client in idle[:10]:
            assert client.ask(post(chat("ok"))).status == 200

        gateway.terminate()
        code, took_s = _exit(gateway)

        assert code == 0
        assert took_s < 4
        for client in idle:
            client.close()


def test_t59_nothing_of_it_is_left(upstream, tmp_path):
    with running(_gateway(tmp_path, upstream, WEB_CONCURRENCY=2)) as gateway:
        workers = gateway.workers()
        gateway.terminate()
        _exit(gateway)

        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        assert not list(tmp_path.glob("gateway-metrics-*"))
