"""The processes that system tests start: the gateway as it is operated, and the fault upstream."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.kernel.clock import monotonic
from tests.fakes.rawclient import Answer, RawClient, request

ROOT = Path(__file__).resolve().parents[2]
CHAT = "/v1/chat/completions"
KEY = "system-test-key-0123456789-0123456789"
START_S = 40.0
_POLL_S = 0.02
_STARTS = 3
_FDS_SLACK = 5
_TROUBLE = re.compile(
    r"Traceback|Exception ignored|\"level\":\"(?:ERROR|CRITICAL)\"|\[(?:ERROR|CRITICAL)\]"
)
_TCP_REMOTE, _TCP_INODE = 2, 9


def free_port() -> int:
    """Return a port of the loopback that nobody holds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until(holds: Any, within_s: float, what: str) -> Any:
    """Return the first true result of a function, asked again and again.

    Raises:
        AssertionError: It did not become true in time.
    """
    ends_s = monotonic() + within_s
    while monotonic() < ends_s:
        result = holds()
        if result:
            return result
        pause(_POLL_S)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return the whole environment of a gateway: nothing of the caller's but the path."""
    return {
        "PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8", **settings,
    }  # fmt: skip


class Gateway:
    """A gateway process of its own, with two ports, a folder and what it wrote.

    Attributes:
        base_fds: Descriptors of an idle worker, upstream connections left out.
        expected: What it may say although it looks like trouble.
    """

    def __init__(
        self, folder: Path, upstreams: Mapping[str, "Upstream | int"] | None = None, **settings: Any
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._pooled = [_port_of(upstream) for upstream in (upstreams or {}).values()]
        named = ";".join(
            f"{name}=http://127.0.0.1:{_port_of(up)}" for name, up in (upstreams or {}).items()
        )
        defaults = {
            "GATEWAY_API_KEYS": KEY, "WEB_CONCURRENCY": 1, "DATA_DIR": folder / "data",
            "GATEWAY_UPSTREAMS": named, "GATEWAY_MOCK": "off" if upstreams else "auto",
        }  # fmt: skip
        self.settings = {name: str(value) for name, value in {**defaults, **settings}.items()}
        self.port = self.observability_port = 0
        self.base_fds: dict[int, int] = {}
        self.expected: tuple[str, ...] = ()
        self._log = folder / "output.log"
        self._mark = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Gateway":
        """Start and wait until it is ready; a port that was taken meanwhile is chosen anew."""
        for _ in range(_STARTS):
            self.spawn()
            if (
                wait_until(self.is_settled, START_S, f"start; it said {self.output()[-2000:]!r}")
                == "ready"
            ):
                self.rest()
                return self
        raise AssertionError(f"the gateway did not start: {self.output()[-2000:]}")

    def spawn(self) -> None:
        """Start it on free ports without waiting."""
        self.port, self.observability_port = free_port(), free_port()
        ports = {"GATEWAY_PORT": str(self.port), "OBSERVABILITY_PORT": str(self.observability_port)}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve"],
                env=environment(self.folder, **self.settings, **ports),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_settled(self) -> str:
        """Tell whether it is ``ready`` or has ``ended``; empty while neither is known."""
        if self.process.poll() is not None:
            return "ended"
        try:
            ready = [
                self.look("/readyz")[0] == http.HTTPStatus.OK for _ in range(2 * self.worker_count)
            ]
        except OSError:
            return ""
        return "ready" if all(ready) and len(self.workers()) == self.worker_count else ""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The master."""
        assert self._process is not None
        return self._process

    @property
    def worker_count(self) -> int:
        """How many workers it was told to run."""
        return int(self.settings["WEB_CONCURRENCY"])

    def workers(self) -> list[int]:
        """Return the pids of the workers that live."""
        return _children(self.process.pid)

    def look(self, path: str, port: int | None = None) -> tuple[int, Any]:
        """Return status and document of a GET on the observability port."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", port or self.observability_port, timeout=5
        )
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
        except http.client.HTTPException as error:
            raise OSError("cut") from error
        finally:
            connection.close()
        return reply.status, json.loads(body) if body[:1] in b"{[" else body.decode()

    def ask(self, body: Any, path: str = CHAT, timeout_s: float = 15.0, **headers: str) -> Answer:
        """Return the answer to one request on a connection of its own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with RawClient(self.port, timeout_s) as client:
            return client.ask(
                request("POST", path, key=KEY, body=body, headers={"Connection": "close", **named})
            )

    def metric(self, name: str) -> float:
        """Return a metric's value, all its series added up."""
        text = self.look("/metrics")[1]
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    def output(self) -> str:
        """Return all it has written."""
        return self._log.read_text(errors="replace") if self._log.is_file() else ""

    def lines(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the log lines whose fields have these values."""
        found = []
        for line in self.output().split("\n"):
            if line.startswith("{"):
                with contextlib.suppress(json.JSONDecodeError):
                    record = json.loads(line)
                    if all(record.get(name) == value for name, value in wanted.items()):
                        found.append(record)
        return found

    def line(self, request_id: str) -> dict[str, Any]:
        """Return the one log line of a request."""
        found = wait_until(
            lambda: self.lines(event="request", request_id=request_id),
            5,
            f"log line of {request_id}",
        )
        assert len(found) == 1, found
        return found[0]

    def rss_bytes(self) -> int:
        """Return the memory of all workers together."""
        return sum(_memory_bytes(pid, "VmRSS") for pid in self.workers())

    def peak_bytes(self) -> int:
        """Return the most memory the workers have held since the peak was forgotten."""
        return sum(_memory_bytes(pid, "VmHWM") for pid in self.workers())

    def forget_peak(self) -> None:
        """Begin to look for the peak anew."""
        for pid in self.workers():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def fds(self, pid: int) -> int:
        """Return how many descriptors a worker holds, pooled connections to upstreams left out."""
        return len(_descriptors(pid)) - self.upstream_connections(pid)

    def upstream_connections(self, pid: int) -> int:
        """Return how many connections to upstreams a worker holds."""
        inodes = _connected_to(self._pooled)
        return sum(link in inodes for link in _descriptors(pid))

    def rest(self) -> None:
        """Take the present state as the one that every test must leave behind."""
        self.look("/metrics")
        self.look("/health", self.port)
        self.ask(b"{}")
        self.base_fds = {pid: self.fds(pid) for pid in self.workers()}
        self._mark = len(self.output())

    def trouble(self) -> list[str]:
        """Return what went wrong since the last look: tracebacks, errors, leaked descriptors."""
        text = self.output()
        said, self._mark = text[self._mark :], len(text)
        for words in self.expected:
            said = said.replace(words, "")
        problems = [
            said[max(0, found.start() - 200) : found.end() + 1500]
            for found in _TROUBLE.finditer(said)
        ]
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self._leaks(), 30, "descriptors back to base")
        return problems[:3] + self._leaks()

    def _leaks(self) -> list[str]:
        usual = max(self.base_fds.values(), default=0)
        leaks = []
        for pid in self.workers() if self.process.poll() is None else ():
            try:
                now = self.fds(pid)
            except OSError:
                continue
            if now > usual + _FDS_SLACK:
                leaks.append(f"worker {pid} holds {now} descriptors, {usual} at rest")
        return leaks

    def is_alive(self) -> bool:
        """Tell whether the master runs."""
        return self._process is not None and self._process.poll() is None

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Stop it, by force when it does not go; return its exit code."""
        if self.is_alive():
            workers = self.workers()
            self.terminate()
            try:
                self.process.wait(
                    int(self.settings.get("GATEWAY_GRACEFUL_TIMEOUT_SECONDS", "35")) + 10
                )
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                for pid in workers:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
        return self.process.returncode


class Upstream:
    """A fault upstream process."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = self.black_hole = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, port: int = 0) -> "Upstream":
        """Start it, on a given port if it must be that one."""
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "tests.fakes.fault_upstream", "--port", str(port),
                *self._arguments,
            ], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        ports = json.loads(self._process.stdout.readline())
        self.port, self.black_hole = ports["port"], ports["black_hole"]
        return self

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def seen(self, request_id: str) -> list[dict[str, Any]]:
        """Return what it saw of a request: one record a call."""
        return [record for record in self.seen_all() if record["id"] == request_id]

    def seen_all(self) -> list[dict[str, Any]]:
        """Return what it saw of all requests."""
        return self._control("requests")

    def ended(self, request_id: str, within_s: float = 5.0) -> dict[str, Any]:
        """Return the record of a call once it is over."""

        def over() -> list[dict[str, Any]]:
            return [record for record in self.seen(request_id) if record["ended_s"] is not None]

        return wait_until(over, within_s, f"the upstream's end of {request_id}")[-1]

    def open_connections(self) -> int:
        """Return how many connections it holds."""
        return int(self._control("open"))

    def _control(self, what: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", f"/control/{what}")
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it; waits until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    """Start a server and stop it whatever happens; a gateway must leave no trouble behind."""
    try:
        yield server.start()
        assert not isinstance(server, Gateway) or server.trouble() == []
    finally:
        server.stop()
    assert not isinstance(server, Gateway) or server.trouble() == [], "said while it stopped"


def p99(seconds: list[float]) -> float:
    """Return the time that one in a hundred exceeds."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


def get(path: str, key: str = KEY) -> bytes:
    """Return a GET request that is the last one on its connection."""
    return request("GET", path, key=key, headers={"Connection": "close"})


def post(body: Any, request_id: str = "", path: str = CHAT, **headers: str) -> bytes:
    """Return a POST request with a good key."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if request_id:
        named["X-Request-Id"] = request_id
    return request("POST", path, key=KEY, body=body, headers=named)


def pause(seconds: float) -> None:
    """Let time pass: these tests are about real clocks."""
    time.sleep(seconds)  # noqa: TID251


def _port_of(upstream: Upstream | int) -> int:
    return upstream if isinstance(upstream, int) else upstream.port


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid and fields[0] != "Z":
                    found.append(int(entry.name))
    return sorted(found)


def _memory_bytes(pid: int, name: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]


def _descriptors(pid: int) -> list[str]:
    """Return what a process's descriptors point at."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(entry.readlink()))
    return links


def _connected_to(ports: list[int]) -> set[str]:
    """Return the sockets, of any process, whose other end is one of these ports."""
    wanted = {f"{port:04X}" for port in ports}
    sockets = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[_TCP_REMOTE].rpartition(":")[2] in wanted:
            sockets.add(f"socket:[{fields[_TCP_INODE]}]")
    return sockets
