"""One connection: its parser, its state while idle, and its TLS."""

import socket
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import gevent.ssl
import pytest
from gevent.event import Event
from geventhttpclient._parser import HTTPParseError

from gateway.backends.connection import (
    Connection,
    Parser,
    open_connection,
    tls_context,
    tls_problems,
)
from gateway.backends.resolver import Resolver
from gateway.backends.settings import BackendSettings
from gateway.backends.transport import Pool, Timeouts
from gateway.kernel.deadline import Deadline
from gateway.kernel.errors import UpstreamReset, UpstreamTimeout, UpstreamUnreachable
from tests.fakes.upstream import FakeUpstream, answer, chunk, stream, stream_head
from tests.gateway.backends.certificates import make_certificates

OK = answer(b"fine")
ROOT = Path(__file__).parents[3]

# --- the parser ----------------------------------------------------------------------------------


def test_a_name_and_a_value_may_be_cut_anywhere():
    parser = Parser()

    for (
        byte
    ) in b"HTTP/1.1 200 OK\r\nX-One: a b\r\nX-Two:\r\nX-Three:c\r\nContent-Length: 0\r\n\r\n":
        parser.feed(bytes([byte]))

    assert parser.headers == {"x-one": "a b", "x-two": "", "x-three": "c", "content-length": "0"}
    assert parser.complete


def test_of_two_headers_of_one_name_the_last_counts():
    parser = Parser()

    parser.feed(b"HTTP/1.1 200 OK\r\nX: 1\r\nX: 2\r\n\r\n")

    assert parser.headers["x"] == "2"


def test_an_interim_answer_completes_nothing():
    parser = Parser()

    parser.feed(b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n")
    before = (parser.headers_complete, parser.complete, dict(parser.headers))
    parser.feed(OK)

    assert before == (False, False, {})
    assert parser.complete
    assert bytes(parser.body) == b"fine"


def test_bytes_behind_a_finished_answer_are_refused():
    parser = Parser()

    with pytest.raises(HTTPParseError):
        parser.feed(OK + answer(b"evil"))

    assert bytes(parser.body) == b"fine"


def test_trailers_are_read_over_and_kept_nowhere():
    parser = Parser()
    parser.feed(stream_head() + chunk(b"fine"))
    headers = dict(parser.headers)

    parser.feed(b"0\r\n")
    for place in range(50):
        parser.feed(b"X-%d: %b\r\nContent-Type: text/evil\r\n" % (place, b"a" * 1_000))

    assert parser.headers == headers
    assert len(parser._name) + len(parser._value) < 100
    parser.feed(b"\r\n")
    assert (parser.complete, bytes(parser.body)) == (True, b"fine")


# --- the connection ------------------------------------------------------------------------------


@pytest.fixture
def pair():
    """A connection and the socket at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection = Connection(ours)
    yield connection, theirs
    connection.close()
    theirs.close()


def test_an_idle_connection_after_a_whole_answer_is_alive(pair):
    connection, _ = pair
    connection.parser.feed(OK)

    assert connection.is_alive()


def test_an_idle_connection_before_its_answers_end_is_not(pair):
    connection, _ = pair
    connection.parser.feed(stream_head() + chunk(b"x"))

    assert not connection.is_alive()


def test_an_answer_whose_end_came_late_is_finished(pair):
    connection, theirs = pair
    *most, last = stream(b"x")
    connection.parser.feed(b"".join(most))
    theirs.sendall(last)

    assert connection.is_alive()


@pytest.mark.parametrize("extra", [b"zz", b"0\r\n", b"0\r\n\r\nHTTP/1.1 200 OK\r\n"])
def test_an_end_that_is_none_is_not_alive(pair, extra):
    connection, theirs = pair
    connection.parser.feed(stream_head() + chunk(b"x"))
    theirs.sendall(extra)

    assert not connection.is_alive()


def test_a_connection_with_unasked_bytes_is_not_alive(pair):
    connection, theirs = pair
    connection.parser.feed(OK)
    theirs.sendall(b"x")

    assert not connection.is_alive()


def test_a_connection_closed_by_the_other_side_is_not_alive(pair):
    connection, theirs = pair
    connection.parser.feed(OK)
    theirs.close()

    assert not connection.is_alive()


def test_receiving_tells_bytes_silence_and_the_end_apart(pair, wait):
    connection, theirs = pair
    silence = connection.receive(wait, wait.now())
    heard_before = connection.heard
    theirs.sendall(b"abc")
    data = connection.receive(wait, wait.now() + 5.0)
    theirs.close()
    end = connection.receive(wait, wait.now() + 5.0)

    assert (silence, data, end) == (None, b"abc", b"")
    assert (heard_before, connection.heard) == (False, True)


def test_a_reset_connection_has_heard_nothing_and_parsed_nothing(pair):
    connection, _ = pair
    connection.parser.feed(OK)
    connection.heard = True

    connection.reset()

    assert not connection.heard
    assert not connection.parser.complete


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """A folder with an authority, a server's and a client's certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


def server_side(folder: Path) -> gevent.ssl.SSLContext:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context


@pytest.fixture
def secure(certificates):
    """A fake upstream that speaks TLS and answers every request."""
    upstream = FakeUpstream(server_side(certificates))
    upstream.always(OK)
    yield upstream
    upstream.close()


def local(host: str, port: int) -> list:
    """Look every name up as this machine."""
    return [(socket.AF_INET, ("127.0.0.1", port))]


def fetch(upstream: FakeUpstream, wait, times: int = 1, host: str = "localhost", **settings):
    """Ask a TLS upstream over one pool; return the bodies."""
    tls = tls_context(BackendSettings(**settings))
    url = upstream.url("https", host=host)
    pool = Pool(url, Timeouts(5.0, 5.0, 5.0), Resolver(local), tls)
    bodies = []
    try:
        for _ in range(times):
            response = pool.request(b"GET / HTTP/1.1", b"", wait, Deadline.after(10.0))
            bodies.append(response.read(1_048_576))
            response.close()
    finally:
        pool.close()
    return bodies


def test_a_certificate_of_an_authority_we_were_told_is_accepted(secure, wait, certificates):
    assert fetch(secure, wait, ca_bundle=str(certificates / "ca.pem")) == [b"fine"]


def test_a_certificate_of_an_unknown_authority_is_refused(secure, wait):
    with pytest.raises(UpstreamUnreachable) as caught:
        fetch(secure, wait)

    assert "certificate" in caught.value.message
    assert secure.requests == []


def test_a_certificate_for_another_name_is_refused(secure, wait, certificates):
    with pytest.raises(UpstreamUnreachable):
        fetch(secure, wait, host="gpu1", ca_bundle=str(certificates / "ca.pem"))

    assert secure.requests == []


def test_checking_can_be_turned_off(secure, wait):
    assert fetch(secure, wait, host="gpu1", verify_tls=False) == [b"fine"]


def test_an_authority_we_were_told_is_checked_even_then(secure, wait, certificates):
    ca_bundle = str(certificates / "ca.pem")

    with pytest.raises(UpstreamUnreachable):
        fetch(secure, wait, host="gpu1", verify_tls=False, ca_bundle=ca_bundle)


def test_a_tls_connection_is_used_again(secure, wait):
    assert fetch(secure, wait, times=3, verify_tls=False) == [b"fine"] * 3
    assert len(secure.peers) == 1


def test_a_long_answer_over_tls_arrives_whole(secure, wait):
    body = bytes(range(256)) * 3_000
    secure.script(answer(body))

    assert fetch(secure, wait, verify_tls=False) == [body]


@pytest.mark.parametrize("joined", [True, False], ids=["one file", "two files"])
def test_our_own_certificate_is_shown_to_an_upstream_that_asks(
    certificates, tmp_path, wait, joined
):
    asking = server_side(certificates)
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(certificates / "ca.pem")
    upstream = FakeUpstream(asking)
    upstream.always(OK)
    pem, key = certificates / "client.pem", certificates / "client.key"
    both = tmp_path / "both.pem"
    both.write_text(pem.read_text() + key.read_text())

    shown = fetch(
        upstream, wait, verify_tls=False, client_cert=str(both) if joined else f"{pem},{key}"
    )
    with pytest.raises((UpstreamReset, UpstreamUnreachable)):
        fetch(upstream, wait, verify_tls=False)

    assert shown == [b"fine"]
    upstream.close()


def test_an_upstream_that_does_not_speak_tls_is_unreachable(upstream, wait):
    upstream.greet(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with pytest.raises(UpstreamUnreachable):
        fetch(upstream, wait, verify_tls=False)


def test_a_handshake_that_hangs_is_given_up(upstream, wait):
    upstream.greet(Event())
    tls = tls_context(BackendSettings(verify_tls=False))
    address = (socket.AF_INET, ("127.0.0.1", upstream.port))

    with pytest.raises(UpstreamTimeout) as caught:
        open_connection(address, tls, "localhost", wait, wait.now() + 0.05)

    assert caught.value.code == "upstream_connect_timeout"
    assert upstream.peers[0].gone.wait(2)


@pytest.mark.parametrize("name", ["ca_bundle", "client_cert"])
@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not a certificate"])
def test_a_file_that_cannot_be_used_is_told_at_the_start(tmp_path, name, content):
    path = tmp_path / "file.pem"
    if content:
        path.write_text(content)

    problems = tls_problems(BackendSettings(**{name: str(path)}))

    assert len(problems) == 1
    assert problems[0].startswith("BACKEND_CA_BUNDLE or BACKEND_CLIENT_CERT")


def test_files_that_can_be_used_and_no_files_are_no_problem(certificates):
    good = BackendSettings(ca_bundle=str(certificates / "ca.pem"))

    assert tls_problems(good) == tls_problems(BackendSettings()) == []


def test_tls_works_where_gevent_has_replaced_ssl(certificates):
    """As in a worker, whose sockets and contexts are gevent's."""
    script = """
        from gevent import monkey; monkey.patch_all()
        import sys, pathlib
        from gateway.web.wait import Wait
        from tests.fakes.upstream import FakeUpstream
        from tests.gateway.backends.test_connection import OK, fetch, server_side
        folder = pathlib.Path(sys.argv[1])
        upstream = FakeUpstream(server_side(folder))
        upstream.always(OK)
        print(fetch(upstream, Wait(), times=2, ca_bundle=str(folder / "ca.pem")))
        print(len(upstream.peers))
    """

    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(certificates)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert run.stdout.splitlines() == ["[b'fine', b'fine']", "1"], run.stderr
