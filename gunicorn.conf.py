"""How gunicorn serves the gateway. Settings come from the environment (docs/settings.md)."""

# First, before anything that touches sockets: patched later, psycopg would block the hub and
# urllib3 would recurse for ever on TLS.
from gevent import monkey

monkey.patch_all()

import errno
import gc
import os
import shutil
import socket
import sys
from pathlib import Path

from gateway.auth.first_key import PLAIN, forget_plain, make_first_key, stored_digests
from gateway.kernel.errors import SettingsError
from gateway.kernel.settings import read_environ
from gateway.ops.banner import banner
from gateway.settings import accept_settings, settings_in_force
from gateway.web.settings import address_of

_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_PREFIX = "gateway-metrics-"
_WRONG_SETTINGS = 2

# gunicorn runs this file again on SIGHUP. A source that was spoilt meanwhile (a secret's file) must
# not stop a running server, so the configuration accepted before stays in force.
try:
    _settings = accept_settings(read_environ())
except SettingsError as error:
    sys.stderr.write(f"The configuration is wrong:\n{error.message}\n")
    _settings = settings_in_force()
    if _settings is None:
        sys.exit(_WRONG_SETTINGS)
    sys.stderr.write("The configuration before stays in force.\n")
_web = _settings.web
_fast_folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")  # noqa: S108  # memory, not a disk

wsgi_app = "wsgi:app"
worker_class = "gateway.web.worker.GatewayWorker"
bind = [
    address_of(_web.host, _web.port),
    address_of(_web.observability_host, _web.observability_port),
]
workers = _web.workers or os.cpu_count() or 1
worker_connections = _web.worker_connections
backlog = 2048
timeout = 30
graceful_timeout = _web.graceful_timeout_s
keepalive = 8  # idle limit, header deadline and drain delay in one; a little above nginx's 5 s
http_parser = "python"  # the C one accepts bare line feeds and folded headers
control_socket_disable = True
# No forwarding header is believed from anyone; "*" with nothing to believe also saves gunicorn from
# parsing the peer's address for each request.
forwarder_headers = ""
secure_scheme_headers = {}
forwarded_allow_ips = "*"
accesslog = None
loglevel = "warning"
worker_tmp_dir = str(_fast_folder)  # a heartbeat must not wait for a disk


def on_starting(server):
    """Run once in the master, before any fork: ports, first key, metrics directory, warnings."""
    data_dir = Path(_web.data_dir)
    try:
        _check_ports()
        stored_digests(data_dir)
        if _web.environment == "production" and (data_dir / PLAIN).exists():
            raise SettingsError(f"{data_dir / PLAIN} holds an admin key in the clear; delete it.")
        server.first_key = None if _settings.keys else make_first_key(data_dir)
    except SettingsError as error:
        sys.stderr.write(f"The gateway cannot start:\n{error.message}\n")
        sys.exit(_WRONG_SETTINGS)
    if _METRICS_DIR not in os.environ:
        _remove_dead_metrics()
        folder = _fast_folder / f"{_METRICS_PREFIX}{os.getpid()}"
        folder.mkdir(mode=0o700)  # its name can be guessed: never one that somebody prepared
        os.environ[_METRICS_DIR] = str(folder)
    for line in _settings.warnings:
        sys.stderr.write(f"Warning: {line}\n")


def when_ready(server):
    """Tell the operator where to go; flushed before the fork, or each worker repeats it."""
    on_terminal = sys.stderr.isatty()
    has_mock = any(upstream.embedded for upstream in _settings.upstreams)
    text = banner(
        _web,
        first_key=server.first_key,
        has_env_keys=bool(_settings.keys),
        on_terminal=on_terminal,
        model="mock" if has_mock else "",
    )
    sys.stderr.write(text)
    sys.stderr.flush()
    if server.first_key and on_terminal:
        forget_plain(Path(_web.data_dir))


def post_worker_init(worker):
    """Start the background work, then take everything made so far out of the collector's sight."""
    from gateway.app import start  # noqa: PLC0415  # prometheus_client must see the directory first

    for module in ("socket", "ssl", "threading"):
        if not monkey.is_module_patched(module):
            raise SystemExit(f"{module} was imported before gevent patched it")
    start(worker.wsgi)
    gc.collect()
    gc.freeze()
    # A request makes no cycles worth looking for every 700 objects; the search costs 3 % of it.
    gc.set_threshold(20_000, 20, 50)


def worker_exit(_server, worker):
    """Hand over what a stopping worker has counted."""
    from gateway.app import stop  # noqa: PLC0415  # see above

    if getattr(worker, "wsgi", None) is not None:
        stop(worker.wsgi)


def child_exit(_server, worker):
    """Let a dead worker's gauges go."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # see above

    mark_process_dead(worker.pid)


def on_exit(_server):
    """Remove the metrics directory made above."""
    shutil.rmtree(_fast_folder / f"{_METRICS_PREFIX}{os.getpid()}", ignore_errors=True)


def _check_ports():
    """Refuse a taken port at once and by its setting's name, where gunicorn tries for 5 s."""
    places = (
        ("GATEWAY_HOST", "GATEWAY_PORT", _web.host, _web.port),
        (
            "OBSERVABILITY_HOST",
            "OBSERVABILITY_PORT",
            _web.observability_host,
            _web.observability_port,
        ),
    )
    for host_name, port_name, host, port in places:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise SettingsError(
                        f"Port {port} ({port_name}) is taken, perhaps by another gateway; choose "
                        f"another one, for example {port_name}={port + 10}."
                    ) from error
                raise SettingsError(
                    f"{host_name}={host}, {port_name}={port} cannot be bound ({error.strerror})."
                ) from error


def _remove_dead_metrics():
    """Remove what masters that were killed left behind."""
    for folder in _fast_folder.glob(f"{_METRICS_PREFIX}*"):
        pid = folder.name.removeprefix(_METRICS_PREFIX)
        try:
            is_dead = int(pid) == os.getpid()  # in a container a restart gets the same number
            if not is_dead:
                os.kill(int(pid), 0)
        except ProcessLookupError:
            is_dead = True
        except (OSError, ValueError, OverflowError):
            continue
        if is_dead:
            shutil.rmtree(folder, ignore_errors=True)
