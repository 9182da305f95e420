"""Tests of starting and ending children."""

import sys
from pathlib import Path

from loadtests.bench import measure
from loadtests.bench.processes import Child, Command, base_environment, find_free_ports


def _start(folder: Path, code: str) -> Child:
    command = Command([sys.executable, "-c", code], base_environment(folder), folder)
    return Child(command, folder / "output.log", None)


def test_child_is_ended_and_its_words_are_kept(tmp_path: Path) -> None:
    """After stop nothing runs; the log's end can be shown."""
    child = _start(tmp_path, "print('hello', flush=True)\nwhile True: input")
    while "hello" not in child.last_words():
        assert not child.has_ended
    child.stop()
    assert child.has_ended
    assert measure.load_tree(child.pid) == []


def test_orphans_are_ended_too(tmp_path: Path) -> None:
    """A grandchild that outlives its parent does not outlive stop."""
    code = (
        "import os, signal, sys, time\n"
        "pid = os.fork()\n"
        "if pid == 0: signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)\n"
        "print('grandchild', pid, flush=True); time.sleep(60)\n"
    )
    child = _start(tmp_path, code)
    while "grandchild" not in child.last_words():
        assert not child.has_ended
    grandchild = int(child.last_words().split()[-1])
    assert measure.find_birth(grandchild) is not None
    child.stop()
    assert _is_gone(grandchild)


def test_environment_is_given_not_inherited(tmp_path: Path) -> None:
    """A variable of the caller's shell does not change what is measured."""
    assert set(base_environment(tmp_path)) == {"PATH", "HOME", "TMPDIR", "LANG"}


def test_free_ports_differ() -> None:
    """Two ports found together are two ports."""
    assert len(set(find_free_ports(5))) == 5


def _is_gone(pid: int) -> bool:
    return any(measure.find_birth(pid) is None for _ in range(1_000_000))
