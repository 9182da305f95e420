"""F16: a client that stops reading is given up, and its upstream with it."""

from pathlib import Path

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import Gateway, Upstream, pause, post

DEADLINE_S = 1.0


@pytest.fixture(scope="module")
def upstream(crew) -> Upstream:
    return crew.upstream()


@pytest.fixture(scope="module")
def gateway(crew, upstream) -> Gateway:
    return crew.gateway(
        {"up": upstream},
        GATEWAY_DEFAULT_UPSTREAM="up",
        GATEWAY_WRITE_TIMEOUT_SECONDS=DEADLINE_S,
        GATEWAY_HEARTBEAT_SECONDS=0.2,
    )


def _reader(gateway: Gateway, model: str, request_id: str, *, stream: bool = True) -> RawClient:
    client = RawClient(gateway.port, receive_bytes=4096)
    client.send(post(chat(model, stream=stream), request_id))
    return client


def _read_all(client: RawClient) -> None:
    while client.sock.recv(65_536):
        pass


def test_a_reader_that_never_reads_is_ended_with_its_upstream(gateway, upstream, new_id):
    client = _reader(gateway, "burst", new_id)
    began_s = monotonic()

    record = upstream.ended(new_id, within_s=DEADLINE_S + 5)

    assert record["closed_s"] is not None, "the upstream was still sending"
    assert DEADLINE_S <= record["closed_s"] - began_s <= DEADLINE_S + 2.5
    line = gateway.line(new_id)
    assert line["code"] == "client_gone", line
    client.close()


def test_such_a_reader_sees_a_reset_and_not_a_silence_without_end(gateway, upstream, new_id):
    """A FIN would wait behind the bytes that are not being read."""
    with _reader(gateway, "burst", new_id) as client:
        upstream.ended(new_id, within_s=DEADLINE_S + 5)

        client.sock.settimeout(3)
        with pytest.raises(ConnectionResetError):
            _read_all(client)


def test_an_answer_in_one_piece_has_the_same_deadline(gateway, new_id):
    with _reader(gateway, "huge_body_16", new_id, stream=False) as client:
        client.sock.settimeout(3)

        pause(DEADLINE_S + 2)

        with pytest.raises(ConnectionResetError):
            _read_all(client)
    assert gateway.line(new_id)["status"] == 200


def test_a_reader_that_never_reads_binds_little_memory(gateway, upstream, new_id):
    """The kernel would keep 4 MB for each, and fill them at once."""
    with _reader(gateway, "burst", new_id):
        pause(DEADLINE_S / 2)

        assert 0 < _unread_bytes(gateway.port) <= 600_000


def _unread_bytes(port: int) -> int:
    """Return how many bytes the kernel holds for the clients of a port."""
    held = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}"):
            held += int(fields[4].partition(":")[0], 16)
    return held


def test_a_slow_reader_that_goes_on_reading_is_served_to_the_end(gateway, new_id):
    client = _reader(gateway, "burst_400", new_id)

    said = b""
    while not said.endswith(b"0\r\n\r\n"):
        data = client.sock.recv(16_384)
        assert data, "cut"
        said += data
        pause(0.02)

    assert said.count(b"data: ") >= 402
    client.close()


def test_a_client_that_is_merely_idle_between_requests_is_not_an_error(gateway, new_id):
    """The deadline of the last answer must not end the wait for the next request."""
    with RawClient(gateway.port) as client:
        client.ask(post(chat("ok")))
        pause(DEADLINE_S + 0.5)

        answer = client.ask(post(chat("ok")))

    assert answer.status == 200
