"""The rooms stack one way; the contracts are written down in pyproject.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path

from tests.rules.house import GATEWAY, ROOT


def test_the_import_contracts_hold():
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-logo"]

    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_every_room_stands_in_the_stack():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    [stack] = [contract for contract in contracts if contract["type"] == "layers"]
    layers = {name.strip() for layer in stack["layers"] for name in layer.split("|")}

    rooms = {
        path.stem for path in GATEWAY.iterdir() if path.name not in {"__init__.py", "__pycache__"}
    }

    assert stack["exhaustive"] is True
    assert layers == rooms
