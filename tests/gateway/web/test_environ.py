"""The WSGI environment, made without gunicorn's detours."""

import io

import pytest
from gunicorn.config import Config
from gunicorn.http.wsgi import create

from gateway.web.environ import Environments
from tests.fakes.sockets import connection

SERVER = ("127.0.0.1", 8800)
PEER = ("10.0.0.9", 4242)


class Wire:
    """A socket that keeps what is sent."""

    def __init__(self):
        self.sent = b""

    def sendall(self, data):
        self.sent += data


def parsed(text):
    """Return a request as gunicorn's own parser reads it."""
    from gunicorn.http.parser import RequestParser

    return next(RequestParser(Config(), io.BytesIO(text), PEER))


def environ_of(text, wire=None):
    """Return the environment of a request."""
    return Environments(SERVER).of(parsed(text), wire or Wire(), PEER)


REQUESTS = [
    b"GET /v1/models/a%2Fb%20c?x=1&y=%20 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nab",
    b"GET / HTTP/1.0\r\nX-A: 1\r\nX-A: 2\r\nX-B-C: \xc3\xa9\r\n\r\n",
    b"GET http://x/abs HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("text", REQUESTS, ids=["path", "body", "repeated", "absolute"])
def test_it_says_what_gunicorns_own_would_say(text):
    ours = environ_of(text)
    with connection() as (server, _):
        _, theirs = create(parsed(text), server, PEER, SERVER, Config())

    differing = {
        name: (ours.get(name), value)
        for name, value in theirs.items()
        if name.isupper() and name != "SERVER_SOFTWARE" and ours.get(name) != value
    }
    assert differing == {}


def test_the_port_is_the_listeners_whatever_the_host_header_says():
    ours = environ_of(b"GET / HTTP/1.1\r\nHost: x:8801\r\n\r\n")

    assert ours["SERVER_PORT"] == "8800"
    assert ours["HTTP_HOST"] == "x:8801"


def test_the_caller_cannot_set_what_the_server_knows():
    ours = environ_of(
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nScript-Name: /x\r\n"
        b"Remote-Addr: 1.2.3.4\r\nServer-Port: 8801\r\n\r\n"
    )

    assert (ours["REMOTE_ADDR"], ours["SERVER_PORT"], ours["SCRIPT_NAME"]) == (
        "10.0.0.9",
        "8800",
        "",
    )
    assert ours["HTTP_X_FORWARDED_FOR"] == "1.2.3.4"


def test_two_requests_share_no_environment():
    environments = Environments(SERVER)
    one = environments.of(parsed(REQUESTS[0]), Wire(), PEER)
    one["HTTP_X_SECRET"] = "mine"

    other = environments.of(parsed(REQUESTS[0]), Wire(), PEER)

    assert "HTTP_X_SECRET" not in other


def test_a_client_that_asks_first_is_told_to_go_on_by_who_reads_the_body():
    wire = Wire()
    environ = environ_of(
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", wire
    )

    assert wire.sent == b""
    environ["gateway.continue"]()

    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_a_listener_without_a_port_has_none():
    ours = Environments("/run/gateway.sock").of(parsed(REQUESTS[0]), Wire(), b"")

    assert (ours["SERVER_NAME"], ours["SERVER_PORT"]) == ("/run/gateway.sock", "")
    assert "REMOTE_ADDR" not in ours
