"""The first start makes one admin key, for one pair of eyes; a wrong setting starts nothing."""

import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient, request
from tests.system.servers import ROOT, Gateway, environment, free_port, get, running, wait_until
from tests.system.sizes import size_of

KEY_FORM = re.compile(r"nxs_[0-9A-Za-z]{8}_[0-9A-Za-z]{32}_[0-9A-Za-z]{6}")


def _keyless(folder: Path, data: Path, **settings) -> Gateway:
    return Gateway(folder, GATEWAY_API_KEYS="", DATA_DIR=data, **settings)


def _status_with(gateway: Gateway, key: str) -> int:
    with RawClient(gateway.port) as client:
        return client.ask(get("/v1/models", key)).status


def test_without_a_terminal_the_key_lies_in_a_file_for_its_owner_only(tmp_path):
    data = tmp_path / "data"
    with running(_keyless(tmp_path / "gateway", data, WEB_CONCURRENCY=2)) as gateway:
        file = data / "first_admin_key"
        key = file.read_text().strip()

        assert KEY_FORM.fullmatch(key)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE((data / "keys.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert _status_with(gateway, key) == 200
        assert _status_with(gateway, key[:-1] + "x") == 401
        assert _status_with(gateway, "") == 401

    said = gateway.output()
    assert said.count(f"lies in {file}") == 1, "the path is shown once, after the stop too"
    assert not KEY_FORM.search(said), "logs of containers are collected"
    assert key not in (data / "keys.json").read_text()


def test_a_second_start_makes_no_second_key(tmp_path):
    data = tmp_path / "data"
    with running(_keyless(tmp_path / "first", data)):
        key = (data / "first_admin_key").read_text()
        digests = (data / "keys.json").read_bytes()

    with running(_keyless(tmp_path / "second", data)) as again:
        assert (data / "first_admin_key").read_text() == key
        assert (data / "keys.json").read_bytes() == digests
        assert _status_with(again, key.strip()) == 200


def test_starts_that_race_make_one_key_between_them(tmp_path):
    data = tmp_path / "data"
    gateways = [
        _keyless(tmp_path / f"gateway{place}", data)
        for place in range(size_of("first starts that race"))
    ]
    try:
        for gateway in gateways:
            gateway.spawn()
        for gateway in gateways:
            wait_until(gateway.is_settled, 60, "start")

        key = (data / "first_admin_key").read_text().strip()

        assert len(json.loads((data / "keys.json").read_text())) == 1
        assert [_status_with(gateway, key) for gateway in gateways] == [200] * len(gateways)
    finally:
        for gateway in gateways:
            gateway.stop()


def test_a_configured_key_leaves_no_first_key(tmp_path):
    with running(Gateway(tmp_path / "gateway", DATA_DIR=tmp_path / "data")):
        assert not (tmp_path / "data" / "first_admin_key").exists()


class Terminal:
    """A gateway whose output goes to a terminal that somebody looks at."""

    def __init__(self, folder: Path) -> None:
        self.port, observability = free_port(), free_port()
        self._near, far = pty.openpty()
        env = environment(
            folder, GATEWAY_PORT=str(self.port), OBSERVABILITY_PORT=str(observability),
            DATA_DIR=str(folder / "data"), WEB_CONCURRENCY="2", TERM="xterm",
        )  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve"], cwd=folder, env=env,
            stdin=far, stdout=far, stderr=far, start_new_session=True,
        )  # fmt: skip
        os.close(far)
        self.said = ""

    def read(self, seconds: float, until: str = "") -> None:
        """Look at the terminal for a while."""
        ends_s = monotonic() + seconds
        while monotonic() < ends_s and not (until and until in self.said):
            if select.select([self._near], [], [], 0.1)[0]:
                try:
                    data = os.read(self._near, 65_536)
                except OSError:
                    return
                if not data:
                    return
                self.said += data.decode()

    def stop(self) -> None:
        """Stop it and read what it said at the end."""
        self.process.send_signal(signal.SIGTERM)
        self.read(8)
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._near)


def test_on_a_terminal_the_key_is_shown_once_and_kept_nowhere(tmp_path):
    terminal = Terminal(tmp_path)
    try:
        terminal.read(30, until="Hello")
        (key,) = set(KEY_FORM.findall(terminal.said))
        wait_until(lambda: _answers(terminal.port), 20, "the port is open")

        with RawClient(terminal.port) as client:
            status = client.ask(get("/v1/models", key)).status
    finally:
        terminal.stop()

    assert status == 200
    shown = [line for line in terminal.said.splitlines() if line.strip() == key]
    assert len(shown) == 1
    assert terminal.said.count(key) == 2, "once for the eyes, once in the line to copy"
    assert not (tmp_path / "data" / "first_admin_key").exists()


def _answers(port: int) -> bool:
    try:
        with RawClient(port, timeout_s=2) as client:
            return client.ask(request("GET", "/health")).status == 200
    except OSError:
        return False


COMMANDS = {
    "serve": [sys.executable, "-m", "gateway", "serve"],
    "config --check": [sys.executable, "-m", "gateway", "config", "--check"],
    "gunicorn": [
        sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"),
        "--chdir", str(ROOT), "wsgi:app",
    ],
}  # fmt: skip
WRONG = {
    "GATEWAY_PORT": "eighty",
    "GATEWAY_MOCK": "perhaps",
    "GATEWAY_HEARTBEAT_SECONDS": "-1",
    "GATEWAY_UPSTREAMS": "a=ftp://x;a b=http://y",
    "GATEWAY_DEFAULT_UPSTREAM": "nobody",
    "MAX_REQUEST_BYTES": "1.5",
    "METRICS_ENABLED": "maybe",
}


def _run(command: str, folder: Path, **settings: str) -> subprocess.CompletedProcess:
    env = environment(folder, DATA_DIR=str(folder / "data"), **settings)
    return subprocess.run(
        COMMANDS[command],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_configuration_stops_the_start_and_lists_every_mistake(tmp_path, command):
    result = _run(command, tmp_path, **WRONG)

    assert result.returncode == 2
    for name in WRONG:
        assert name in result.stderr, result.stderr
    assert "ftp" in result.stderr
    assert "'a b'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists(), "nothing was made"


@pytest.mark.parametrize("command", COMMANDS)
def test_production_refuses_weak_settings(tmp_path, command):
    result = _run(
        command,
        tmp_path,
        GATEWAY_ENV="production",
        GATEWAY_API_KEYS="dev-key,short",
        GATEWAY_UPSTREAMS="a=http://127.0.0.1:9",
    )

    assert result.returncode == 2
    assert result.stderr.count("API key") >= 2
    assert "dev-key" not in result.stderr


def test_no_secret_stands_in_the_list_of_mistakes(tmp_path):
    result = _run(
        "serve", tmp_path, GATEWAY_UPSTREAM_API_KEYS="nobody=sk-very-secret-1", GATEWAY_PORT="x"
    )

    assert result.returncode == 2
    assert "sk-very-secret-1" not in result.stderr + result.stdout


def test_the_line_of_the_readme_serves(tmp_path):
    """``gunicorn -c gunicorn.conf.py wsgi:app`` without our command line."""
    port = free_port()
    env = environment(
        tmp_path,
        DATA_DIR=str(tmp_path / "data"),
        GATEWAY_PORT=str(port),
        OBSERVABILITY_PORT=str(free_port()),
        WEB_CONCURRENCY="1",
    )
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"],
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=out,
        )
        try:
            wait_until(lambda: _answers(port), 30, "it answers")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
