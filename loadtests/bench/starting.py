"""Starts one system under test and waits until it gives its first right answer."""

import http.client
import time
from dataclasses import dataclass

from loadtests.bench import jobs, measure, models
from loadtests.bench.crew import Crew
from loadtests.bench.processes import Child
from loadtests.bench.systems import CHAT_PATH, Site, System

_READY_LIMIT_S = 90.0
_ANSWER_LIMIT_S = 20.0
_PAUSE_S = 0.005


class NotReady(Exception):
    """A system did not come to answer; the message shows the end of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A system that answers."""

    system: System
    child: Child
    endpoint: jobs.Endpoint
    cold_start_s: float


def start(system: System, site: Site, processor: int | None) -> Running:
    """Start a system on one processor; its cold start ends with its first right answer.

    Raises:
        NotReady: It ended, or gave no right answer in time. Nothing of it is left running.
    """
    command = system.write_command(site)
    begin_s = time.perf_counter()
    child = Child(command, site.folder / "output.log", processor)
    endpoint = jobs.Endpoint(site.port, CHAT_PATH, system.headers(site), child.pid)
    try:
        _wait(system, child, endpoint)
    except BaseException:
        child.stop()
        raise
    return Running(system, child, endpoint, time.perf_counter() - begin_s)


def find_answer_problem(endpoint: jobs.Endpoint) -> str | None:
    """Ask once; says what is wrong with the answer, None when it is right."""
    job = jobs.ClosedLoop(
        endpoint=endpoint, model=models.PLAIN, connections=1, max_requests=1, max_s=_ANSWER_LIMIT_S
    )
    crew = Crew(job)
    deadline_s = time.perf_counter() + _ANSWER_LIMIT_S
    try:
        crew.send()
        while (left_s := deadline_s - time.perf_counter()) > 0:
            for answer in crew.poll(left_s):
                return answer.problem
    except OSError as exc:
        return f"{type(exc).__name__}: {exc}"
    finally:
        crew.close()
    return "no answer in time"


def _wait(system: System, child: Child, endpoint: jobs.Endpoint) -> None:
    deadline_s = time.perf_counter() + _READY_LIMIT_S
    ready = system.ready_path is None
    problem: str | None = f"{system.ready_path} is not 200"
    while time.perf_counter() < deadline_s:
        if child.has_ended:
            raise NotReady(f"{system.name} ended:\n{child.last_words()}")
        ready = ready or _is_ready(endpoint.port, system.ready_path or "/")
        if ready and (problem := find_answer_problem(endpoint)) is None:
            return
        measure.pause(_PAUSE_S)
    raise NotReady(f"{system.name}: {problem}\n{child.last_words()}")


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
