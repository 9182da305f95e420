"""Tests of the canned answers: they conform, or gateways would be measured repairing them."""

import json

from loadtests.bench import canned
from loadtests.bench.wire import EventReader, ReplyReader


def _events(script: bytes) -> list[str]:
    reader = ReplyReader()
    body = reader.feed(script)
    assert reader.complete
    return [data.decode() for data in EventReader().feed(body)]


def test_completion_is_a_whole_http_reply() -> None:
    """The finished answer has text, a finish reason and usage."""
    reader = ReplyReader()
    body = json.loads(reader.feed(canned.completion("bench")))
    assert (reader.status, reader.complete) == (200, True)
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"] == canned.REPLY_TEXT
    assert body["usage"]["total_tokens"] == 19


def test_stream_has_role_content_finish_and_done_in_this_order() -> None:
    """One role delta first, one finish with an empty delta, [DONE] last, the same id throughout."""
    *chunks, done = _events(canned.stream_script("bench", 3, with_usage=False).at_once(7))
    parsed = [json.loads(chunk) for chunk in chunks]
    choices = [chunk["choices"][0] for chunk in parsed]
    assert done == "[DONE]"
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [choice["delta"]["content"] for choice in choices[1:4]] == [
        f"{number:05d}@{7:019d} " for number in range(3)
    ]
    assert (choices[4]["delta"], choices[4]["finish_reason"]) == ({}, "stop")
    assert len({chunk["id"] for chunk in parsed}) == 1
    assert {chunk["object"] for chunk in parsed} == {"chat.completion.chunk"}


def test_usage_chunk_comes_last_and_only_when_asked() -> None:
    """The usage chunk has no choices and stands before [DONE]."""
    *_, usage, _ = _events(canned.stream_script("bench", 1, with_usage=True).at_once(7))
    *_, last, _ = _events(canned.stream_script("bench", 1, with_usage=False).at_once(7))
    assert json.loads(usage)["choices"] == []
    assert json.loads(usage)["usage"] == canned.USAGE
    assert "usage" not in json.loads(last)
