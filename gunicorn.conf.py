"""How gunicorn serves the gateway. Settings come from the environment, see docs/settings.md."""

# First, before anything that touches sockets: patched later, psycopg would block the hub and
# urllib3 would recurse for ever on TLS.
from gevent import monkey

monkey.patch_all()

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

from gateway.auth.first_key import forget_plain, make_first_key, stored_digests
from gateway.kernel.errors import SettingsError
from gateway.kernel.settings import read_environ
from gateway.ops.banner import banner
from gateway.settings import read_settings

_METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"

try:
    _settings = read_settings(read_environ())
except SettingsError as error:
    sys.stderr.write(f"The configuration is wrong:\n{error.message}\n")
    sys.exit(2)
_web = _settings.web

wsgi_app = "wsgi:app"
worker_class = "gateway.web.worker.GatewayWorker"
bind = [f"{_web.host}:{_web.port}", f"{_web.observability_host}:{_web.observability_port}"]
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
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a heartbeat must not wait for a disk


def on_starting(server):
    """Run once in the master, before any fork: first key, metrics directory, warnings."""
    try:
        stored_digests(Path(_web.data_dir))
        server.first_key = None if _settings.keys else make_first_key(Path(_web.data_dir))
    except SettingsError as error:
        sys.stderr.write(f"The gateway cannot start:\n{error.message}\n")
        sys.exit(2)
    if _METRICS_DIR not in os.environ:
        os.environ[_METRICS_DIR] = tempfile.mkdtemp(prefix="gateway-metrics-", dir=worker_tmp_dir)
        server.metrics_dir = os.environ[_METRICS_DIR]
    for line in _settings.warnings:
        sys.stderr.write(f"Warning: {line}\n")


def when_ready(server):
    """Tell the operator where to go; flushed before the fork, or each worker repeats it."""
    on_terminal = sys.stderr.isatty()
    text = banner(
        _web, first_key=server.first_key, has_env_keys=bool(_settings.keys), on_terminal=on_terminal
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


def worker_exit(_server, worker):
    """Hand over what a stopping worker has counted."""
    from gateway.app import stop  # noqa: PLC0415  # see above

    if worker.wsgi is not None:
        stop(worker.wsgi)


def child_exit(_server, worker):
    """Let a dead worker's gauges go."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # see above

    mark_process_dead(worker.pid)


def on_exit(server):
    """Remove the metrics directory made above."""
    made = getattr(server, "metrics_dir", None)
    if made:
        shutil.rmtree(made, ignore_errors=True)
