"""The SSE codec: whatever way bytes are cut, the same events; nothing grows without end (T71)."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from gateway.kernel.errors import UpstreamInvalid
from gateway.kernel.sse import DONE, LINE_LIMIT_BYTES, SseParser, frame

NEWLINES = [b"\n", b"\r", b"\r\n"]
PIECES = [
    b"data: ", b"data:", b"data", b": comment", b"id: 7", b"event: ping", b"retry: 3000", b"x",
    b" ", "\u2028\u0085\x0b".encode(), "é€😀".encode(), b'{"a":1}', b"\n", b"\r", b"\r\n", b"\n\n",
]  # fmt: skip
text_of_a_line = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]))
streams = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)


def events_of(*blocks: bytes) -> list[bytes]:
    """Return all events of a stream that came in these blocks."""
    parser = SseParser()
    events = [event for block in blocks for event in parser.feed(block)]
    return events + parser.finish()


def outcome_of(*blocks: bytes) -> list[bytes] | str:
    """Return all events, or the code of the refusal."""
    try:
        return events_of(*blocks)
    except UpstreamInvalid as error:
        return error.code


def feed_all(parser: SseParser, blocks: Iterable[bytes]) -> None:
    """Feed block after block."""
    for block in blocks:
        parser.feed(block)


@st.composite
def valid_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a well-formed stream in one of its many spellings, with the events it means."""
    newline = draw(st.sampled_from(NEWLINES))
    stream, events = b"", []
    for lines in draw(st.lists(st.lists(text_of_a_line, min_size=1, max_size=3), max_size=5)):
        noise = draw(st.sampled_from([b"", b": ping" + newline, b"id: 3" + newline]))
        stream += noise
        for line in lines:
            stream += b"data: " + line.encode() + newline
        stream += newline
        events.append("\n".join(lines).encode())
    return stream, events


@pytest.mark.T(71)
@given(valid_streams(), st.data())
def test_any_cut_of_any_valid_stream_gives_the_same_events(
    drawn: tuple[bytes, list[bytes]], data: st.DataObject
):
    stream, events = drawn
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    bounds = [0, *cuts, len(stream)]

    blocks = [stream[a:b] for a, b in itertools.pairwise(bounds)]

    assert events_of(*blocks) == events


@pytest.mark.T(71)
@given(streams)
def test_garbage_is_cut_into_the_same_events_whole_and_byte_by_byte(stream: bytes):
    whole = events_of(stream)

    assert events_of(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@pytest.mark.T(71)
@given(valid_streams())
def test_the_official_client_reads_the_same_data(drawn: tuple[bytes, list[bytes]]):
    stream, events = drawn

    theirs = [event.data for event in SSEDecoder().iter_bytes(iter([stream]))]

    # Their decoder also reports events of which only the id is known, with no data.
    assert [data for data in theirs if data] == [event.decode() for event in events if event]


@pytest.mark.parametrize("newline", NEWLINES, ids=["LF", "CR", "CRLF"])
def test_a_stream_cut_at_every_byte_gives_the_same_events(newline: bytes):
    stream = newline.join(
        [b"data: one", b"", b"data:two", b"data: 2", b"", b": x", b"data: 3", b""]
    )
    stream += newline

    for cut in range(len(stream) + 1):
        assert events_of(stream[:cut], stream[cut:]) == [b"one", b"two\n2", b"3"], cut


@pytest.mark.parametrize("newline", NEWLINES, ids=["LF", "CR", "CRLF"])
def test_an_event_is_told_as_soon_as_its_blank_line_is_certain(newline: bytes):
    parser = SseParser()

    first = parser.feed(b"data: now" + newline + newline)

    # After a lone CR the parser must wait: the LF of a CRLF may follow.
    assert first == ([] if newline == b"\r" else [b"now"])
    assert parser.feed(b"data: next" + newline + newline)[:1] == (
        [b"now"] if newline == b"\r" else [b"next"]
    )


def test_the_space_after_the_colon_is_optional_and_only_one_is_removed():
    assert events_of(b"data:a\n\ndata: b\n\ndata:  c\n\n") == [b"a", b"b", b" c"]


def test_several_data_lines_are_one_event_joined_by_line_feeds():
    assert events_of(b"data: a\ndata:\ndata: b\ndata\n\n") == [b"a\n\nb\n"]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_cr_and_lf_end_a_line(separator: str):
    text = f'{{"text":"a{separator}b"}}'.encode()

    assert events_of(b"data: " + text + b"\n\n") == [text]


@pytest.mark.parametrize(
    "noise", [b": comment", b"id: 1", b"event: ping", b"retry: 3000", b"dat", b"database: x", b":"]
)
def test_everything_but_data_is_dropped(noise: bytes):
    assert events_of(noise + b"\n\n" + noise + b"\ndata: a\n" + noise + b"\n\n") == [b"a"]


def test_the_last_event_counts_without_its_blank_line():
    assert events_of(b"data: a\n\ndata: b") == [b"a", b"b"]
    assert events_of(b"data: a\n\ndata: b\r") == [b"a", b"b"]
    assert events_of(b"data: a\n\n") == [b"a"]


def test_what_we_write_is_what_we_read():
    assert events_of(frame(b'{"a":1}') + DONE) == [b'{"a":1}', b"[DONE]"]


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("newline", NEWLINES, ids=["LF", "CR", "CRLF"])
def test_a_line_of_one_mebibyte_passes_and_one_byte_more_does_not(newline: bytes, extra: int):
    line = b"data: " + b"x" * (LINE_LIMIT_BYTES - 6 + extra)
    end = newline * 2
    half = len(line) // 2

    outcomes = [
        outcome_of(line + end),
        outcome_of(line[:half], line[half:] + end),
        outcome_of(line, *(end[i : i + 1] for i in range(len(end)))),
        outcome_of(line + end[:1], end[1:]),
    ]

    assert outcomes == ["upstream_invalid_stream" if extra else [line[6:]]] * 4


@pytest.mark.parametrize(
    "line", [b"data: " + b"x" * 1000, b"data:", b"data"], ids=["long lines", "empty", "bare"]
)
def test_an_event_that_never_ends_is_refused_before_it_passes_one_mebibyte(line: bytes):
    block = (line + b"\n") * (65_536 // len(line))

    with pytest.raises(UpstreamInvalid, match="larger than 1048576 bytes"):
        feed_all(SseParser(), itertools.repeat(block, 2 * LINE_LIMIT_BYTES // len(block)))


def test_a_line_that_never_ends_is_refused():
    with pytest.raises(UpstreamInvalid):
        feed_all(SseParser(), itertools.repeat(b"x" * 65_536, 17))


def test_comments_without_end_are_read_for_ever_and_kept_nowhere():
    parser = SseParser()

    for _ in range(8):
        assert parser.feed(b": keepalive\n\n" * 5_000) == []

    assert parser.feed(b"data: a\n\n") == [b"a"]
