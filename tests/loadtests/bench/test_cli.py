"""Tests of the command line, up to the point where a run would start."""

import pytest

from loadtests.bench import cli


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Examples and exit codes are part of the help."""
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["--help"])
    assert exit_info.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit codes:" in text
    assert "--write docs/performance.md" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "ours,nosuch"], "unknown system 'nosuch'; known: ours, litellm"),
        (["--env", "NAME"], "--env wants NAME=VALUE"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and a line that helps."""
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == cli.WRONG_USAGE
    assert words in capsys.readouterr().err
