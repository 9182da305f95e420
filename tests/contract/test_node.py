"""OpenAI's client for Node against the gateway: it decodes vectors and streams in its own way."""

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.contract import fake_openai
from tests.contract.running import ROOT, Gateway
from tests.contract.sites import TIME, WEATHER

HERE = Path(__file__).parent / "node"
FILES = ("package.json", "package-lock.json", "check.mjs")
LIMIT_S = 100
KINDS = (
    fake_openai.EMBEDDINGS,
    fake_openai.EMBEDDINGS_FLOATS,
    fake_openai.EMBEDDINGS_BASE64,
    fake_openai.EMBEDDINGS_NESTED,
)
pytestmark = pytest.mark.slow


def without(what: str) -> NoReturn:
    """Skip; but under CI, where everything must be there, fail."""
    reason = f"{what}; install Node 20 or newer with npm (on Debian: apt install nodejs npm)"
    if os.environ.get("CI") == "true":  # noqa: TID251  # CI's own variable, none of ours
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where the client is installed, once for each set of pinned versions."""
    if not shutil.which("node") or not shutil.which("npm"):
        without("node or npm is missing")
    pinned = b"".join((HERE / name).read_bytes() for name in FILES[:2])
    place = ROOT / "build" / f"contract-node-{hashlib.sha256(pinned).hexdigest()[:12]}"
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(HERE / name, place / name)
    if not (place / "node_modules" / "openai").is_dir():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        ran = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        if ran.returncode:
            shutil.rmtree(place / "node_modules", ignore_errors=True)
            without(f"'npm ci' could not install the client: {ran.stderr[-300:]}")
    return place


@pytest.fixture(scope="module")
def found(folder: Path, fake_gateway: Gateway) -> dict[str, Any]:
    """Everything that the client found, asked in one process."""
    plan = {
        "chat": fake_openai.CHAT,
        "slashed": fake_openai.CHAT_WITH_SLASH,
        "embeddings": KINDS,
        "broken": fake_openai.CUT_STREAM,
        "tools": [WEATHER, TIME],
    }
    ran = subprocess.run(
        ["node", "check.mjs"],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],  # noqa: TID251  # to find node by
            "GATEWAY_URL": fake_gateway.base_url,
            "GATEWAY_KEY": fake_gateway.key,
            "PLAN": json.dumps(plan),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_version_under_test_is_pinned_exactly() -> None:
    package, lock = (json.loads((HERE / name).read_text()) for name in FILES[:2])

    (version,) = package["dependencies"].values()

    assert version[0].isdigit()
    assert lock["packages"]["node_modules/openai"]["version"] == version
    assert lock["packages"]["node_modules/openai"]["integrity"].startswith("sha512-")


def test_node_gets_an_answer_in_one_piece(found: dict[str, Any]) -> None:
    """With the request id where the client looks for it."""
    whole = found["whole"]

    assert whole["text"] == fake_openai.TEXT
    assert whole["backend"] == "fake"
    assert whole["requestId"] == whole["header"]


def test_node_gets_a_stream(found: dict[str, Any]) -> None:
    """One role, one finish, usage in a last chunk without choices."""
    stream = found["stream"]

    assert stream["text"] == fake_openai.TEXT
    assert stream["roles"] == ["assistant"]
    assert stream["finishes"] == ["stop"]
    assert stream["usage"]["total_tokens"] == 18
    assert stream["choicesOfLast"] == 0


def test_node_assembles_parallel_tool_calls(found: dict[str, Any]) -> None:
    assert [call["name"] for call in found["calls"]] == ["get_weather", "get_time"]
    assert [call["arguments"]["place"] for call in found["calls"]] == [0, 1]
    assert len({call["id"] for call in found["calls"]}) == 2


@pytest.mark.parametrize("model", KINDS)
def test_node_decodes_the_right_numbers(found: dict[str, Any], model: str) -> None:
    """It asks for base64 and takes a list of floats for base64, without an error."""
    expected = [fake_openai.vector_for("one"), fake_openai.vector_for("three")]

    assert found["embeddings"][model] == {"decoded": expected, "floats": expected}


def test_node_lists_and_retrieves_models(found: dict[str, Any]) -> None:
    assert fake_openai.CHAT in found["models"]
    assert found["slashed"] == fake_openai.CHAT_WITH_SLASH


def test_node_raises_the_right_errors(found: dict[str, Any]) -> None:
    unknown, stranger = found["unknown"], found["stranger"]

    assert (unknown["kind"], unknown["code"]) == ("NotFoundError", "model_not_found")
    assert unknown["param"] == "model"
    assert unknown["requestId"].startswith("req-")
    assert (stranger["kind"], stranger["code"]) == ("AuthenticationError", "invalid_api_key")


def test_node_raises_on_a_broken_stream(found: dict[str, Any]) -> None:
    """After the text so far; never a quiet, shorter answer."""
    broken = found["broken"]

    assert fake_openai.TEXT.startswith(broken["text"])
    assert broken["text"]
    assert broken["error"] == {"kind": "APIError", "code": "upstream_truncated"}
