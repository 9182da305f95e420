"""For the operator at night: what was spoilt, taken or stalled stops no running gateway."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import RawClient
from tests.system.servers import (
    KEY,
    START_S,
    Gateway,
    environment,
    free_port,
    get,
    post,
    running,
    wait_until,
)

OTHER_KEY = "other-test-key-0123456789-0123456789"
SERVE = [sys.executable, "-m", "gateway", "serve"]
FAST_FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")
SMALL_PIPE_BYTES = 4096
F_SETPIPE_SZ = 1031


def _status_with(gateway: Gateway, key: str) -> int:
    with RawClient(gateway.port) as client:
        return client.ask(get("/v1/models", key)).status


def _reload(gateway: Gateway) -> None:
    """Send SIGHUP and wait until every worker is a new one that answers."""
    before = set(gateway.workers())
    gateway.process.send_signal(signal.SIGHUP)

    def replaced() -> bool:
        now = gateway.workers()
        return (
            len(now) == gateway.worker_count
            and not before & set(now)
            and gateway.is_settled() == "ready"
        )

    wait_until(replaced, START_S, f"new workers; it said {gateway.output()[-2000:]!r}")
    gateway.rest()


def _refused(folder: Path, **settings: str) -> tuple[str, float]:
    """Return what a gateway said that must not start, and how long it took to say so."""
    ports = {"GATEWAY_PORT": str(free_port()), "OBSERVABILITY_PORT": str(free_port())}
    usual = {"DATA_DIR": str(folder / "data"), "WEB_CONCURRENCY": "1", **ports}
    began_s = monotonic()
    done = subprocess.run(
        SERVE, cwd=folder, env=environment(folder, **{**usual, **settings}), capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr, monotonic() - began_s


# --- a reload ------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The file that a secret store mounts."""
    path = tmp_path / "keys"
    path.write_text(KEY, encoding="utf-8")
    return path


@pytest.fixture
def reloaded(tmp_path: Path, keys: Path) -> Iterator[Gateway]:
    """A gateway whose keys come from that file."""
    settings = {"GATEWAY_API_KEYS": "", "GATEWAY_API_KEYS_FILE": keys, "WEB_CONCURRENCY": 2}
    with running(Gateway(tmp_path / "gateway", **settings)) as gateway:
        yield gateway


def test_a_reload_takes_over_keys_that_were_changed(reloaded, keys):
    keys.write_text(OTHER_KEY, encoding="utf-8")

    _reload(reloaded)

    assert _status_with(reloaded, OTHER_KEY) == 200
    assert _status_with(reloaded, KEY) == 401


@pytest.mark.parametrize("spoilt", [None, b"\xff\xfe\x00"], ids=["gone", "not text"])
def test_a_reload_with_a_spoilt_key_file_keeps_serving_with_the_keys_before(reloaded, keys, spoilt):
    keys.unlink()
    if spoilt is not None:
        keys.write_bytes(spoilt)

    _reload(reloaded)

    said = reloaded.output()
    assert _status_with(reloaded, KEY) == 200
    assert _status_with(reloaded, OTHER_KEY) == 401
    assert f"GATEWAY_API_KEYS_FILE={keys}: cannot be read" in said
    assert "The configuration before stays in force." in said


def test_while_a_key_file_is_spoilt_a_worker_that_died_is_replaced(reloaded, keys):
    """Not only the reload: any later worker is forked from the same master."""
    keys.unlink()
    _reload(reloaded)
    victim = reloaded.workers()[0]
    reloaded.expected = (f"[ERROR] Worker (pid:{victim}) was sent SIGKILL!",)

    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in reloaded.workers(), START_S, "its end is noticed")
    wait_until(lambda: reloaded.is_settled() == "ready", START_S, "a new worker")
    reloaded.rest()

    assert {_status_with(reloaded, KEY) for _ in range(8)} == {200}


def test_once_the_key_file_is_whole_again_a_reload_takes_it_over(reloaded, keys):
    keys.unlink()
    _reload(reloaded)
    keys.write_text(OTHER_KEY, encoding="utf-8")

    _reload(reloaded)

    assert _status_with(reloaded, OTHER_KEY) == 200
    assert _status_with(reloaded, KEY) == 401


# --- a start that is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("taken", "variable"), [(0, "GATEWAY_PORT"), (1, "OBSERVABILITY_PORT")]
)  # fmt: skip
def test_a_port_that_another_gateway_has_is_refused_at_once_by_its_setting(
    tmp_path, taken, variable
):
    """gunicorn alone would try for five seconds and then name no setting."""
    with running(Gateway(tmp_path / "first")) as first:
        port = (first.port, first.observability_port)[taken]

        said, took_s = _refused(tmp_path, GATEWAY_API_KEYS=KEY, **{variable: str(port)})

    assert f"Port {port} ({variable}) is taken" in said
    assert f"{variable}={port + 10}" in said
    assert took_s < 5
    assert not (tmp_path / "data").exists(), "nothing was made"


def test_an_address_that_this_machine_has_not_is_named_with_its_setting(tmp_path):
    said, _ = _refused(tmp_path, GATEWAY_API_KEYS=KEY, GATEWAY_HOST="192.0.2.7")

    assert "GATEWAY_HOST=192.0.2.7" in said
    assert "cannot be bound" in said


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"a":"no hex"}', b"\xff"])
@pytest.mark.parametrize("key", ["", KEY], ids=["with no other key", "with a key"])
def test_damaged_stored_keys_stop_the_start_and_are_named_with_the_way_out(tmp_path, content, key):
    path = tmp_path / "data" / "keys.json"
    path.parent.mkdir()
    path.write_bytes(content)

    said, _ = _refused(tmp_path, GATEWAY_API_KEYS=key)

    assert f"{path} is damaged; restore it, or delete it" in said
    assert path.read_bytes() == content, "it may still be mended"


def test_production_refuses_to_start_beside_an_admin_key_in_the_clear(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "first_admin_key").write_text(OTHER_KEY, encoding="utf-8")

    said, _ = _refused(
        tmp_path, GATEWAY_ENV="production", GATEWAY_API_KEYS=KEY,
        GATEWAY_UPSTREAMS="a=http://127.0.0.1:9",
    )  # fmt: skip

    assert f"{tmp_path / 'data' / 'first_admin_key'} holds an admin key in the clear" in said
    assert OTHER_KEY not in said


class Started(Gateway):
    """A gateway that a shell line starts, with standard output wherever the test wants it."""

    shell = ""
    stdout: int | None = None

    def spawn(self) -> None:
        """Start it on free ports without waiting."""
        self.port, self.observability_port = free_port(), free_port()
        ports = {"GATEWAY_PORT": str(self.port), "OBSERVABILITY_PORT": str(self.observability_port)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", f'{self.shell} exec "$@"', "sh", *SERVE],
                env=environment(self.folder, **self.settings, **ports), cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=log if self.stdout is None else self.stdout,
                stderr=log,
            )  # fmt: skip


# --- what was left behind ------------------------------------------------------------------------


def _metrics_folder(owner: object) -> Path:
    return FAST_FOLDER / f"gateway-metrics-{owner}"


def test_metrics_of_a_master_that_was_killed_are_removed_and_those_of_others_are_not(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owners = (gone.pid, os.getpid(), f"mine-{os.getpid()}", 10**30 + os.getpid())
    folders = [_metrics_folder(owner) for owner in owners]
    for folder in folders:
        folder.mkdir()
        (folder / "counter_1.db").write_bytes(b"x")
    try:
        with running(Gateway(tmp_path / "gateway")) as gateway:
            own = _metrics_folder(gateway.process.pid)

            assert own.is_dir()
            assert [folder.exists() for folder in folders] == [False, True, True, True]

        assert not own.exists()
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def test_metrics_of_a_killed_master_that_had_the_same_number_are_not_counted_on(tmp_path):
    """In a container every start gets the same one."""
    gateway = Started(tmp_path / "gateway")
    gateway.shell = f"mkdir {_metrics_folder('$$')} && touch {_metrics_folder('$$')}/stale;"

    with running(gateway):
        left = [path.name for path in _metrics_folder(gateway.process.pid).iterdir()]

        assert left
        assert "stale" not in left


# --- logs that nobody reads ----------------------------------------------------------------------


def _lines_in(reader: int) -> list[bytes]:
    """Return the lines that lie in a pipe."""
    os.set_blocking(reader, False)
    text = b""
    with contextlib.suppress(BlockingIOError):
        while block := os.read(reader, 65_536):
            text += block
    assert text.endswith(b"\n"), "no line is cut"
    return text.splitlines()


@pytest.fixture
def stalled() -> Iterator[tuple[int, int]]:
    """Both ends of a small pipe that nobody reads, as of a log collector that hangs."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], F_SETPIPE_SZ, SMALL_PIPE_BYTES)
    yield ends
    for end in ends:
        os.close(end)


def test_a_log_reader_that_has_stopped_stalls_neither_health_nor_requests(tmp_path, stalled):
    """Many times what the pipe holds; one plain write would hold the whole worker."""
    reader, writer = stalled
    requests, slowest_s = 200, 0.0
    body = {"model": "mock", "messages": [{"role": "user", "content": "hi"}]}
    gateway = Started(tmp_path / "gateway")
    gateway.stdout = writer
    with running(gateway), RawClient(gateway.port) as client:
        for _ in range(requests):
            assert client.ask(post(body)).status == 200
            began_s = monotonic()
            assert gateway.look("/health", gateway.port)[0] == 200
            slowest_s = max(slowest_s, monotonic() - began_s)

        arrived = _lines_in(reader)
        assert client.ask(post(body)).status == 200
        told, last = (json.loads(line) for line in _lines_in(reader))

    finished = sum(json.loads(line)["event"] == "request" for line in arrived)
    assert slowest_s < 1.0
    assert 0 < finished < requests
    assert (told["level"], told["event"]) == ("ERROR", "log lines dropped")
    assert told["count"] >= requests - finished
    assert last["event"] == "request"
