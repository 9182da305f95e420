"""The command line: ``python -m gateway demo | serve | config``."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway import __version__
from gateway.kernel.errors import SettingsError
from gateway.kernel.settings import read_environ
from gateway.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parent.parent
WRONG_SETTINGS = 2
_EPILOG = """\
examples:
  python -m gateway demo                      answers at once, with no model anywhere
  OLLAMA_BASE_URL=http://127.0.0.1:11434 python -m gateway serve
  GATEWAY_UPSTREAMS='llama=http://gpu1:8001' GATEWAY_API_KEYS_FILE=/run/keys python -m gateway serve
  python -m gateway config --check            exit 2 and every mistake, if there is one

A file .env in the working directory is read first; the environment wins over it.
docs/settings.md lists every setting.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        environ = read_environ(Path(".env"))
        if arguments.command == "config":
            return _config(read_settings(environ), check=arguments.check)
        if arguments.command == "demo":
            environ.setdefault("GATEWAY_MOCK", "on")
        read_settings(environ)
    except SettingsError as error:
        sys.stderr.write(f"The configuration is wrong:\n{error.message}\n")
        return WRONG_SETTINGS
    return _serve(environ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Nexus Gateway: one OpenAI-compatible door to all your models.",
        epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser(
        "demo", help="serve, with the embedded mock model whatever else is configured"
    )
    commands.add_parser("serve", help="serve what the configuration names")
    config = commands.add_parser(
        "config", help="print every setting, its value and where that comes from"
    )
    config.add_argument(
        "--check", action="store_true", help="only check; exit 2 and every mistake if there is one"
    )
    return parser


def _serve(environ: Mapping[str, str]) -> int:
    """Become gunicorn; does not return."""
    if not (ROOT / "gunicorn.conf.py").is_file():
        sys.stderr.write(
            "gunicorn.conf.py is missing: run this in a checkout, "
            "or install with 'pip install -e .'\n"
        )
        return WRONG_SETTINGS
    data_dir = Path(environ.get("DATA_DIR") or "data").resolve()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "-c",
        str(ROOT / "gunicorn.conf.py"),
        "--chdir",
        str(ROOT),
    ]
    sys.stderr.flush()
    os.execve(command[0], command, {**environ, "DATA_DIR": str(data_dir)})  # noqa: S606  # our own interpreter
    return 0


def _config(settings: Settings, *, check: bool) -> int:
    for line in settings.warnings:
        sys.stderr.write(f"Warning: {line}\n")
    if check:
        sys.stdout.write("The configuration is right.\n")
        return 0
    width = max(len(row.env) for row in settings.rows)
    for row in settings.rows:
        unit = f" {row.unit}" if row.unit and row.shown() else ""
        sys.stdout.write(f"{row.env:<{width}}  {row.shown() or '-'}{unit}  ({row.source})\n")
    for upstream in settings.upstreams:
        note = " (tried, not configured)" if upstream.implied else ""
        sys.stdout.write(f"upstream {upstream.name}  {upstream.url}{note}\n")
    return 0
