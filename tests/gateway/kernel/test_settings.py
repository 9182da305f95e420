"""Settings: typed, read from a mapping, every mistake told at once."""

from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from gateway.kernel.errors import SettingsError
from gateway.kernel.settings import Row, load, read_environ, refuse, setting, strange_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One field of each kind."""

    port: int = setting(8800, env="GATEWAY_PORT", least=1, most=65_535, help="Port of the API.")
    wait_s: float = setting(1.5, env="GATEWAY_WAIT", also=("OLD_WAIT",), unit="s", help="A wait.")
    workers: int | None = setting(None, env="GATEWAY_WORKERS", help="Processes.")
    open: bool = setting(False, env="GATEWAY_OPEN", help="A door.")
    origins: tuple[str, ...] = setting((), env="GATEWAY_ORIGINS", help="A list.")
    level: str = setting("INFO", env="GATEWAY_LEVEL", choices=("INFO", "ERROR"), help="A level.")
    token: str = setting("", env="GATEWAY_TOKEN", secret=True, help="A secret.")


def read(**environ: str) -> Sample:
    """Return the settings that these variables describe, and no mistakes."""
    problems: list[str] = []
    sample = load(Sample, environ, problems)
    assert problems == []
    return sample


def mistake(**environ: str) -> str:
    """Return the only mistake in these variables."""
    problems: list[str] = []
    load(Sample, environ, problems)
    [problem] = problems
    return problem


def test_without_variables_every_field_has_its_default():
    assert read() == Sample()


def test_values_are_converted_to_the_type_of_their_annotation():
    sample = read(
        GATEWAY_PORT="1", GATEWAY_WAIT="2", GATEWAY_WORKERS="3", GATEWAY_OPEN="Yes",
        GATEWAY_ORIGINS=" a , ,b ", GATEWAY_LEVEL="ERROR", GATEWAY_TOKEN=" secret ",
    )  # fmt: skip

    assert sample == Sample(
        port=1, wait_s=2.0, workers=3, open=True, origins=("a", "b"), level="ERROR", token="secret"
    )
    assert isinstance(sample.wait_s, float)


@pytest.mark.parametrize("text", ["ERROR", "error", "Error"])
def test_a_choice_is_taken_however_it_is_written(text: str):
    assert read(GATEWAY_LEVEL=text).level == "ERROR"


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_variable_means_unset(text: str):
    assert read(GATEWAY_PORT=text, GATEWAY_OPEN=text).port == 8800


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("ON", True), ("yes", True), ("0", False), ("No", False),
     ("off", False), ("FALSE", False)],
)  # fmt: skip
def test_booleans_have_the_usual_words(text: str, *, value: bool):
    assert read(GATEWAY_OPEN=text).open is value


def test_the_new_name_wins_over_the_old_one():
    assert read(OLD_WAIT="5").wait_s == 5
    assert read(OLD_WAIT="5", GATEWAY_WAIT="6").wait_s == 6


def test_all_mistakes_are_reported_at_once_each_with_its_help():
    problems: list[str] = []

    load(Sample, {"GATEWAY_PORT": "x", "GATEWAY_WAIT": "y", "GATEWAY_OPEN": "maybe"}, problems)

    assert problems == [
        "GATEWAY_PORT='x': must be a whole number. Port of the API.",
        "GATEWAY_WAIT='y': must be a number. A wait.",
        "GATEWAY_OPEN='maybe': must be true or false. A door.",
    ]
    with pytest.raises(SettingsError) as caught:
        refuse(problems)
    assert caught.value.message.splitlines() == problems


def test_no_mistakes_are_no_error():
    refuse([])


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"GATEWAY_PORT": "0"}, "must be at least 1"),
        ({"GATEWAY_PORT": "65536"}, "must be at most 65535"),
        ({"GATEWAY_PORT": "1" + "0" * 400}, "must be at most 65535"),
        ({"GATEWAY_PORT": "1.5"}, "must be a whole number"),
        ({"GATEWAY_PORT": "9" * 5000}, "must be a whole number"),
        ({"GATEWAY_WAIT": "nan"}, "must be a finite number"),
        ({"GATEWAY_WAIT": "1e400"}, "must be a finite number"),
        ({"GATEWAY_LEVEL": "EROR"}, "must be one of INFO, ERROR; did you mean ERROR?"),
        ({"GATEWAY_PORT": "tcp://10.0.0.1:8800"}, "enableServiceLinks: false"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(variables: dict[str, str], part: str):
    assert part in mistake(**variables)


def test_a_wrong_secret_is_never_repeated():
    @dataclass(frozen=True)
    class Secret:
        number: int = setting(0, env="PIN", secret=True, help="A number.")

    problems: list[str] = []
    load(Secret, {"PIN": "hunter2"}, problems)

    assert problems == ["PIN=********: must be a whole number. A number."]


def test_a_secret_is_read_from_its_file(tmp_path: Path):
    (tmp_path / "token").write_text(" s3cret\n", encoding="utf-8")

    assert read(GATEWAY_TOKEN_FILE=str(tmp_path / "token")).token == "s3cret"


def test_the_variable_wins_over_the_file(tmp_path: Path):
    assert read(GATEWAY_TOKEN="direct", GATEWAY_TOKEN_FILE=str(tmp_path / "none")).token == "direct"


def test_only_secrets_are_read_from_files(tmp_path: Path):
    (tmp_path / "port").write_text("1", encoding="utf-8")

    assert read(GATEWAY_PORT_FILE=str(tmp_path / "port")).port == 8800


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "it is not UTF-8")]
)
def test_a_secret_file_that_cannot_be_read_is_one_mistake(
    tmp_path: Path, content: bytes | None, reason: str
):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    assert f"GATEWAY_TOKEN_FILE={path}: cannot be read ({reason}" in mistake(
        GATEWAY_TOKEN_FILE=str(path)
    )


def test_rows_tell_value_and_source_of_every_setting():
    rows: list[Row] = []

    load(Sample, {"OLD_WAIT": "5", "GATEWAY_TOKEN": "hush"}, [], rows)

    found = {row.env: (row.value, row.source) for row in rows}
    assert len(rows) == len(fields(Sample))
    assert found["GATEWAY_WAIT"] == (5.0, "OLD_WAIT")
    assert found["GATEWAY_PORT"] == (8800, "default")
    assert found["GATEWAY_TOKEN"] == ("hush", "GATEWAY_TOKEN")


def test_rows_print_secrets_starred_and_everything_else_plainly():
    rows: list[Row] = []

    load(Sample, {"GATEWAY_TOKEN": "hush", "GATEWAY_ORIGINS": "a,b"}, [], rows)

    shown = {row.env: row.shown() for row in rows}
    assert shown["GATEWAY_TOKEN"] == "********"
    assert shown["GATEWAY_ORIGINS"] == "a,b"
    assert shown["GATEWAY_OPEN"] == "false"
    assert Row("x", "X", (), "", "", "", secret=True, choices=(), value="").shown() == ""


def test_a_name_that_nothing_reads_is_reported_with_the_nearest_one():
    known = ["GATEWAY_PORT", "GATEWAY_TOKEN", "GATEWAY_TOKEN_FILE"]
    environ = {
        "GATEWAY_PROT": "1",
        "GATEWAY_QQQQQQQQQQQQ": "",
        "GATEWAY_TOKEN_FILE": "",
        "PATH": "",
    }

    assert strange_names(environ, known) == [
        "GATEWAY_PROT is not a setting; did you mean GATEWAY_PORT?",
        "GATEWAY_QQQQQQQQQQQQ is not a setting",
    ]


def test_names_that_kubernetes_injects_are_no_typos():
    environ = {"GATEWAY_SERVICE_HOST": "", "GATEWAY_PORT_8800_TCP": "", "GATEWAY_SERVICE_PORT": ""}

    assert strange_names(environ, ["GATEWAY_PORT"]) == []


DOTENV = """\
# a comment, with = in it
export GATEWAY_HOST=0.0.0.0
GATEWAY_PORT = 9000   # behind a comment
OLLAMA_BASE_URL=      # nothing
GATEWAY_TOKEN="with # and spaces "
API_KEYS='quoted'  # and a comment
HASH=a#b
START=#c

MLX_BASE_URL="open
"""


def test_a_dotenv_file_is_read_as_people_write_it(tmp_path: Path):
    (tmp_path / ".env").write_text(DOTENV, encoding="utf-8")

    values = read_environ(tmp_path / ".env")

    assert values["GATEWAY_HOST"] == "0.0.0.0"
    assert values["GATEWAY_PORT"] == "9000"
    assert values["OLLAMA_BASE_URL"] == ""
    assert values["GATEWAY_TOKEN"] == "with # and spaces "
    assert values["API_KEYS"] == "quoted"
    assert values["HASH"] == "a#b"
    assert values["START"] == "#c"
    assert values["MLX_BASE_URL"] == '"open'
    assert not any("comment" in name or not name.strip() for name in values)


@pytest.mark.parametrize("line", ["GATEWAY_PORT 9000", "export", "no line of ours"])
def test_a_line_that_is_no_setting_is_refused_by_its_place_and_not_repeated(
    tmp_path: Path, line: str
):
    """A setting that was mistyped must not be a silent default; the line may hold a secret."""
    path = tmp_path / ".env"
    path.write_text(f"# ours\n\nGATEWAY_HOST=::1\n{line}\n", encoding="utf-8")

    with pytest.raises(SettingsError) as caught:
        read_environ(path)

    assert caught.value.message == f"{path}, line 4: not of the form NAME=value"


def test_the_environment_wins_over_the_dotenv_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / ".env").write_text("GATEWAY_PORT=1\nGATEWAY_HOST=file\n", encoding="utf-8")
    monkeypatch.setenv("GATEWAY_PORT", "2")

    values = read_environ(tmp_path / ".env")

    assert (values["GATEWAY_PORT"], values["GATEWAY_HOST"]) == ("2", "file")


def test_without_a_dotenv_file_the_environment_is_all(tmp_path: Path):
    assert read_environ(tmp_path / ".env") == read_environ()


def test_bytes_of_another_encoding_reach_the_server_unchanged(tmp_path: Path):
    (tmp_path / ".env").write_bytes(b"API_KEYS=gr\xfcn\n")

    assert read_environ(tmp_path / ".env")["API_KEYS"].encode(errors="surrogateescape") == (
        b"gr\xfcn"
    )
