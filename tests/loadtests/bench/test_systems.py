"""Tests of how the systems are started; none is started here."""

from pathlib import Path

import pytest

from loadtests.bench.systems import SYSTEMS, Site, System

OURS_EXTRA = {"GATEWAY_X": "1"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A place for one start."""
    return Site(5001, 5002, 5003, tmp_path, ("bench", "bench-burst-100"), OURS_EXTRA)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=lambda system: system.name)
def test_every_system_is_told_port_and_upstream(system: System, site: Site) -> None:
    """In arguments, environment, files or headers, and only on loopback."""
    command = system.write_command(site)
    files = [file.read_text() for file in site.folder.iterdir()]
    told = " ".join([*command.argv, *command.env.values(), *files, *system.headers(site).values()])
    assert "5001" in told
    assert "127.0.0.1:5003" in told
    assert "0.0.0.0" not in told
    assert system.find_missing() is None or "install" in (system.find_missing() or "")


def test_ours_takes_extra_variables(site: Site) -> None:
    """``--env`` reaches ours and nobody else."""
    with_extra = [
        name for name, system in SYSTEMS.items() if "GATEWAY_X" in system.write_command(site).env
    ]
    assert with_extra == ["ours"]


def test_ours_has_its_own_data_folder_and_one_worker(site: Site) -> None:
    """A run leaves nothing behind and measures one process."""
    env = SYSTEMS["ours"].write_command(site).env
    assert env["DATA_DIR"] == str(site.folder)
    assert env["WEB_CONCURRENCY"] == "1"
    assert env["OBSERVABILITY_PORT"] == "5002"
