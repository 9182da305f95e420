"""Installs the gateways to compare with into ``.peers/``: ``python -m loadtests.bench.peers``.

Exact versions: a comparison is only worth something with the version beside the number. Nothing
is installed outside ``.peers/``.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from loadtests.bench.systems import PEERS

LITELLM = "litellm[proxy]==1.106.2"
PORTKEY = "1.15.2"
# With the newest @hono/node-server every stream of Portkey fails with status 500.
HONO_NODE_SERVER = "1.3.3"


def install_litellm(folder: Path) -> None:
    """Install the LiteLLM proxy into a virtual environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, LITELLM], check=True)


def install_portkey(folder: Path) -> None:
    """Install Portkey's gateway from npm; no install scripts are run."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is needed for Portkey: install Node.js 20 or later")
    folder.mkdir(parents=True, exist_ok=True)
    package = {
        "name": "bench-peer-portkey",
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PORTKEY},
        "overrides": {"@hono/node-server": HONO_NODE_SERVER},
    }
    (folder / "package.json").write_text(json.dumps(package, indent=2) + "\n")
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    subprocess.run([npm, "install", *quiet], cwd=folder, check=True)


INSTALLERS = {"litellm": install_litellm, "portkey": install_portkey}


def main(arguments: list[str] | None = None) -> int:
    """Install the chosen peers; one that fails does not keep the others from being installed."""
    parser = argparse.ArgumentParser(prog="loadtests.bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(INSTALLERS)}; all")
    chosen = parser.parse_args(arguments).peers or list(INSTALLERS)
    if unknown := set(chosen) - INSTALLERS.keys():
        parser.error(f"unknown peer: {', '.join(sorted(unknown))}; known: {', '.join(INSTALLERS)}")
    failed = []
    for peer in chosen:
        sys.stderr.write(f"installing {peer} …\n")
        try:
            INSTALLERS[peer](PEERS / peer)
        except (OSError, subprocess.CalledProcessError) as exc:
            failed.append(peer)
            sys.stderr.write(f"{peer} is not installed: {exc}\n")
    return 3 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
