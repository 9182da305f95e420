"""How gunicorn serves the gateway. Settings come from the environment; see docs/settings.md."""

# First, before anything that touches sockets: imported later, psycopg would block the hub and
# urllib3 would recurse for ever on TLS.
from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

from gateway.auth.first_key import PLAIN, forget_plain, make_first_key  # noqa: E402
from gateway.kernel.errors import SettingsError  # noqa: E402
from gateway.kernel.settings import read_environ  # noqa: E402
from gateway.settings import read_settings  # noqa: E402

try:
    _settings = read_settings(read_environ(Path(".env")))
except SettingsError as _error:
    sys.stderr.write(f"The configuration is wrong:\n{_error.message}\n")
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
http_parser = "python"  # the fast one accepts bare line feeds and folded headers
control_socket_disable = True
forwarder_headers = ""
accesslog = None
loglevel = "warning"
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None
