"""Many slow streams at once all come out whole."""

import collections
import json

import pytest

from tests.fakes.rawclient import RawClient, chat
from tests.system.servers import post, wait_until
from tests.system.sizes import size_of

STREAMS = size_of("slow streams at once")
WORDS = 20


@pytest.mark.parametrize("workers", [1, 2])
def test_200_slow_streams_at_once_all_complete(crew, workers):
    upstream = crew.upstream()
    gateway = crew.gateway({"up": upstream}, GATEWAY_DEFAULT_UPSTREAM="up", WEB_CONCURRENCY=workers)
    clients = [RawClient(gateway.port, timeout_s=40) for _ in range(STREAMS)]
    options = {"stream_options": {"include_usage": True}}

    for client in clients:
        client.send(post(chat(f"drip_0.1_{WORDS}", stream=True, **options)))
    wait_until(lambda: upstream.open_connections() >= STREAMS, 10, "all at once")
    answers = [client.answer() for client in clients]

    for client, answer in zip(clients, answers, strict=True):
        assert answer.status == 200
        assert answer.whole
        assert answer.text() == "".join(f"word{place} " for place in range(WORDS))
        assert answer.events()[-1] == "[DONE]"
        assert json.loads(answer.events()[-2])["usage"]["total_tokens"] == 4
        client.close()
    outcomes = collections.Counter(
        line.get("code", "ok") for line in gateway.lines(event="request", stream=True)
    )
    assert outcomes == {"ok": STREAMS}
