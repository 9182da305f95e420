"""Tests of the fake upstream over a real loopback socket."""

import http.client
import json
import socket

import pytest

from loadtests.bench import canned, models
from loadtests.bench.fake_upstream import FakeUpstream


def _ask(port: int, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, json.dumps(body) if body is not None else None)
    reply = connection.getresponse()
    answer = reply.status, reply.read()
    connection.close()
    return answer


def _chat(model: str, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hi"}], "model": model, **fields}


def _contents(body: bytes) -> list[str]:
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    choices = [json.loads(event)["choices"] for event in events[:-1]]
    assert events[-1] == b"[DONE]"
    return [choice[0]["delta"].get("content", "") for choice in choices if choice]


def test_answers_a_chat(upstream: FakeUpstream) -> None:
    """Without streaming the canned answer comes back under the asked model's name."""
    status, body = _ask(upstream.port, "POST", "/v1/chat/completions", _chat("bench"))
    assert status == 200
    assert json.loads(body)["model"] == "bench"
    assert json.loads(body)["choices"][0]["message"]["content"] == canned.REPLY_TEXT


@pytest.mark.parametrize("model", [models.burst(30), models.paced(30, 1)])
def test_streams_as_the_model_name_says(upstream: FakeUpstream, model: str) -> None:
    """Burst or paced, the chunks are numbered and the stream ends with [DONE]."""
    status, body = _ask(upstream.port, "POST", "/v1/chat/completions", _chat(model, stream=True))
    numbered = [content for content in _contents(body) if content]
    stamps = [int(content.partition("@")[2]) for content in numbered]
    assert status == 200
    assert [int(content[:5]) for content in numbered] == list(range(30))
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == (1 if "burst" in model else 30)


def test_sends_usage_only_when_asked(upstream: FakeUpstream) -> None:
    """``stream_options.include_usage`` brings one more chunk."""
    asked = _chat("bench", stream=True, stream_options={"include_usage": True})
    _, with_usage = _ask(upstream.port, "POST", "/v1/chat/completions", asked)
    _, without = _ask(upstream.port, "POST", "/v1/chat/completions", _chat("bench", stream=True))
    assert b'"usage"' in with_usage
    assert b'"usage"' not in without


def test_lists_its_models(upstream: FakeUpstream) -> None:
    """A gateway may ask which models there are."""
    status, body = _ask(upstream.port, "GET", "/v1/models")
    assert status == 200
    assert [row["id"] for row in json.loads(body)["data"]] == ["bench", "bench-burst-3"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", _chat("gpt-4o"), 404),
        ("POST", "/v1/chat/completions", {"model": "bench"}, 400),
        ("GET", "/v1/files", None, 404),
    ],
)
def test_refuses_what_it_does_not_know(
    upstream: FakeUpstream, method: str, path: str, body: object, status: int
) -> None:
    """Errors come in OpenAI's envelope."""
    found, answer = _ask(upstream.port, method, path, body)
    assert found == status
    assert json.loads(answer)["error"]["message"]


def test_takes_requests_in_pieces_and_in_pairs(upstream: FakeUpstream) -> None:
    """A request may come cut anywhere, and two may come at once."""
    body = json.dumps(_chat("bench")).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    expected = 2 * canned.completion("bench")
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as sock:
        sock.sendall(request[:50])
        sock.sendall(request[50:] + request)
        received = b""
        while len(received) < len(expected):
            received += sock.recv(65536)
    assert received == expected
