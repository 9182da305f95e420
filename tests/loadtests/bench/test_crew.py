"""Tests of the raw-socket clients."""

import json
from collections.abc import Callable

import msgspec
import pytest

from loadtests.bench.crew import Crew, build_request
from loadtests.bench.fake_upstream import FakeUpstream
from loadtests.bench.jobs import ClosedLoop


def test_request_has_the_wanted_length_and_headers(closed_loop: Callable[..., ClosedLoop]) -> None:
    """The prompt is as long as asked; headers of the system are sent."""
    job = closed_loop(80)
    endpoint = msgspec.structs.replace(job.endpoint, headers={"X-API-Key": "k"})
    job = msgspec.structs.replace(job, endpoint=endpoint, prompt_chars=20_000)
    head, _, body = build_request(job).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"X-API-Key: k" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert len(json.loads(body)["messages"][1]["content"]) == 20_000


def test_connection_is_used_again(
    upstream: FakeUpstream, closed_loop: Callable[..., ClosedLoop]
) -> None:
    """An answered client is idle, the next request takes it."""
    crew = Crew(closed_loop(upstream.port))
    crew.send()
    (first,) = crew.poll(5.0)
    crew.send()
    (second,) = crew.poll(5.0)
    crew.close()
    assert first.problem is None
    assert first.latency_ns > 0
    assert second.client is first.client


def test_model_outside_the_benchmark_is_refused(closed_loop: Callable[..., ClosedLoop]) -> None:
    """Without a known behaviour nothing could be checked."""
    with pytest.raises(ValueError, match="gpt-4o"):
        Crew(closed_loop(80, "gpt-4o"))
