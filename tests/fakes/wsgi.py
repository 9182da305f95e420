"""Requests as a WSGI server makes them, for what Flask's test client smooths over."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from gateway.web.incoming import Incoming


@dataclass
class Answer:
    """What a WSGI application answered, its body still to be read and closed."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    blocks: Any = ()

    def header(self, name: str) -> str | None:
        """Return the only header of that name; None when there is none."""
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(found) < 2, f"{name} was sent {len(found)} times"
        return found[0] if found else None

    def read(self) -> bytes:
        """Return the whole body, and close it as a server does."""
        try:
            return b"".join(self.blocks)
        finally:
            self.close()

    def close(self) -> None:
        """Tell the application that the server is done with the body."""
        close = getattr(self.blocks, "close", None)
        if close is not None:
            close()


def environ(
    method: str = "GET", path: str = "/", *, body: bytes = b"", port: int = 8800, **more: Any
) -> dict[str, Any]:
    """Return the WSGI environment of a request; ``HTTP_…`` names are its headers."""
    made = {
        "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": "", "SCRIPT_NAME": "",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": str(port), "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": f"127.0.0.1:{port}",
        "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": BytesIO(body),
        "wsgi.errors": None, "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip
    return {**made, **more}


def incoming(method: str = "GET", path: str = "/", **more: Any) -> Incoming:
    """Return a request that belongs to no application."""
    return Incoming(environ(method, path, **more), {})


def ask(wsgi: Any, request: dict[str, Any]) -> Answer:
    """Return the answer of a WSGI application; its body is not read yet."""
    answer = Answer()

    def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
        answer.status = int(line[:3])
        answer.headers = headers

    answer.blocks = wsgi(request, start_response)
    return answer
