"""The examples of docs/extending.md work: each is put where its first line says, and used."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
USE = Path(__file__).with_name("use_extensions.py")
BLOCK = re.compile(r"^```python\n# (?P<place>[^\n]+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)
OWN_FILES = {
    "gateway/backends/acme.py",
    "gateway/backends/shout.py",
    "gateway/routing/policies/surprise.py",
    "gateway/quotes/__init__.py",
    "gateway/quotes/routes.py",
    "gateway/quotes/settings.py",
}


def examples() -> dict[str, str]:
    """Return the code of the page by the place it names."""
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    return {found["place"]: found["code"] for found in BLOCK.finditer(page)}


def put_in(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path.name} has no single {before!r}"
    path.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the examples answered in a copy of the repository that they were added to."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("gateway", "docs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for place, code in examples().items():
        if place in OWN_FILES:
            assert not (copy / place).exists(), f"{place} would replace a file of ours"
            (copy / place).parent.mkdir(exist_ok=True)
            (copy / place).write_text(code, encoding="utf-8")
    # The lines that the page says must change in existing files.
    app = copy / "gateway/app.py"
    put_in(app, "SLICES: tuple[Blueprint, ...] = (", "SLICES: tuple[Blueprint, ...] = (quotes, ")
    wanted = "from gateway.quotes.routes import blueprint as quotes\n"
    put_in(app, "from gateway.routing.catalog", f"{wanted}from gateway.routing.catalog")
    with (copy / "gateway/kernel/errors.py").open("a", encoding="utf-8") as file:
        file.write(examples()["in gateway/kernel/errors.py"])
    metric = examples()["in TABLE of gateway/usage/metrics.py"].strip()
    put_in(copy / "gateway/usage/metrics.py", "TABLE = (\n", f"TABLE = (\n    {metric},\n")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(USE), str(copy / "data")],
        cwd=copy, env={"PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_example_of_the_page_is_used_here():
    assert set(examples()) == OWN_FILES | {
        "in gateway/kernel/errors.py",
        "in TABLE of gateway/usage/metrics.py",
    }


def test_a_backend_in_one_file_answers_in_one_piece(used):
    answer = json.loads(used["shout"]["text"])

    assert used["shout"]["status"] == 200
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "HELLO THERE"}


def test_a_careless_stream_of_a_backend_in_one_file_reaches_the_client_complete(used):
    *events, done, rest = used["shout_streamed"]["text"].split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]

    spoken = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)

    assert (spoken, done, rest) == ("HELLO THERE ", "data: [DONE]", "")
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"].get("role") for chunk in chunks].count("assistant") == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_dialect_of_openai_changes_only_what_it_declares(used):
    assert used["acme_body"] == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}],
        "max_tokens": 7,
        "top_k": 3,
    }
    assert used["acme_probe"] == "http://127.0.0.1:1/v1/models"


def test_a_policy_in_one_file_decides_and_no_other_file_knows_of_it(used):
    assert (used["surprise"]["status"], used["surprise"]["reason"]) == (200, "surprise:any")
    assert (used["shout"]["status"], used["shout"]["reason"]) == (200, "direct:model")


def test_an_endpoint_of_a_new_room_answers(used):
    assert used["quote"]["status"] == 200
    assert json.loads(used["quote"]["text"])["object"] == "quote"
    assert json.loads(used["judged"]["text"]) == {"object": "verdict", "ok": True}


def test_an_endpoint_of_a_new_room_is_guarded_by_its_declaration(used):
    assert used["quote_without_key"]["status"] == 401


def test_an_endpoint_of_a_new_room_explains_a_wrong_field(used):
    error = json.loads(used["judged_wrong_type"]["text"])["error"]

    assert used["judged_wrong_type"]["status"] == 400
    assert (error["code"], error["param"]) == ("invalid_request", "text")


def test_an_error_of_its_own_reaches_the_client_with_its_status_and_code(used):
    error = json.loads(used["judged_rude"]["text"])["error"]

    assert used["judged_rude"]["status"] == 422
    assert (error["code"], error["type"]) == ("too_rude", "invalid_request_error")


def test_a_metric_of_its_own_counts_only_names_from_the_closed_set(used):
    series = re.findall(r"^gateway_quotes_total\{.*", used["metrics"], re.MULTILINE)

    assert used["quote_unknown"]["status"] == 404
    assert series == ['gateway_quotes_total{name="hopper"} 1.0']


def test_a_setting_of_a_room_is_read_checked_and_listed(used):
    assert used["setting"] == 9
    assert used["setting_row"] == ["quotes", "GATEWAY_QUOTES_LONGEST", "characters"]
    assert used["problems"] == ["GATEWAY_QUOTES_LONGEST='0': must be at least 1. Longest quote."]


@pytest.mark.parametrize(
    "word", ["quotes.get", "quotes.judge", "`TooRude`", "gateway_quotes_total"]
)
def test_what_was_added_appears_in_the_generated_documents_by_itself(used, word):
    assert word in used["pages"]


def test_what_was_added_appears_in_the_metadata_by_itself(used):
    served = {item["operation_id"] for item in json.loads(used["metadata"])["endpoints"]}

    assert {"quotes.get", "quotes.judge"} <= served
