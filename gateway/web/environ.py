"""The WSGI environment of a request, without what gunicorn adds for every one of them.

gunicorn looks up a logger and a process variable for each request, which costs 30 µs; what does not
change is made once a worker here.
"""

import sys
from functools import partial
from typing import Any

from gunicorn.util import unquote_to_wsgi_str

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PLAIN = {"CONTENT-TYPE": "CONTENT_TYPE", "CONTENT-LENGTH": "CONTENT_LENGTH"}


class Environments:
    """Makes environments for one listener.

    Args:
        server: What the listener's ``getsockname`` returned.
    """

    def __init__(self, server: Any) -> None:
        host, port = (server[0], server[1]) if isinstance(server, tuple) else (str(server), "")
        self._base: dict[str, Any] = {
            "wsgi.errors": sys.stderr,
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "SERVER_SOFTWARE": "nexus-gateway",
            "SERVER_NAME": host,
            "SERVER_PORT": str(port),
            "SCRIPT_NAME": "",
        }

    def of(self, req: Any, sock: Any, peer: Any) -> dict[str, Any]:
        """Return the environment of a parsed request.

        A client that waits for permission to send its body gets it from whoever reads the body.
        """
        environ = self._base.copy()
        environ["wsgi.input"] = req.body
        environ["wsgi.url_scheme"] = req.scheme
        environ["gunicorn.socket"] = sock
        environ["REQUEST_METHOD"] = req.method
        environ["QUERY_STRING"] = req.query
        environ["RAW_URI"] = req.uri
        environ["PATH_INFO"] = unquote_to_wsgi_str(req.path)
        environ["SERVER_PROTOCOL"] = f"HTTP/{req.version[0]}.{req.version[1]}"
        if isinstance(peer, tuple):
            environ["REMOTE_ADDR"] = peer[0]
            environ["REMOTE_PORT"] = str(peer[1])
        for name, value in req.headers:
            key = _PLAIN.get(name) or "HTTP_" + name.replace("-", "_")
            # A repeated field is one list; gunicorn has already refused those that must be single.
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        if req._expected_100_continue:  # noqa: SLF001  # gunicorn has no public name for it
            environ["gateway.continue"] = partial(sock.sendall, _CONTINUE)
        return environ
