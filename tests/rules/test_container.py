"""The container's files fit the repository; a machine without Docker can tell as well."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def variables() -> dict[str, str]:
    """Return what the image sets in the environment."""
    text = re.search(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)[1]
    return dict(pair.split("=", 1) for pair in text.split())


def copied() -> list[str]:
    """Return the files and folders that come from the repository."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def listening(status: int) -> HTTPServer:
    """Return a server on a free loopback port that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    return HTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def port_of(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server whose health check answers with the status that the test names."""
    server = listening(request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def check_health(**environ: str) -> int:
    """Run the image's own health check; return its exit code."""
    command = json.loads(re.search(r"^HEALTHCHECK .*? CMD (\[.+\])$", DOCKERFILE, re.MULTILINE)[1])
    ran = subprocess.run(
        [sys.executable, *command[1:]], env=environ, capture_output=True, timeout=30, check=False
    )
    return ran.returncode


def test_everything_that_is_copied_into_the_image_is_in_the_repository():
    assert sorted(copied()) == ["gateway", "gunicorn.conf.py", "requirements.txt", "wsgi.py"]
    assert [name for name in copied() if not (ROOT / name).exists()] == []


def test_the_build_sees_what_it_copies_and_nothing_else():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied())


def test_dependencies_are_installed_only_with_their_hashes():
    installs = re.findall(r"pip install.+", DOCKERFILE)

    assert len(installs) == 1
    assert "--require-hashes" in installs[0]


def test_the_image_listens_on_all_addresses_and_keeps_its_data_in_the_volume():
    settings = read_settings(variables())

    assert (settings.web.host, settings.web.observability_host) == ("0.0.0.0", "0.0.0.0")
    assert re.search(r"^VOLUME (.+)$", DOCKERFILE, re.MULTILINE)[1] == settings.web.data_dir
    assert settings.warnings == ()


def test_the_image_publishes_the_ports_that_it_listens_on():
    settings = read_settings(variables())

    exposed = re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)[1].split()

    assert exposed == [str(settings.web.port), str(settings.web.observability_port)]


def test_the_image_sets_no_variable_that_nothing_reads():
    known = {row.env for row in read_settings({}).rows}

    assert set(variables()) - known == {"PATH", "PYTHONUNBUFFERED"}


def test_the_image_does_not_run_as_root():
    user = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)

    assert min(map(int, user.groups())) > 0
    assert f"--uid {user[1]}" in DOCKERFILE


def test_the_image_starts_with_a_command_that_the_gateway_has(capsys):
    entry = json.loads(re.search(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)[1])
    command = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[1])

    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])

    assert entry == ["python", "-m", "gateway"]
    assert left.value.code == 0
    assert f"gateway {command[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("port_of", "exit_code"), [(200, 0), (503, 1)], indirect=["port_of"], ids=["well", "unwell"]
)
def test_the_health_check_says_what_the_health_endpoint_says(port_of, exit_code):
    assert check_health(OBSERVABILITY_PORT=str(port_of)) == exit_code


@pytest.mark.parametrize("port_of", [200], indirect=True)
def test_the_health_check_asks_no_proxy(port_of):
    exit_code = check_health(OBSERVABILITY_PORT=str(port_of), http_proxy="http://127.0.0.1:1")

    assert exit_code == 0
