"""The systems under test: how each is installed, started and asked. One table, `SYSTEMS`."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.bench.processes import Command, base_environment

OURS = "ours"
REPOSITORY = Path(__file__).resolve().parents[2]
PEERS = REPOSITORY / ".peers"
INSTALL_HINT = "install it with: make bench-peers"

_KEY = "sk-bench-6fK2vQ8xT1mZ4rN7cW0yB5hJ3pL9dG"
CHAT_PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Site:
    """Where one start of one system happens."""

    port: int
    spare_port: int
    upstream_port: int
    folder: Path
    models: tuple[str, ...]
    extra_env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CrowdShape:
    """How many paced streams, how far apart their chunks, how long until all have begun.

    It is what a system keeps up with on two slow processors: past that, queues are measured.
    """

    streams: int
    interval_ms: int
    opening_s: float


FULL_CROWD = CrowdShape(streams=300, interval_ms=25, opening_s=1.5)


@dataclass(frozen=True, slots=True)
class System:
    """One gateway of the comparison.

    Attributes:
        find_missing: Says what must be installed first, None when nothing.
        write_command: Writes the configuration files of a start and returns the command.
        find_version: Says which version is installed.
        headers: What a client sends beside the usual.
        ready_path: Answers 200 when ready; None when only an answered request tells.
        crowd: The crowd that it keeps up with.
    """

    name: str
    title: str
    find_missing: Callable[[], str | None]
    write_command: Callable[[Site], Command]
    find_version: Callable[[], str]
    headers: Callable[[Site], dict[str, str]]
    ready_path: str | None = None
    crowd: CrowdShape = FULL_CROWD


def _keyed(_: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {_KEY}"}


def _ours_missing() -> str | None:
    if (REPOSITORY / "wsgi.py").exists():
        return None
    return "wsgi.py is not there: run this inside the repository"


def _ours_command(site: Site) -> Command:
    """Start ours with every feature of the hot path on: key, rate limits, ledger, metrics, log."""
    policy = {"rate_limit_per_minute": 100_000_000}
    env = {
        "GATEWAY_UPSTREAMS": f"bench=http://127.0.0.1:{site.upstream_port}",
        "GATEWAY_API_KEYS": _KEY,
        "GATEWAY_API_KEY_POLICIES": json.dumps({_KEY: policy}),
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(site.port),
        "OBSERVABILITY_HOST": "127.0.0.1",
        "OBSERVABILITY_PORT": str(site.spare_port),
        "WEB_CONCURRENCY": "1",
        "DATA_DIR": str(site.folder),
    }
    argv = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
    return Command(argv, base_environment(site.folder) | env | site.extra_env, REPOSITORY)


def _ours_version() -> str:
    return _search_version(REPOSITORY / "gateway" / "__init__.py", r'__version__\s*=\s*"([^"]+)"')


def _litellm_program() -> Path:
    return PEERS / "litellm" / "bin" / "litellm"


def _litellm_missing() -> str | None:
    return None if _litellm_program().exists() else INSTALL_HINT


def _litellm_command(site: Site) -> Command:
    """Start the proxy as its production notes say, without its database."""
    rows = [
        {
            "model_name": model,
            "litellm_params": {
                "model": f"openai/{model}",
                "api_base": f"http://127.0.0.1:{site.upstream_port}/v1",
                "api_key": "none",
            },
        }
        for model in site.models
    ]
    config = site.folder / "config.yaml"
    config.write_text(json.dumps({"model_list": rows, "litellm_settings": {"telemetry": False}}))
    env = {
        "LITELLM_MASTER_KEY": _KEY,
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
    }
    argv = [str(_litellm_program()), "--config", str(config)]
    argv += ["--host", "127.0.0.1", "--port", str(site.port), "--num_workers", "1"]
    return Command(argv, base_environment(site.folder) | env, site.folder)


def _litellm_version() -> str:
    found = list((PEERS / "litellm").glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found[0].name.removeprefix("litellm-").removesuffix(".dist-info") if found else "?"


def _portkey_program() -> Path:
    return PEERS / "portkey/node_modules/@portkey-ai/gateway/build/start-server.js"


def _portkey_missing() -> str | None:
    if shutil.which("node") is None:
        return "install Node.js 20 or later, then: make bench-peers"
    return None if _portkey_program().exists() else INSTALL_HINT


def _portkey_command(site: Site) -> Command:
    """Start Portkey; it knows no listening address, so a preloaded line keeps it on loopback."""
    preload = site.folder / "loopback.cjs"
    preload.write_text(
        "const net = require('net'); const listen = net.Server.prototype.listen;\n"
        "net.Server.prototype.listen = function (port, host, ...rest) {\n"
        "  return listen.call(this, port, '127.0.0.1', ...rest); };\n"
    )
    argv = [shutil.which("node") or "node", "--require", str(preload), str(_portkey_program())]
    argv += [f"--port={site.port}", "--headless"]
    env = base_environment(site.folder) | {"NODE_ENV": "production"}
    return Command(argv, env, site.folder)


def _portkey_headers(site: Site) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {_KEY}",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{site.upstream_port}/v1",
    }


def _portkey_version() -> str:
    return _search_version(_portkey_program().parents[1] / "package.json", r'"version": "([^"]+)"')


def _nginx_program() -> str | None:
    return shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin")


def _nginx_missing() -> str | None:
    return None if _nginx_program() else "install nginx with the system's package manager"


def _nginx_command(site: Site) -> Command:
    """Start nginx as a plain proxy that checks the key and writes an access log: the floor."""
    config = site.folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(site=site, key=_KEY))
    argv = [_nginx_program() or "nginx", "-p", str(site.folder), "-c", str(config)]
    argv += ["-e", str(site.folder / "error.log")]
    return Command(argv, base_environment(site.folder), site.folder)


def _nginx_version() -> str:
    said = subprocess.run([_nginx_program() or "nginx", "-v"], capture_output=True, check=True)
    return said.stderr.decode().strip().rpartition("/")[2]


def _search_version(file: Path, pattern: str) -> str:
    match = re.search(pattern, file.read_text()) if file.exists() else None
    return match[1] if match else "?"


_NGINX_CONFIG = """\
daemon off; worker_processes 1; pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log access.log; client_body_buffer_size 1m; keepalive_requests 1000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream bench {{
    server 127.0.0.1:{site.upstream_port}; keepalive 256; keepalive_requests 1000000;
  }}
  map $http_authorization $known {{ default 0; "Bearer {key}" 1; }}
  server {{
    listen 127.0.0.1:{site.port} backlog=4096;
    if ($known = 0) {{ return 401; }}
    location / {{
      proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System(
            name=OURS,
            title="Nexus Gateway",
            find_missing=_ours_missing,
            write_command=_ours_command,
            find_version=_ours_version,
            headers=_keyed,
            ready_path="/readyz",
        ),
        System(
            name="litellm",
            title="LiteLLM proxy",
            find_missing=_litellm_missing,
            write_command=_litellm_command,
            find_version=_litellm_version,
            headers=_keyed,
            crowd=CrowdShape(streams=60, interval_ms=100, opening_s=3.0),
        ),
        System(
            name="portkey",
            title="Portkey gateway",
            find_missing=_portkey_missing,
            write_command=_portkey_command,
            find_version=_portkey_version,
            headers=_portkey_headers,
            crowd=CrowdShape(streams=300, interval_ms=50, opening_s=2.5),
        ),
        System(
            name="nginx",
            title="nginx proxy_pass",
            find_missing=_nginx_missing,
            write_command=_nginx_command,
            find_version=_nginx_version,
            headers=_keyed,
        ),
    )
}
