"""Tests of waiting for a system's first right answer."""

import dataclasses
import sys
from pathlib import Path

import pytest

from loadtests.bench import canned, measure, starting
from loadtests.bench.fake_upstream import FakeUpstream
from loadtests.bench.jobs import Endpoint
from loadtests.bench.processes import Command, base_environment, find_free_ports
from loadtests.bench.systems import CHAT_PATH, REPOSITORY, SYSTEMS, Site, System


def _system(*words: str) -> System:
    def write_command(site: Site) -> Command:
        argv = [sys.executable, *(word.format(site=site) for word in words)]
        return Command(argv, base_environment(site.folder), REPOSITORY)

    return dataclasses.replace(SYSTEMS["nginx"], name="stand-in", write_command=write_command)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place for one start."""
    port, spare_port = find_free_ports(2)
    return Site(port, spare_port, 0, tmp_path, ())


def test_start_ends_with_the_first_right_answer(site: Site) -> None:
    """The fake upstream may stand in for a gateway that changes nothing."""
    system = _system("-m", "loadtests.bench.fake_upstream", "--port", "{site.port}")
    running = starting.start(system, site, None)
    try:
        assert starting.find_answer_problem(running.endpoint) is None
        assert 0 < running.cold_start_s < 30
    finally:
        running.child.stop()
    assert measure.load_tree(running.child.pid) == []


def test_program_that_ends_is_reported_with_its_words(site: Site) -> None:
    """The person sees why without looking for a log."""
    with pytest.raises(starting.NotReady, match="no such setting"):
        starting.start(_system("-c", "raise SystemExit('no such setting')"), site, None)


def test_answer_problems_are_said(upstream: FakeUpstream) -> None:
    """A wrong path is not a ready system."""
    assert starting.find_answer_problem(Endpoint(upstream.port, CHAT_PATH, {})) is None
    problem = starting.find_answer_problem(Endpoint(upstream.port, "/v1/files", {}))
    assert "404" in (problem or "")
    assert canned.REPLY_TEXT not in (problem or "")
