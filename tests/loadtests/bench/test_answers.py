"""Tests of the checks that keep a broken gateway from looking fast."""

import pytest

from loadtests.bench import canned
from loadtests.bench.answers import StreamCheck, find_reply_problem
from loadtests.bench.wire import ReplyReader

RIGHT_REPLY = ReplyReader().feed(canned.completion("bench"))
RIGHT_STREAM = ReplyReader().feed(canned.stream_script("bench", 3, with_usage=True).at_once(100))


def _check(body: bytes, chunks: int = 3, now_ns: int = 130) -> StreamCheck:
    check = StreamCheck([])
    check.feed(body, now_ns)
    check.problem = check.find_problem(200, chunks)
    return check


def test_right_reply_has_no_problem() -> None:
    """The upstream's own answer passes."""
    assert find_reply_problem(200, RIGHT_REPLY) is None


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"oops", "status 500"),
        (200, b"not json", "no chat completion"),
        (200, b'{"object":"chat.completion","choices":[],"usage":{}}', "no chat completion"),
        (200, RIGHT_REPLY.replace(b"lazy", b"keen"), "another text"),
        (200, RIGHT_REPLY.replace(b'"stop"', b"null"), "another text"),
        (200, RIGHT_REPLY.replace(b":19", b":18"), "another usage"),
    ],
)
def test_wrong_reply_is_named(status: int, body: bytes, words: str) -> None:
    """Each way of being wrong is found and said."""
    assert words in (find_reply_problem(status, body) or "")


def test_right_stream_has_no_problem_and_tells_the_lag() -> None:
    """All chunks are counted and their lag is arrival less the stamp."""
    check = _check(RIGHT_STREAM)
    assert check.problem is None
    assert check.chunks == 3
    assert check.lags_ns == [30, 30, 30]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (RIGHT_STREAM.replace(b"00001@", b"00002@"), "out of order"),
        (RIGHT_STREAM.replace(b"00002@", b"hello@"), "out of order"),
        (RIGHT_STREAM.replace(b"data: [DONE]\n\n", b""), "[DONE]"),
        (RIGHT_STREAM + b"data: [DONE]\n\n", "second [DONE]"),
        (RIGHT_STREAM.replace(b'"finish_reason":"stop"', b'"finish_reason":null'), "finish_reason"),
        (RIGHT_STREAM.replace(b"chat.completion.chunk", b"chat.completion"), "no chunk"),
        (RIGHT_STREAM.replace(b"data: {", b"data: {{", 1), "no chunk"),
        (RIGHT_STREAM + b"data: {", "[DONE]"),
    ],
)
def test_wrong_stream_is_named(body: bytes, words: str) -> None:
    """Each way of being wrong is found and said."""
    assert words in (_check(body).problem or "")


def test_stream_of_another_length_is_wrong() -> None:
    """A gateway that drops chunks is not a fast one."""
    assert _check(RIGHT_STREAM, chunks=4).problem == "3 content chunks instead of 4"
    assert StreamCheck([]).find_problem(503, 4) == "status 503"
