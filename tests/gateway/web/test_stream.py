"""A stream on its way out: alive in silence, and never ended as if it were whole when it is not."""

import errno

import orjson
import pytest
from gevent import GreenletExit, Timeout

from gateway.kernel.errors import ClientGone, UpstreamCut, UpstreamError, UpstreamTimeout
from gateway.kernel.logs import Log
from gateway.kernel.sse import KEEPALIVE
from gateway.web.stream import HEADERS, StreamBody, StreamCut

HEARTBEAT_S = 15.0


class Source:
    """Gives out a script: bytes, seconds of silence, or something to raise."""

    def __init__(self, clock, *script):
        self.clock = clock
        self.script = list(script)
        self.failures = []
        self.closed = 0

    def __next__(self):
        if not self.script:
            raise StopIteration
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, float):
            self.clock.advance(step)
            return b""
        return step

    def failed(self, error):
        self.failures.append(error)

    def close(self):
        self.closed += 1


@pytest.fixture
def log_lines():
    """What the stream logs."""
    return []


@pytest.fixture
def open_body(clock, log_lines):
    """A function that opens a stream over a script."""

    def opened(*script):
        source = Source(clock, *script)
        log = Log("DEBUG", log_lines.append)
        return source, lambda: StreamBody(source, HEARTBEAT_S, "req-1", log, clock)

    return opened


def read(body):
    """Return all blocks up to the end or the cut, and the cut."""
    blocks = []
    while True:
        try:
            blocks.append(next(body))
        except StopIteration:
            return blocks, None
        except StreamCut as cut:
            return blocks, cut


def error_in(block):
    """Return the error that an event carries."""
    assert block.startswith(b"data: ")
    assert block.endswith(b"\n\n")
    return orjson.loads(block[6:])["error"]


def test_a_good_stream_passes_untouched(open_body):
    source, opened = open_body(b"a", b"b", b"c")

    body = opened()

    assert read(body) == ([b"a", b"b", b"c"], None)
    assert source.failures == []


def test_nothing_is_answered_before_there_is_something_to_say(open_body):
    source, opened = open_body(0.1, 0.1, b"first", b"second")

    body = opened()

    assert source.script == [b"second"]
    assert next(body) == b"first"


@pytest.mark.parametrize("error", [UpstreamError("x"), UpstreamTimeout("x"), ClientGone("x")])
def test_an_early_failure_is_a_real_error_and_the_source_is_closed(open_body, error):
    source, opened = open_body(0.1, error)

    with pytest.raises(type(error)):
        opened()

    assert source.failures == [error]
    assert source.closed == 1


def test_an_early_defect_is_noted_as_one_and_left_to_the_edge(open_body):
    source, opened = open_body(RuntimeError("sk-canary-1234567890"))

    with pytest.raises(RuntimeError):
        opened()

    assert [error.code for error in source.failures] == ["internal_error"]
    assert source.closed == 1


def test_an_empty_stream_ends_empty(open_body):
    _, opened = open_body()

    assert read(opened()) == ([], None)


def test_after_a_silence_the_answer_is_committed_with_a_comment(open_body):
    source, opened = open_body(7.0, 7.0, 1.0, b"late")

    body = opened()

    assert source.script == [b"late"]
    assert read(body) == ([KEEPALIVE, b"late"], None)


def test_a_silent_stream_says_that_it_is_alive_once_a_heartbeat(open_body):
    _, opened = open_body(b"a", *[5.0] * 7, b"b")

    assert read(opened())[0] == [b"a", KEEPALIVE, KEEPALIVE, b"b"]


def test_a_stream_that_talks_carries_no_comment(open_body):
    _, opened = open_body(b"a", 14.0, b"b", 14.0, b"c", 14.9)

    assert read(opened())[0] == [b"a", b"b", b"c"]


def test_a_late_failure_is_an_event_and_then_an_unfinished_body(open_body):
    source, opened = open_body(b"a", UpstreamCut("The answer was cut."))

    blocks, cut = read(opened())

    assert blocks[0] == b"a"
    assert error_in(blocks[1])["code"] == "upstream_truncated"
    assert error_in(blocks[1])["request_id"] == "req-1"
    assert cut is not None
    assert [error.code for error in source.failures] == ["upstream_truncated"]


def test_the_cut_is_the_one_exception_that_gunicorn_ends_a_body_with_in_silence():
    cut = StreamCut()

    assert isinstance(cut, ConnectionResetError)
    assert cut.errno == errno.ECONNRESET


def test_a_failure_after_the_comment_is_an_event_too(open_body):
    _, opened = open_body(15.0, UpstreamTimeout("Too slow."))

    blocks, cut = read(opened())

    assert blocks[0] == KEEPALIVE
    assert error_in(blocks[1])["code"] == "upstream_timeout"
    assert cut is not None


def test_after_the_cut_every_further_read_is_cut(open_body):
    _, opened = open_body(b"a", UpstreamCut("x"), b"never")
    body = opened()

    read(body)

    with pytest.raises(StreamCut):
        next(body)


def test_a_cut_stream_never_says_done(open_body):
    _, opened = open_body(b"a", UpstreamCut("x"), b"data: [DONE]\n\n")

    blocks, _ = read(opened())

    assert not any(b"[DONE]" in block for block in blocks)


def test_a_caller_that_left_is_told_nothing(open_body):
    source, opened = open_body(b"a", ClientGone("gone"))

    blocks, cut = read(opened())

    assert blocks == [b"a"]
    assert cut is not None
    assert [error.code for error in source.failures] == ["client_gone"]


def test_a_defect_is_told_without_its_text_and_logged_with_its_place(open_body, log_lines):
    _, opened = open_body(b"a", RuntimeError("sk-canary-1234567890"))

    blocks, cut = read(opened())

    assert error_in(blocks[1])["code"] == "internal_error"
    assert cut is not None
    [line] = log_lines
    assert b"RuntimeError" in line
    assert b"canary" not in line + b"".join(blocks)


@pytest.mark.parametrize("end", [GreenletExit(), Timeout(), SystemExit(), KeyboardInterrupt()])
def test_even_what_is_no_exception_ends_as_a_cut_stream(open_body, end):
    """Anything else than the one errno would write a second status line into the body."""
    _, opened = open_body(b"a", end)

    blocks, cut = read(opened())

    assert error_in(blocks[1])["code"] == "server_draining"
    assert cut is not None


def test_before_the_first_byte_the_same_is_not_swallowed(open_body):
    source, opened = open_body(GreenletExit())

    with pytest.raises(GreenletExit):
        opened()

    assert source.closed == 1


@pytest.mark.parametrize("script", [[b"a"], [b"a", UpstreamCut("x")], [b"a", ClientGone("x")]])
def test_closing_closes_the_source_however_the_stream_ended(open_body, script):
    source, opened = open_body(*script)
    body = opened()
    read(body)

    body.close()

    assert source.closed == 1


def test_a_stream_that_is_not_read_to_its_end_is_closed_too(open_body):
    source, opened = open_body(b"a", b"b")
    body = opened()

    body.close()

    assert source.closed == 1


def test_bytes_of_any_kind_leave_as_bytes(open_body):
    _, opened = open_body(bytearray(b"a"), memoryview(b"b"))

    assert [type(block) for block in read(opened())[0]] == [bytes, bytes]


def test_the_headers_keep_proxies_from_holding_a_stream_back():
    assert dict(HEADERS) == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }
