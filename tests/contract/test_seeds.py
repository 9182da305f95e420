"""The requests that users find in the READMEs of the gateways this one replaces.

Each ``curl`` line stands here as printed there; it is sent to our port, with no model anywhere.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.contract.running import Gateway
from tests.contract.strict import read_stream
from tests.contract.wire import Answer, Connection

Check = Callable[[Answer], object]
OBSERVABILITY = 8801


@dataclass
class Curl:
    """What a ``curl`` line sends."""

    method: str = "GET"
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @classmethod
    def parse(cls, line: str) -> "Curl":
        """Read the few options that the READMEs use; fail on any other."""
        sent = cls()
        words = iter(shlex.split(line.replace("\\\n", " ")))
        assert next(words) == "curl"
        for word in words:
            if word == "-X":
                sent.method = next(words)
            elif word == "-H":
                name, _, value = next(words).partition(":")
                sent.headers[name] = value.strip()
            elif word == "-d":
                sent.body = next(words).encode()
            else:
                assert not word.startswith("-"), f"unknown option {word}"
                sent.url = word
        return sent


def chat(answer: Answer) -> None:
    """One whole chat.completion."""
    document = answer.json()
    choice = document["choices"][0]
    assert document["object"] == "chat.completion"
    assert {"id", "created", "model", "usage"} <= set(document)
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "stop"


def stream(answer: Answer) -> None:
    """A stream that the strictest reader takes."""
    assert (answer.header("content-type") or "").startswith("text/event-stream")
    assert read_stream(answer.body, usage=False).choices[0].text


def unified(answer: Answer) -> None:
    """The unified answer: a completion with its context and timings."""
    document = answer.json()
    assert document["object"] == "unified.chat.completion"
    assert document["choices"][0]["message"]["content"]
    assert {"memories", "rag_documents"} <= set(document["context"])
    assert "total_latency_ms" in document["metadata"]


def models(answer: Answer) -> None:
    """OpenAI's model list, with the model of the next line in it."""
    document = answer.json()
    assert document["object"] == "list"
    assert "llama3.1:8b" in [model["id"] for model in document["data"]]


def metadata(answer: Answer) -> None:
    """Schema v1 with endpoints, capabilities and backends."""
    document = answer.json()
    assert document["schema_version"] == "v1"
    assert "/v1/chat/completions" in [item["path"] for item in document["endpoints"]]
    assert document["capabilities"]["streaming"] is True
    assert document["backends"]["available"]


def health(answer: Answer) -> None:
    """Says that it lives, and what is known of the services."""
    document = answer.json()
    assert document["ok"] is True
    assert document["status"] in {"ok", "degraded"}
    assert isinstance(document["services"], dict)


def metrics(answer: Answer) -> None:
    """Prometheus' text format."""
    assert (answer.header("content-type") or "").startswith("text/plain")
    assert b"\n# TYPE gateway_requests_total counter\n" in answer.body


LINES: list[tuple[str, Check]] = [
    # -- seed 000
    ("""curl http://localhost:8800/v1/models \\
  -H "Authorization: Bearer YOUR_TOKEN\"""", models),
    ("""curl -X POST http://localhost:8800/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -d '{
    "model": "llama3.1:8b",
    "messages": [
      {"role": "user", "content": "Hello!"}
    ]
  }'""", chat),
    ("""curl -X POST http://localhost:8800/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_TOKEN" \\
  -d '{
    "model": "llama3.1:8b",
    "messages": [
      {"role": "user", "content": "Tell me a story"}
    ],
    "stream": true
  }'""", stream),
    ("curl http://localhost:8800/v1/metadata", metadata),
    ("""curl -H "Authorization: Bearer YOUR_TOKEN" http://localhost:8800/v1/models""", models),
    ("curl http://localhost:8801/metrics", metrics),
    # -- seed 001
    ("""curl -X POST http://localhost:8000/v1/chat/completions \\
  -H "X-API-Key: dev-key" \\
  -H "Content-Type: application/json" \\
  -d '{"model":"mock","messages":[{"role":"user","content":"hello"}]}'""", chat),
    # -- seed 004
    ("curl http://localhost:9000/health", health),
    ("""curl -X POST http://localhost:9000/v1/chat \\
  -H "Authorization: Bearer sk-test-key-123" \\
  -H "Content-Type: application/json" \\
  -d '{"messages": [{"role": "user", "content": "Hello!"}]}'""", unified),
    ("""curl -X POST http://localhost:9000/v1/chat \\
  -H "Authorization: Bearer sk-test-key-123" \\
  -H "Content-Type: application/json" \\
  -d '{
    "messages": [
      {"role": "user", "content": "What do you know about me?"}
    ],
    "user_id": "alice-001",
    "use_memory": true,
    "use_rag": true,
    "store_memory": true,
    "rag_k": 3,
    "memory_limit": 5,
    "max_tokens": 200
  }'""", unified),
    ("""curl -X POST http://localhost:9000/v1/chat/completions \\
  -H "Authorization: Bearer sk-test-key-123" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "llama-3.3-8b-instruct",
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "Hello!"}
    ],
    "max_tokens": 100
  }'""", chat),
    ("""curl http://localhost:9000/metrics \\
  -H "Authorization: Bearer sk-test-key-123\"""", metrics),
]  # fmt: skip
NOT_YET = pytest.mark.xfail(strict=True, reason="the unified chat is not built yet")


def every_line() -> list[Any]:
    params = []
    for line, check in LINES:
        sent = Curl.parse(line)
        name = f"{sent.method} {urlsplit(sent.url).path} {check.__name__}"
        params.append(pytest.param(sent, check, id=name, marks=NOT_YET if check is unified else ()))
    return params


@pytest.mark.parametrize(("sent", "check"), every_line())
def test_a_documented_request_answers_as_documented(
    mock_gateway: Gateway, sent: Curl, check: Check
) -> None:
    """200 with the shape the README promises, on whichever port ours listens."""
    on_observability = urlsplit(sent.url).port == OBSERVABILITY
    port = mock_gateway.observability_port if on_observability else mock_gateway.port
    body = None if sent.body is None else sent.body

    with Connection(port) as connection:
        answer = connection.ask(sent.method, urlsplit(sent.url).path, body, sent.headers)

    assert answer.status == 200, answer.body
    assert answer.complete
    check(answer)


@pytest.mark.parametrize(("sent", "check"), every_line())
def test_a_documented_request_needs_the_key_it_shows(
    mock_gateway: Gateway, sent: Curl, check: Check
) -> None:
    """The same line without its credential is refused, unless the README shows none."""
    named = {name for name in sent.headers if name in {"Authorization", "X-API-Key"}}
    on_observability = urlsplit(sent.url).port == OBSERVABILITY
    port = mock_gateway.observability_port if on_observability else mock_gateway.port
    rest = {name: value for name, value in sent.headers.items() if name not in named}

    with Connection(port) as connection:
        answer = connection.ask(sent.method, urlsplit(sent.url).path, sent.body, rest)

    assert answer.status == (401 if named else 200), check
    if named:
        assert json.loads(answer.body)["error"]["code"] == "missing_api_key"
