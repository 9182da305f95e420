"""The response writer: head and first bytes in one write, framing always right."""

from types import SimpleNamespace

import pytest
from gunicorn.http.errors import InvalidResponseHeader

from gateway.web.answer import Answer


class Wire:
    """A socket that takes only so many bytes at a time, and keeps every send."""

    def __init__(self, at_once=65_536):
        self.sends = []
        self.at_once = at_once

    def send(self, data):
        taken = bytes(data[: self.at_once])
        self.sends.append(taken)
        return len(taken)

    def sendall(self, data):
        while data:
            data = data[self.send(data) :]

    @property
    def text(self):
        return b"".join(self.sends)


def answer_over(wire, *, method="GET", version=(1, 1), closing=False):
    """Return a writer for a request."""
    request = SimpleNamespace(method=method, version=version, should_close=lambda: closing)
    return Answer(request, wire, SimpleNamespace(is_ssl=False, sendfile=False))


@pytest.fixture
def wire():
    """The client's side."""
    return Wire()


def test_head_and_body_leave_in_one_write(wire):
    answer = answer_over(wire)

    answer.start_response("200 OK", [("Content-Length", "5"), ("X-A", "b")])
    answer.write(b"hello")
    answer.close()

    [sent] = wire.sends
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert b"\r\nX-A: b" in head
    assert b"chunked" not in head
    assert body == b"hello"


def test_without_a_length_each_block_is_a_chunk(wire):
    answer = answer_over(wire)

    answer.start_response("200 OK", [])
    answer.write(b"x" * 17)
    answer.write(b"")
    answer.write(b"y")
    answer.close()

    assert wire.text.endswith(b"\r\n\r\n11\r\n" + b"x" * 17 + b"\r\n1\r\ny\r\n0\r\n\r\n")


def test_an_older_client_gets_the_body_up_to_the_close(wire):
    answer = answer_over(wire, version=(1, 0), closing=True)

    answer.start_response("200 OK", [])
    answer.write(b"a")
    answer.close()

    assert b"Transfer-Encoding" not in wire.text
    assert b"Connection: close" in wire.text
    assert wire.text.endswith(b"\r\n\r\na")


@pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)
def test_what_has_no_body_gets_none(wire, method, status):
    answer = answer_over(wire, method=method)

    answer.start_response(status, [])
    answer.write(b"never")
    answer.close()

    assert wire.text.endswith(b"\r\n\r\n")
    assert b"never" not in wire.text
    assert b"chunked" not in wire.text


def test_an_empty_stream_is_a_complete_answer(wire):
    answer = answer_over(wire)

    answer.start_response("200 OK", [])
    answer.close()

    assert wire.text.endswith(b"\r\n\r\n0\r\n\r\n")


def test_a_client_that_reads_slowly_gets_every_byte():
    wire = Wire(at_once=7)
    answer = answer_over(wire)

    answer.start_response("200 OK", [("Content-Length", "100")])
    answer.write(b"z" * 100)

    assert wire.text.endswith(b"\r\n\r\n" + b"z" * 100)


@pytest.mark.T(9)
@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\rb"])
def test_a_header_with_a_line_break_is_never_sent(wire, value):
    answer = answer_over(wire)
    answer.start_response("200 OK", [("X-A", value)])

    with pytest.raises(InvalidResponseHeader):
        answer.write(b"body")

    assert wire.sends == []


def test_every_answer_has_a_date_and_names_no_version(wire):
    answer = answer_over(wire)

    answer.start_response("200 OK", [("Content-Length", "0")])
    answer.close()

    assert b"\r\nDate: " in wire.text
    assert b"GMT\r\n" in wire.text
    assert b"gunicorn" not in wire.text.lower()


def test_an_error_after_the_head_is_raised_again(wire):
    answer = answer_over(wire)
    answer.start_response("200 OK", [])
    answer.write(b"a")
    error = RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        answer.start_response("500 X", [], (RuntimeError, error, None))
