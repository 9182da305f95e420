"""The documents say what the code says, and nothing else."""

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from flask import Flask

from docs.generate import DOCUMENTS, EXAMPLES, ROOT, main, precise_codes
from gateway.kernel import errors
from gateway.kernel.errors import GatewayError, SettingsError, UpstreamRejected
from gateway.kernel.logs import FIELDS
from gateway.kernel.settings import Row
from gateway.settings import ROOMS, read_settings
from gateway.usage.metrics import Metrics
from tests.gateway.backends.certificates import make_certificates

GENERATED = {ROOT / name for name in DOCUMENTS}
PAGES = sorted(
    {*ROOT.glob("docs/**/*.md"), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"} - GENERATED
)
"""Written by hand."""
ADDED_BY_EXAMPLES = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def first_cells(text: str) -> list[list[str]]:
    """Return the cells of every table row below a heading line, without backticks."""
    rows = [line.strip("| \n").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in row] for row in rows if set(row[0]) != {"-"}]


def settings_declared() -> dict[str, tuple[str, ...]]:
    """Return every setting and its older names, from the dataclasses themselves."""
    metas = [field.metadata["setting"] for room in ROOMS for field in dataclasses.fields(room)]
    return {meta["env"]: meta["also"] for meta in metas}


def rows() -> dict[str, Row]:
    return {row.env: row for row in read_settings({}).rows}


def uncommented() -> dict[str, str]:
    """Return what ``.env.example`` sets once every line of it is switched on."""
    return dict(re.findall(r"^#([A-Z][A-Z0-9_]*)=(.*)$", read(".env.example"), re.MULTILINE))


def switched_on(folder: Path) -> dict[str, str]:
    """Return the same, with files that exist here where the example names some of its own."""
    make_certificates(folder)
    client = f"{folder / 'client.pem'},{folder / 'client.key'}"
    return uncommented() | {
        "BACKEND_CA_BUNDLE": str(folder / "ca.pem"), "BACKEND_CLIENT_CERT": client,
    }  # fmt: skip


# -- the generated ones --------------------------------------------------------------------------


def test_every_generated_document_says_what_the_code_says(capsys):
    exit_code = main(["--check"])

    assert (exit_code, capsys.readouterr().err) == (0, "")


def test_check_names_the_document_that_differs_and_leaves_it_alone(tmp_path, capsys):
    main([], root=tmp_path)
    page = tmp_path / "docs/metrics.md"
    page.write_text("# Metrics\n", encoding="utf-8")
    capsys.readouterr()

    exit_code = main(["--check"], root=tmp_path)

    assert exit_code == 1
    assert capsys.readouterr().err == "docs/metrics.md differs from the code; run: make docs\n"
    assert page.read_text(encoding="utf-8") == "# Metrics\n"


def test_check_names_every_document_that_is_missing(tmp_path, capsys):
    exit_code = main(["--check"], root=tmp_path)

    assert exit_code == 1
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == list(DOCUMENTS)


def test_generated_documents_are_written_once_and_are_then_up_to_date(tmp_path, capsys):
    main([], root=tmp_path)
    first = capsys.readouterr().err

    main([], root=tmp_path)

    assert first.count(" written\n") == len(DOCUMENTS)
    assert capsys.readouterr().err == ""
    assert main(["--check"], root=tmp_path) == 0


def test_settings_page_has_every_setting_and_nothing_else():
    documented = [(row[0], row[1]) for row in first_cells(read("docs/settings.md"))]

    named = [(env, older.replace("`", "")) for env, older in documented if env != "name"]

    assert named == [(env, ", ".join(also)) for env, also in settings_declared().items()]


def test_settings_page_marks_exactly_the_secrets():
    cells = first_cells(read("docs/settings.md"))

    marked = {row[0] for row in cells if row[-1].endswith("**Secret.**")}

    assert marked == {row.env for row in rows().values() if row.secret}


def test_env_example_has_every_setting_once_and_nothing_else():
    named = re.findall(r"^#([A-Z][A-Z0-9_]*)=", read(".env.example"), re.MULTILINE)

    assert named == list(settings_declared())


def test_env_example_sets_nothing_until_it_is_edited():
    active = [line for line in read(".env.example").splitlines() if line and line[0] != "#"]

    assert active == []


def test_env_example_with_every_line_switched_on_is_a_configuration_without_a_mistake(tmp_path):
    settings = read_settings(switched_on(tmp_path))

    assert settings.warnings == ()
    assert [upstream.name for upstream in settings.upstreams] == ["llama", "mock", "ollama", "mlx"]


def test_env_example_shows_the_defaults_except_for_the_examples(tmp_path):
    read_back = {row.env: row.value for row in read_settings(switched_on(tmp_path)).rows}

    differing = {name for name, row in rows().items() if read_back[name] != row.default}

    assert differing == set(EXAMPLES)


def test_env_example_gives_no_secret_a_value_that_could_be_left_in_place():
    assert {
        name: uncommented()[name]
        for name, row in rows().items()
        if row.secret and uncommented()[name]
    } == {}


def test_errors_page_has_every_error_with_what_clients_see_and_nothing_else():
    documented = {
        row[0]: tuple(row[2:7]) for row in first_cells(read("docs/errors.md")) if len(row) == 8
    }
    classes = {
        name: cls for name, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, GatewayError)
    }  # fmt: skip

    retry = {None: "", True: "true", False: "false"}
    seen = {
        name: (
            str(cls.status), cls.code, cls.type, retry[cls.should_retry],
            "yes" if cls.falls_back else "",
        )
        for name, cls in classes.items()
    }  # fmt: skip
    seen["UpstreamRejected"] = ("theirs", *seen["UpstreamRejected"][1:])
    seen["SettingsError"] = ("start-up only, exit 2", *seen["SettingsError"][1:])

    assert {name: cells for name, cells in documented.items() if name != "class"} == seen


def test_the_drawing_at_the_top_of_the_errors_shows_every_class_as_it_is():
    drawn = {}
    for line in inspect.getdoc(errors).splitlines():
        found = re.match(r"[├└│─ ]*([A-Z]\w+) {2,}(.+)", line)
        if found:
            drawn[found[1]] = " ".join(found[2].split())

    declared = {
        cls.__name__: f"{cls.status} {cls.code}" + (" (falls back)" if cls.falls_back else "")
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, GatewayError)
    }
    declared[UpstreamRejected.__name__] = "their 4xx, passed through"
    declared[SettingsError.__name__] = "start-up only, exit code 2"

    assert drawn == declared


def test_errors_page_has_the_codes_that_are_more_precise_than_a_class():
    """Checked against two ways of raising: one with a fixed message, one with a composed one."""
    codes = {code: (cls, said) for code, cls, said in precise_codes()}

    assert codes["duplicate_field"][0] == "InvalidRequest"
    assert codes["upstream_stalled"] == ("UpstreamTimeout", "The upstream was silent for … s.")


def test_endpoints_page_has_every_route_and_nothing_else(app: Flask):
    documented = {
        (row[0], row[1]) for row in first_cells(read("docs/endpoints.md")) if row[0] != "method"
    }

    served = {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }

    assert documented == served


def test_endpoints_page_tells_rightly_what_answers_without_a_key_on_either_port(client):
    for method, path, scope, _, ports, _ in first_cells(read("docs/endpoints.md"))[1:]:
        for port in ("8800", "8801"):
            answer = client.open(
                path.replace("<path:model>", "mock"),
                method=method, environ_overrides={"SERVER_PORT": port},
            )  # fmt: skip

            expected = ({200} if scope == "none" else {401}) if port == "8800" else {200}
            assert answer.status_code in (expected if port in ports else {404}), (
                method,
                path,
                port,
            )


def test_metrics_page_has_every_metric_of_a_scrape_and_nothing_else():
    documented = {
        (row[0], row[1]) for row in first_cells(read("docs/metrics.md")) if row[0] != "name"
    }

    scraped = re.findall(r"^# TYPE (\w+) (\w+)$", Metrics().text().decode(), re.MULTILINE)

    assert documented == {pair for pair in scraped if not pair[0].endswith("_created")}


# -- those written by hand -----------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
class TestPage:
    def test_every_link_leads_to_a_file(self, page: Path):
        links = re.findall(
            r"\]\((?!https?://)([^)#]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")
        )

        broken = [link for link, _ in links if link and not (page.parent / link).exists()]

        assert broken == []

    def test_every_file_that_is_named_exists(self, page: Path):
        text = ADDED_BY_EXAMPLES.sub("", page.read_text(encoding="utf-8"))
        named = re.findall(r"`((?:gateway|tests|docs|loadtests)/[\w./]*)`", text)

        missing = [name for name in named if not (ROOT / name).exists()]

        assert missing == []

    def test_every_setting_that_is_named_exists(self, page: Path):
        text = ADDED_BY_EXAMPLES.sub("", page.read_text(encoding="utf-8"))
        names = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", text))
        known = set(settings_declared())
        known |= {older for also in settings_declared().values() for older in also}
        known |= {f"{row.env}_FILE" for row in rows().values() if row.secret}

        ours = {
            name for name in names if name.startswith(("GATEWAY_", "OBSERVABILITY_", "BACKEND_"))
        }

        assert ours <= known

    def test_every_make_target_that_is_named_exists(self, page: Path):
        targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))

        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))

        assert named <= targets


def test_operations_names_only_error_codes_that_exist():
    named = set(
        re.findall(r"`((?:upstream|server|client|no|model)_[a-z_]+)`", read("docs/operations.md"))
    )
    known = {
        cls.code
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, GatewayError)
    }
    known |= {code for code, _, _ in precise_codes()}

    assert named - FIELDS
    assert named - FIELDS <= known


def test_operations_explains_every_log_field_and_level_and_nothing_else():
    section = read("docs/operations.md").partition("## Logs")[2].partition("\n## ")[0]
    named = {name for row in first_cells(section) for name in re.findall(r"\w+", row[0])}

    always = {"timestamp", "level", "event", "pid"}
    assert named - {"field"} == FIELDS | always | {"INFO", "WARNING", "ERROR"}


def test_architecture_shows_the_layers_that_the_import_contracts_hold():
    block = read("docs/architecture.md").partition("```text\n")[2].partition("```")[0]
    drawn = [re.split(r"  +", line.strip())[0] for line in block.splitlines()]
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")

    shown = [name for line in drawn for name in re.findall(r"\w+", line)]

    assert ["__main__", *shown] == [name for line in layers for name in re.findall(r"\w+", line)]
