"""Tests of the machine's description."""

import platform

from loadtests.bench import machine


def test_description_names_no_machine() -> None:
    """Processor and versions, but neither host name nor path."""
    text = machine.describe()
    assert f"Python {platform.python_version()}" in text
    assert " GB, " in text
    assert platform.node() not in text.split()
    assert "/" not in text
