"""A real gateway in a process of its own: gunicorn on free loopback ports, stopped by its pid."""

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from gateway.kernel.clock import monotonic
from tests.contract.wire import Connection

ROOT = Path(__file__).resolve().parents[2]
KEY = "contract-key-0123456789abcdef0123456789abcdef"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
_COMPLAINTS = ("unexpected error", "Traceback (most recent call last)", "Error handling request")


@dataclass
class Gateway:
    """A running gateway."""

    process: subprocess.Popen
    port: int
    observability_port: int
    log: Path
    key: str = KEY

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def connect(self) -> Connection:
        return Connection(self.port, self.key)

    def stop(self) -> None:
        """Stop it and fail if it logged a defect of its own in all that time."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not stop on SIGTERM") from None
        lines = self.log.read_text(errors="replace").splitlines()
        complaints = [line for line in lines if any(word in line for word in _COMPLAINTS)]
        assert not complaints, f"the gateway logged defects of its own: {complaints[:3]}"


def start_gateway(folder: Path, settings: dict[str, str], app: str = "wsgi:app") -> Gateway:
    """Start a gateway with these settings and no others; wait until it knows its upstreams."""
    for _ in range(3):
        gateway = _launch(folder, settings, app)
        if _comes_up(gateway):
            return gateway
    raise AssertionError(f"the gateway did not start:\n{gateway.log.read_text()[-2000:]}")


def _launch(folder: Path, settings: dict[str, str], app: str) -> Gateway:
    port, observability_port = free_ports(2)
    environ = {
        "PATH": os.environ["PATH"],  # noqa: TID251  # the rest of ours must not leak in
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WEB_CONCURRENCY": "1",
        "GATEWAY_PORT": str(port),
        "OBSERVABILITY_PORT": str(observability_port),
        "GATEWAY_BEARER_TOKENS": KEY,
        "GATEWAY_GRACEFUL_TIMEOUT_SECONDS": "4",
        "DATA_DIR": str(folder / "data"),
        **settings,
    }
    log = folder / f"gateway-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", app],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Gateway(process, port, observability_port, log)


def free_ports(count: int) -> list[int]:
    """Return ports that are free right now; all are held until all are found."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports


def _comes_up(gateway: Gateway) -> bool:
    """Wait until every upstream was looked at; False when the process ended (a port was taken)."""
    pause, deadline = threading.Event(), monotonic() + START_LIMIT_S
    while monotonic() < deadline:
        if gateway.process.poll() is not None:
            return False
        try:
            with gateway.connect() as connection:
                services = connection.ask("GET", "/health").json()["services"]
        except (OSError, EOFError):
            services = {"gateway": "unknown"}
        if "unknown" not in services.values():
            return True
        pause.wait(0.05)
    gateway.process.kill()
    gateway.process.wait()
    return False
