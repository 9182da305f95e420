"""The command line: helps, prints the configuration, refuses a wrong one."""

import runpy
import shutil
import subprocess
import sys

import pytest

from gateway import __version__
from gateway.cli import ROOT, main

SECRET = "sk-canary-1234567890-1234567890-1234"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No .env of whoever runs the tests is read."""
    monkeypatch.chdir(tmp_path)


def run(capsys, *arguments):
    """Return exit code, standard output and standard error of a command."""
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def exits(capsys, *arguments):
    """Return the same of a command that ends the process itself."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_help_names_every_command_and_shows_examples(capsys):
    code, out, _ = exits(capsys, "--help")

    assert code == 0
    for word in ("demo", "serve", "config", "examples:", "--check", "docs/settings.md"):
        assert word in out


@pytest.mark.parametrize("command", ["demo", "serve", "config"])
def test_every_command_has_help(capsys, command):
    code, out, _ = exits(capsys, command, "--help")

    assert code == 0
    assert f"python -m gateway {command}" in out


def test_the_version_is_printed(capsys):
    assert exits(capsys, "--version")[:2] == (0, f"{__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["fly"], ["config", "--chek"]])
def test_a_wrong_command_line_is_exit_2_with_a_hint(capsys, arguments):
    code, _, err = exits(capsys, *arguments)

    assert code == 2
    assert "usage: python -m gateway" in err


def test_config_prints_every_setting_its_value_and_source(capsys, monkeypatch):
    monkeypatch.setenv("GATEWAY_PORT", "9000")
    monkeypatch.setenv("TIMEOUT_SECONDS", "30")

    code, out, err = run(capsys, "config")

    rows = {line.split()[0]: line for line in out.splitlines()}
    assert (code, err) == (0, "")
    assert rows["GATEWAY_PORT"].split()[1:] == ["9000", "(GATEWAY_PORT)"]
    assert rows["GATEWAY_REQUEST_TIMEOUT_SECONDS"].split()[1:] == ["30.0", "s", "(TIMEOUT_SECONDS)"]
    assert rows["GATEWAY_HOST"].endswith("(default)")
    assert rows["WEB_CONCURRENCY"].split()[0] == "WEB_CONCURRENCY"


def test_config_stars_every_secret_wherever_it_comes_from(capsys, monkeypatch, tmp_path):
    (tmp_path / "keys").write_text(SECRET, encoding="utf-8")
    (tmp_path / ".env").write_text(f"GATEWAY_BEARER_TOKEN={SECRET}\n", encoding="utf-8")
    monkeypatch.setenv("API_KEYS", SECRET)
    monkeypatch.setenv("GATEWAY_API_KEYS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("GATEWAY_UPSTREAMS", "gpu=http://127.0.0.1:1")
    monkeypatch.setenv("GATEWAY_UPSTREAM_API_KEYS", f"gpu={SECRET}")

    code, out, err = run(capsys, "config")

    starred = [line.split()[0] for line in out.splitlines() if "********" in line]
    assert code == 0
    assert SECRET not in out + err
    assert starred == [
        "GATEWAY_BEARER_TOKEN", "GATEWAY_API_KEYS", "API_KEYS", "GATEWAY_UPSTREAM_API_KEYS",
    ]  # fmt: skip
    assert "(GATEWAY_API_KEYS_FILE)" in out


def test_config_check_says_so_when_all_is_well(capsys):
    assert run(capsys, "config", "--check") == (0, "The configuration is right.\n", "")


def test_config_lists_the_upstreams_and_tells_which_are_only_tried(capsys, monkeypatch):
    monkeypatch.setenv("GATEWAY_MOCK", "on")

    _, nothing_configured, _ = run(capsys, "config")
    monkeypatch.setenv("GATEWAY_UPSTREAMS", "gpu=http://127.0.0.1:1")
    _, one_configured, _ = run(capsys, "config")

    shown = [
        [line for line in out.splitlines() if line.startswith("upstream ")]
        for out in (nothing_configured, one_configured)
    ]
    assert shown == [
        [
            "upstream ollama  ollama://127.0.0.1:11434 (tried, not configured)",
            "upstream mock  mock://local",
        ],
        ["upstream gpu  http://127.0.0.1:1", "upstream mock  mock://local"],
    ]


@pytest.mark.parametrize("command", [["config"], ["config", "--check"], ["serve"], ["demo"]])
def test_every_command_refuses_a_wrong_configuration_with_exit_2_and_all_mistakes(
    capsys, monkeypatch, command
):
    monkeypatch.setenv("GATEWAY_PORT", "x")
    monkeypatch.setenv("OBSERVABILITY_PORT", "70000")

    code, out, err = run(capsys, *command)

    assert (code, out) == (2, "")
    assert err.splitlines()[0] == "The configuration is wrong:"
    assert "GATEWAY_PORT='x': must be a whole number" in err
    assert "OBSERVABILITY_PORT='70000': must be at most 65535" in err


def test_warnings_go_to_standard_error_and_do_not_fail_the_check(capsys, monkeypatch):
    monkeypatch.setenv("GATEWAY_PROT", "1")

    code, out, err = run(capsys, "config", "--check")

    assert (code, out) == (0, "The configuration is right.\n")
    assert err == "Warning: GATEWAY_PROT is not a setting; did you mean GATEWAY_PORT?\n"


def test_a_dotenv_file_is_read_and_the_environment_wins(capsys, monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("GATEWAY_PORT=1111\nGATEWAY_HOST=0.0.0.0\n", encoding="utf-8")
    monkeypatch.setenv("GATEWAY_PORT", "2222")

    _, out, _ = run(capsys, "config")

    rows = {line.split()[0]: line.split()[1] for line in out.splitlines()}
    assert (rows["GATEWAY_PORT"], rows["GATEWAY_HOST"]) == ("2222", "0.0.0.0")


@pytest.mark.parametrize("command", [["config"], ["config", "--check"], ["serve"], ["demo"]])
def test_every_command_refuses_a_dotenv_file_with_a_line_that_is_no_setting(
    capsys, tmp_path, command
):
    (tmp_path / ".env").write_text(f"GATEWAY_HOST=::1\n{SECRET}\n", encoding="utf-8")

    code, out, err = run(capsys, *command)

    assert (code, out) == (2, "")
    assert err == "The configuration is wrong:\n.env, line 2: not of the form NAME=value\n"


def test_serving_without_a_checkout_says_what_is_missing(tmp_path):
    """A copy of the package alone, as a wheel would bring it."""
    shutil.copytree(ROOT / "gateway", tmp_path / "gateway")

    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (2, "")
    assert "gunicorn.conf.py is missing" in done.stderr


def test_the_package_runs_as_a_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gateway", "config", "--check"])

    with pytest.raises(SystemExit) as caught:
        runpy.run_module("gateway", run_name="__main__")

    assert caught.value.code == 0
