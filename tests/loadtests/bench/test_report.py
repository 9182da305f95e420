"""Tests of the Markdown."""

from pathlib import Path

import pytest

from loadtests.bench import gates, report
from loadtests.bench.results import Results


@pytest.fixture
def results() -> Results:
    """Two systems, one of them skipped, one figure missing."""
    found = Results(
        versions={"ours": "1.0", "nginx": "1.22"}, skipped={"litellm": "install it with: make x"}
    )
    found.add("ours", "small_us", 0, 250.0)
    found.add("nginx", "small_us", 0, 20.0)
    found.add("ours", "cold_start_s", 0, 2.0)
    found.problems["nginx"].append("burst: status 502")
    return found


def _render(results: Results) -> str:
    return report.render(results, gates.judge(results), machine="2 x X", command="bench --quick")


def test_report_shows_figures_ratios_gates_and_notes(results: Results) -> None:
    """Everything a reader needs to judge the run is on the page."""
    text = _render(results)
    assert "Machine: 2 x X. Command: `bench --quick`." in text
    assert "|  | Nexus Gateway 1.0 | nginx proxy_pass 1.22 |" in text
    assert "| CPU \N{MICRO SIGN}s/request, small | 250 | 20 |" in text
    assert "| CPU \N{MICRO SIGN}s/request, small | x12.5 |" in text
    assert "| CPU \N{MICRO SIGN}s/request, small | 350 | 180 | 250 | passed |" in text
    assert "| cold start, s | 1.50 | 0.60 | 2.00 | **FAILED** |" in text
    assert "against litellm | 1/18 | 1/35 | - | not measured |" in text
    assert "* litellm was not measured: install it with: make x" in text
    assert "* nginx, no figure: burst: status 502" in text


def test_all_rows_of_a_table_are_as_wide(results: Results) -> None:
    """A Markdown table with a missing cell is drawn wrongly."""
    tables = [part for part in _render(results).split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.04, "1/25"), (0.5, "1/2"), (1.0, "x1"), (2.714, "x2.71"), (0.0, "0")]
)
def test_ratio_says_who_is_ahead(ratio: float, text: str) -> None:
    """Below one as a fraction of the other, above as a multiple."""
    assert report.format_ratio(ratio) == text


def test_page_keeps_what_is_outside_the_markers(tmp_path: Path) -> None:
    """Writing twice leaves one report."""
    page = tmp_path / "performance.md"
    page.write_text(f"# Speed\n\nwords\n\n{report.BEGIN}\nold\n{report.END}\n\nmore words\n")
    report.write_into(page, "first\n")
    report.write_into(page, "second\n")
    assert page.read_text() == (
        f"# Speed\n\nwords\n\n{report.BEGIN}\n\nsecond\n\n{report.END}\n\nmore words\n"
    )


def test_missing_page_is_made(tmp_path: Path) -> None:
    """The first run needs no preparation."""
    page = tmp_path / "performance.md"
    report.write_into(page, "text\n")
    assert "\ntext\n" in page.read_text()


def test_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    """Nothing is written over by accident."""
    page = tmp_path / "performance.md"
    page.write_text("# Speed\n")
    with pytest.raises(report.MarkersMissing):
        report.write_into(page, "text\n")
    assert page.read_text() == "# Speed\n"
