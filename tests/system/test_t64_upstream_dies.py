"""T64 in part: upstreams that die, hang or come back, and what the others notice of it."""

import signal

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import Gateway, Upstream, p99, post, running, wait_until
from tests.system.sizes import size_of

FLOOR_S = 0.02
PROBES = {"HEALTH_CHECK_INTERVAL_SEC": 0.3, "HEALTH_CHECK_TIMEOUT_SEC": 0.5}
LISTED = "ok,stall_after_2,drip_0.1_30,ttft,ttft_0.5"


@pytest.fixture
def doomed() -> Upstream:
    """An upstream that its test may kill."""
    with running(Upstream("--models", LISTED)) as upstream:
        yield upstream


@pytest.fixture
def alone(doomed, tmp_path) -> Gateway:
    with running(Gateway(tmp_path / "alone", {"up": doomed}, **PROBES)) as gateway:
        yield gateway


@pytest.fixture
def paired(doomed, tmp_path) -> Gateway:
    with (
        running(Upstream("--models", LISTED, "--always", "ok")) as sound,
        running(
            Gateway(tmp_path / "paired", {"first": doomed, "second": sound}, **PROBES)
        ) as gateway,
    ):
        yield gateway


def _timed(gateway: Gateway, count: int, **headers: str) -> list[float]:
    times_s = []
    with RawClient(gateway.port) as client:
        for _ in range(count):
            began_s = monotonic()
            answer = client.ask(post(chat("ok"), **headers))
            assert answer.status == 200, answer
            times_s.append(monotonic() - began_s)
    return times_s


@pytest.mark.parametrize("model", ["stall_after_2", "drip_0.1_30"])
def test_a_stream_whose_upstream_is_killed_ends_with_an_error_and_no_end(alone, doomed, model):
    with RawClient(alone.port) as client:
        client.send(post(chat(model, stream=True)))
        client.answer(until=b"word1")

        doomed.signal(signal.SIGKILL)
        said = client.rest()

    assert b'"code":"upstream_truncated"' in said
    assert b"[DONE]" not in said
    assert not said.endswith(b"0\r\n\r\n")


def test_a_reply_whose_upstream_is_killed_is_a_502(alone, doomed, new_id):
    with RawClient(alone.port) as client:
        client.send(post(chat("ttft"), new_id))
        wait_until(lambda: doomed.seen(new_id), 5, "the call at the upstream")

        doomed.signal(signal.SIGKILL)
        answer = client.answer()

    assert (answer.status, answer.error()["code"]) == (502, "upstream_reset")


def test_a_dead_upstream_is_told_at_once_and_used_again_when_it_is_back(alone, doomed):
    port = doomed.port
    doomed.stop()

    began_s = monotonic()
    answer = alone.ask(chat("ok"))

    assert (answer.status, answer.error()["code"]) == (503, "upstream_unavailable")
    assert monotonic() - began_s < 0.5
    wait_until(lambda: alone.look("/readyz")[0] == 503, 10, "readiness follows")
    assert alone.look("/health")[0] == 200
    doomed.start(port)
    assert alone.ask(chat("ok")).status == 200
    wait_until(lambda: alone.look("/readyz")[0] == 200, 15, "ready again")


def test_another_server_takes_over_from_a_dead_one(paired, doomed):
    doomed.stop()

    answers = [paired.ask(chat("ok", stream=stream)) for stream in (False, True)]

    for answer in answers:
        assert answer.status == 200
        assert answer.header("x-backend-used") == "second"


@pytest.mark.parametrize("death", ["killed", "hanging"])
def test_t64_one_dead_upstream_does_not_slow_another(doomed, tmp_path, death, record_property):
    """Fifty callers wait on it meanwhile, and its probe too."""
    with (
        running(Upstream()) as sound,
        running(Gateway(tmp_path, {"sound": sound, "doomed": doomed}, **PROBES)) as gateway,
    ):
        count = size_of("T64 requests")
        quiet_s = _timed(gateway, count, X_Backend="sound")
        doomed.signal(signal.SIGKILL if death == "killed" else signal.SIGSTOP)
        waiting = [RawClient(gateway.port) for _ in range(50)]
        for client in waiting:
            client.send(post(chat("ok"), X_Backend="doomed"))

        busy_s = _timed(gateway, count, X_Backend="sound")

        record_property(
            "p99_ms quiet, busy", (round(p99(quiet_s) * 1000, 1), round(p99(busy_s) * 1000, 1))
        )
        assert p99(busy_s) < 1.5 * p99(quiet_s) + FLOOR_S
        for client in waiting:
            client.close()


def test_idle_connections_that_the_upstream_closed_are_let_go(alone, doomed):
    """Half-closed connections that nobody takes out again would pile up in the pool."""
    clients = [RawClient(alone.port) for _ in range(40)]
    for client in clients:
        client.send(post(chat("ttft_0.5")))
    for client in clients:
        assert client.answer().status == 200
        client.close()
    (worker,) = alone.workers()
    assert alone.upstream_connections(worker) >= 40

    doomed.stop()

    wait_until(lambda: alone.upstream_connections(worker) <= 2, 15, "the pool is empty")
