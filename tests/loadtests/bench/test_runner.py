"""Tests of a whole tiny run, with the fake upstream itself in the place of the gateways."""

import dataclasses
import sys
from pathlib import Path

import pytest

from loadtests.bench import runner
from loadtests.bench.processes import Command, base_environment
from loadtests.bench.results import METRICS
from loadtests.bench.scenarios import Size
from loadtests.bench.systems import REPOSITORY, SYSTEMS, CrowdShape, Site, System

TINY = Size(
    starts=1,
    closed_s=0.02,
    small_rounds=1,
    prompt_rounds=1,
    burst_rounds=1,
    open_s=0.05,
    open_rounds=1,
    crowd_window_s=0.05,
    crowd_rounds=1,
    hold_streams=5,
)


def _stand_in(name: str, find_missing: object = None, *words: str) -> System:
    def write_command(site: Site) -> Command:
        fake = ["-m", "loadtests.bench.fake_upstream", "--port", str(site.port)]
        argv = [sys.executable, *(words or fake)]
        return Command(argv, base_environment(site.folder), REPOSITORY)

    return dataclasses.replace(
        SYSTEMS["nginx"],
        name=name,
        find_missing=lambda: None if find_missing is None else str(find_missing),
        write_command=write_command,
        find_version=lambda: "1.0",
        crowd=CrowdShape(streams=5, interval_ms=5, opening_s=1.0),
    )


@pytest.mark.slow
def test_tiny_run_finds_every_figure_and_goes_on_without_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One system is measured, one is not installed, one does not start."""
    systems = (
        _stand_in("ours"),
        _stand_in("litellm", "install it with: make bench-peers"),
        _stand_in("portkey", None, "-c", "raise SystemExit(1)"),
    )
    results = runner.Comparison(runner.Options(TINY, systems), tmp_path, None).run()
    assert dict(results.problems) == {}
    assert results.versions == {"ours": "1.0"}
    assert results.skipped == {
        "litellm": "install it with: make bench-peers",
        "portkey": "portkey ended:",
    }
    missing = [metric for metric in METRICS if results.find_median("ours", metric) is None]
    assert missing == []
    assert "litellm is skipped: install it with" in capsys.readouterr().err
