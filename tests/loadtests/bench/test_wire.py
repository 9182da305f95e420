"""Tests of the raw readers: whatever way the bytes are cut, the same comes out."""

import pytest

from loadtests.bench import canned
from loadtests.bench.wire import EventReader, MalformedReply, ReplyReader

STREAM = canned.stream_script("bench", 5, with_usage=False).at_once(123)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, len(STREAM)])
def test_chunked_reply_is_read_however_it_is_cut(size: int) -> None:
    """Heads, chunk sizes and events may lie across reads."""
    reader, events = ReplyReader(), EventReader()
    found = []
    for start in range(0, len(STREAM), size):
        found += events.feed(reader.feed(STREAM[start : start + size]))
    assert reader.complete
    assert reader.keep_alive
    assert events.is_empty
    assert len(found) == 8
    assert found[-1] == b"[DONE]"


def test_connection_serves_one_reply_after_the_other() -> None:
    """After reset the next reply is read from scratch."""
    reader = ReplyReader()
    for _ in range(2):
        reader.reset()
        assert reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") == b""
        assert reader.feed(b"ok") == b"ok"
        assert reader.complete


def test_reply_without_length_ends_with_the_connection() -> None:
    """Such a reply is whole at the end of the connection, which is of no more use."""
    reader = ReplyReader()
    assert reader.feed(b"HTTP/1.0 200 OK\r\n\r\nhello") == b"hello"
    assert not reader.complete
    reader.end()
    assert reader.complete
    assert not reader.keep_alive


def test_cut_stream_is_not_taken_for_a_whole_one() -> None:
    """A chunked reply without its last chunk is malformed."""
    reader = ReplyReader()
    reader.feed(STREAM[:-5])
    with pytest.raises(MalformedReply):
        reader.end()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxy",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_nonsense_is_malformed(data: bytes) -> None:
    """What is no HTTP reply, or more than one, is not guessed at."""
    with pytest.raises(MalformedReply):
        ReplyReader().feed(data)


def test_comments_and_other_fields_are_no_events() -> None:
    """Keep-alive comments are dropped; the data of several lines is joined; CRLF is a line end."""
    text = b": ping\n\nevent: x\r\ndata:one\r\ndata: two\r\n\r\ndata: three\n\n"
    assert EventReader().feed(text) == [b"one\ntwo", b"three"]
