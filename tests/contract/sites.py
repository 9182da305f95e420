"""A gateway before one upstream, and what that upstream can do."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.contract import fake_openai
from tests.contract.running import Gateway

ORIGIN = "https://app.example"
"""A browser origin that the gateway before the fake server allows."""
FIRST_BYTE_LIMIT_S = 1.0
SEED_KEYS = {
    "GATEWAY_BEARER_TOKEN": "YOUR_TOKEN",
    "GATEWAY_API_KEYS": "dev-key",
    "API_KEYS": "sk-test-key-123",
}
"""The keys that stand in the READMEs whose requests must work."""
MESSAGES = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Tell the time in a zone.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}},
    },
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is on this picture?"},
            {"type": "image_url", "image_url": {"url": PIXEL}},
        ],
    }
]
DEVELOPER = [{"role": "developer", "content": "Be brief."}, *MESSAGES]
JSON_ANSWER = {"type": "json_object"}
UNKNOWN = {"shore_option": {"depth": 1.0}}

_BASE = {"completions", "developer", "extra", "json", "pictures", "tools"}
_VECTORS = {"embeddings", "dimensions", "tokens"}
ALWAYS: dict[str, set[str]] = {
    "mock": _BASE | _VECTORS,
    "fake": _BASE | _VECTORS | {"n", "parallel_tools"},
}
"""What the upstreams of the default run can do; tests that need more do not run there."""


@dataclass
class Site:
    """Where a promise is checked.

    ``said`` is the text every answer has, where that is known; ``limits`` keeps a real model brief.
    """

    name: str
    gateway: Gateway
    upstream: str
    model: str
    tools_model: str
    embeddings_model: str
    said: str | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def lacks(self, capability: str) -> str:
        """Return why this upstream cannot do something; empty when it can."""
        return self.reasons.get(capability, "")


def _mock_site(gateway: Gateway) -> Site:
    question = MESSAGES[0]["content"]
    said = f"This is the gateway's built-in mock model. You said: {question}"
    return Site("mock", gateway, "mock", "mock", "mock/tool=on", "mock", said)


def _fake_site(gateway: Gateway) -> Site:
    return Site(
        "fake", gateway, "fake", fake_openai.CHAT, fake_openai.CHAT, fake_openai.EMBEDDINGS,
        fake_openai.TEXT,
    )  # fmt: skip


STANDING: dict[str, Callable[[Gateway], Site]] = {"mock": _mock_site, "fake": _fake_site}


def real_site(gateway: Gateway, url: str, wanted: str | None) -> Site:
    """Return the site of ``--backend-url``, its capabilities found out by asking it directly."""
    with gateway.connect() as connection:
        listed = [card["id"] for card in connection.ask("GET", "/v1/models").json()["data"]]
    assert listed, f"the gateway lists no model of {url}; is the server up?"
    model = wanted or listed[0]
    assert model in listed, f"--backend-model {model} is not among {listed}"
    return Site(
        "real", gateway, "real", model, model, model,
        limits={"max_tokens": 12}, reasons=_Direct(url, model).reasons(),
    )  # fmt: skip


class _Direct:
    """Asks a server without the gateway in between, lest a fault of ours pass for one of its."""

    def __init__(self, url: str, model: str) -> None:
        _, _, rest = url.partition("://")
        secure = url.startswith(("https://", "ollama+https://"))
        root = rest.rstrip("/")
        root = root if "/" in root else f"{root}/v1"
        self._base = f"{'https' if secure else 'http'}://{root}"
        self._model = model

    def reasons(self) -> dict[str, str]:
        chat, weather = "/chat/completions", {"messages": MESSAGES, "max_tokens": 64}
        found = {
            "completions": self._refusal("/completions", {"prompt": "Hi", "max_tokens": 2}),
            "developer": self._refusal(chat, {"messages": DEVELOPER, "max_tokens": 2}),
            "extra": self._refusal(chat, {"messages": MESSAGES, "max_tokens": 2, **UNKNOWN}),
            "json": self._refusal(
                chat, {"messages": MESSAGES, "max_tokens": 2, "response_format": JSON_ANSWER}
            ),
            "pictures": self._refusal(chat, {"messages": PICTURE, "max_tokens": 2}),
            "embeddings": self._refusal("/embeddings", {"input": "Hi"}),
            "dimensions": self._refusal("/embeddings", {"input": "Hi", "dimensions": 4}),
            "tokens": self._refusal("/embeddings", {"input": [1, 2, 3]}),
            "tools": self._few_calls({**weather, "tools": [WEATHER]}, 1),
            "parallel_tools": self._few_calls({**weather, "tools": [WEATHER, TIME]}, 2),
            "n": self._few_choices({"messages": MESSAGES, "max_tokens": 2, "n": 2}),
        }
        return {capability: reason for capability, reason in found.items() if reason}

    def _ask(self, path: str, body: dict[str, Any]) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(
                self._base + path,
                json={"model": self._model, **body},
                timeout=110,
                allow_redirects=False,
            )

    def _refusal(self, path: str, body: dict[str, Any]) -> str:
        answer = self._ask(path, body)
        return "" if answer.ok else f"status {answer.status_code}, {answer.text[:120]}"

    def _few_calls(self, body: dict[str, Any], least: int) -> str:
        answer = self._ask("/chat/completions", body)
        if not answer.ok:
            return f"status {answer.status_code}, {answer.text[:120]}"
        calls = answer.json()["choices"][0]["message"].get("tool_calls") or ()
        return "" if len(calls) >= least else f"the model made {len(calls)} tool calls"

    def _few_choices(self, body: dict[str, Any]) -> str:
        answer = self._ask("/chat/completions", body)
        if not answer.ok:
            return f"status {answer.status_code}, {answer.text[:120]}"
        choices = answer.json()["choices"]
        return "" if len(choices) == body["n"] else f"it answers with {len(choices)} choices"
