"""The log: one JSON line an event, made of harmless fields only."""

import fcntl
import os
import select
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import orjson
import pytest

from gateway.kernel.logs import FIELDS, LEVELS, Log, Outlet

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
    assert record.pop("pid") == os.getpid()
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
    Log().info("worker started", version="1.0")

    assert orjson.loads(capfd.readouterr().out)["version"] == "1.0"


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


# --- the way out ---------------------------------------------------------------------------------

LINE = b'{"event":"request","filler":"' + b"x" * 400 + b'"}\n'
SMALL_PIPE_BYTES = 4096
F_SETPIPE_SZ = 1031
MANY = 100


class Pipe:
    """A pipe of a few lines, and whoever reads it or does not."""

    def __init__(self, reader: int, writer: int) -> None:
        self.reader, self.writer = reader, writer

    def read(self) -> list[bytes]:
        """Return the lines that lie in it."""
        text = b""
        while select.select([self.reader], [], [], 0)[0]:
            block = os.read(self.reader, 65_536)
            if not block:
                break
            text += block
        assert text.endswith(b"\n"), "no line is cut"
        return text.splitlines()


@pytest.fixture(params=["pipe", "socket"])
def pipe(request: pytest.FixtureRequest) -> Iterator[Pipe]:
    """What a service manager or a container runtime puts behind standard output."""
    if request.param == "pipe":
        reader, writer = os.pipe()
        fcntl.fcntl(writer, F_SETPIPE_SZ, SMALL_PIPE_BYTES)
    else:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_PIPE_BYTES)
        reader, writer = one.detach(), other.detach()
    yield Pipe(reader, writer)
    os.close(reader)
    os.close(writer)


def test_a_reader_that_has_stopped_holds_nobody_and_its_lost_lines_are_counted(pipe: Pipe):
    """A plain write would wait for ever here, and the test with it."""
    outlet = Outlet(pipe.writer)

    for _ in range(MANY):
        outlet(LINE)

    arrived = pipe.read()
    assert 0 < len(arrived) < MANY
    assert set(arrived) == {LINE.rstrip()}
    assert outlet.dropped == MANY - len(arrived)


def test_once_the_reader_goes_on_one_line_tells_how_many_were_lost(pipe: Pipe):
    outlet = Outlet(pipe.writer)
    for _ in range(MANY):
        outlet(LINE)
    lost = MANY - len(pipe.read())

    outlet(b'{"event":"one"}\n')
    outlet(b'{"event":"two"}\n')

    told, one, two = (orjson.loads(line) for line in pipe.read())
    assert datetime.fromisoformat(told.pop("timestamp")).tzinfo is not None
    assert told == {"level": "ERROR", "event": "log lines dropped", "count": lost}
    assert (one, two) == ({"event": "one"}, {"event": "two"})
    assert outlet.dropped == 0


def test_lines_lost_while_the_loss_could_not_be_told_are_counted_too(pipe: Pipe):
    outlet = Outlet(pipe.writer)
    for _ in range(2 * MANY):
        outlet(LINE)
    first_loss = outlet.dropped
    outlet(LINE)

    assert outlet.dropped == first_loss + 1


def test_whoever_shares_the_pipe_keeps_waiting_as_before():
    """Otherwise a shell's other programs in the same pipe would fail with EAGAIN."""
    reader, writer = os.pipe()
    try:
        Outlet(writer)(LINE)

        assert os.get_blocking(writer) is True
    finally:
        os.close(reader)
        os.close(writer)


def test_a_file_gets_every_line_whole(tmp_path: Path):
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    outlet = Outlet(descriptor)

    for _ in range(MANY):
        outlet(LINE)
    os.close(descriptor)

    assert path.read_bytes() == LINE * MANY
    assert outlet.dropped == 0


def test_a_pipe_whose_reader_left_fails_nobody():
    reader, writer = os.pipe()
    outlet = Outlet(writer)
    outlet(LINE)
    os.close(reader)

    outlet(LINE)
    outlet(LINE)

    os.close(writer)
    assert outlet.dropped == 0, "there is nobody left to be told"


def test_an_output_that_was_never_open_fails_nobody():
    """Started with ``>&-``."""
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)

    Log(sink=Outlet(writer)).info("started")


def test_the_default_log_of_a_stalled_standard_output_makes_nobody_wait(
    capfd: pytest.CaptureFixture[str],
):
    kept = os.dup(1)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, SMALL_PIPE_BYTES)
    os.dup2(writer, 1)
    try:
        log = Log()
        for _ in range(MANY):
            log.info("request", model="m" * 400)
    finally:
        os.dup2(kept, 1)
        for descriptor in (kept, reader, writer):
            os.close(descriptor)

    assert capfd.readouterr().out == ""
