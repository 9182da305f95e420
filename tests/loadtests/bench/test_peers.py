"""Tests of the installer's command line; nothing is installed here."""

import pytest

from loadtests.bench import peers
from loadtests.bench.systems import SYSTEMS


def test_every_peer_is_a_system() -> None:
    """What can be installed can be measured."""
    assert peers.INSTALLERS.keys() < SYSTEMS.keys()


def test_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The known names are said."""
    with pytest.raises(SystemExit):
        peers.main(["nosuch"])
    assert "litellm, portkey" in capsys.readouterr().err


def test_versions_are_exact() -> None:
    """A comparison without versions is worth nothing."""
    assert "==" in peers.LITELLM
    assert peers.PORTKEY[0].isdigit()
    assert peers.HONO_NODE_SERVER[0].isdigit()
