"""The log: one JSON line an event, made of harmless fields only."""

import os
from collections.abc import Callable
from datetime import datetime

import orjson
import pytest

from gateway.kernel.logs import FIELDS, LEVELS, Log

SECRET = "sk-canary-1234567890"


class Sink(list[bytes]):
    """Collects lines."""

    def only(self) -> dict[str, object]:
        """Return the one record that was written."""
        [line] = self
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        record: dict[str, object] = orjson.loads(line)
        return record


@pytest.fixture
def sink() -> Sink:
    """Every line of the test's log."""
    return Sink()


@pytest.fixture
def log(sink: Sink) -> Log:
    """A log that writes everything."""
    return Log("DEBUG", sink.append)


def test_a_line_has_time_level_event_and_fields(log: Log, sink: Sink):
    log.info("upstream answers", upstream="ollama", models=3)

    record = sink.only()
    moment = datetime.fromisoformat(str(record.pop("timestamp")))
    assert moment.tzinfo is not None
    assert record == {
        "level": "INFO", "event": "upstream answers", "upstream": "ollama", "models": 3,
    }  # fmt: skip


def test_a_field_that_was_not_declared_is_dropped(log: Log, sink: Sink):
    log.warning("odd", api_key=SECRET, authorization=SECRET, prompt=SECRET, status=200)

    assert SECRET.encode() not in sink[0]
    assert sink.only()["status"] == 200


def test_no_declared_field_is_made_for_secrets_or_texts():
    assert not FIELDS & {"api_key", "key", "token", "authorization", "prompt", "body", "message"}


def test_a_field_without_a_value_is_left_out(log: Log, sink: Sink):
    log.info("request", backend=None, status=0)

    assert "backend" not in sink.only()
    assert sink.only()["status"] == 0


def test_an_exception_is_told_by_type_and_place_but_never_by_its_text(log: Log, sink: Sink):
    try:
        raise RuntimeError(f"could not send {SECRET}")
    except RuntimeError as error:
        log.error("unexpected error", error)  # noqa: PLE1205, TRY400  # our own Log

    told = str(sink.only()["exception"])
    assert told.startswith("RuntimeError < test_logs.py:")
    assert "test_an_exception_is_told" in told
    assert SECRET.encode() not in sink[0]


def test_an_error_without_an_exception_is_a_line_too(log: Log, sink: Sink):
    log.error("broken", reason="x")

    assert sink.only()["level"] == "ERROR"
    assert "exception" not in sink.only()


@pytest.mark.T(54)
@pytest.mark.parametrize("text", ["a\nb", "a\r\n{}", "\x1b[31mred", "\u2028", "\x00"])
def test_line_breaks_and_escapes_in_a_field_stay_inside_one_line(log: Log, sink: Sink, text: str):
    log.info("request", model=text)

    assert sink.only()["model"] == text
    assert b"\x1b" not in sink[0]
    assert b"\r" not in sink[0]


@pytest.mark.parametrize("value", ["half \ud800", 2**70, object()], ids=["surrogate", "big", "any"])
def test_no_value_can_make_logging_fail(log: Log, sink: Sink, value: object):
    log.info("request", model=value, status=200)

    assert sink.only()["status"] == 200


@pytest.mark.parametrize("level", LEVELS)
def test_events_below_the_level_are_not_written(sink: Sink, level: str):
    log = Log(level, sink.append)
    calls: dict[str, Callable[..., None]] = {
        "INFO": log.info, "WARNING": log.warning, "ERROR": log.error,
    }  # fmt: skip

    for call in calls.values():
        call("event")

    wanted = [name for name in calls if LEVELS[name] >= LEVELS[level]]
    assert [orjson.loads(line)["level"] for line in sink] == wanted


def test_by_default_lines_go_to_standard_output(capfd: pytest.CaptureFixture[str]):
    Log().info("started", port=8800)

    assert orjson.loads(capfd.readouterr().out)["port"] == 8800


def test_a_closed_output_does_not_fail_the_request(capfd: pytest.CaptureFixture[str]):
    """The real sink writes to descriptor 1; here it is a pipe that nobody reads any more."""
    kept = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    os.close(writer)
    try:
        Log().info("started")
    finally:
        os.dup2(kept, 1)
        os.close(kept)

    Log().info("after")
    assert orjson.loads(capfd.readouterr().out)["event"] == "after"
