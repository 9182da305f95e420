"""Writes a run's results as Markdown: to look at, and into a page between its two markers."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from loadtests.bench import scenarios
from loadtests.bench.gates import State, Verdict
from loadtests.bench.results import METRICS, Results
from loadtests.bench.systems import OURS, SYSTEMS

BEGIN = "<!-- bench:begin: written by the benchmark, not by hand -->"
END = "<!-- bench:end -->"

_NOT_MEASURED = "-"
_LINE_WIDTH = 110
_HIGHER_IS_BETTER = "small_rps"
_EXPLANATION = """\
CPU is the user and system time of the whole process tree, divided by the answers, each of which was
checked; one process of each system, pinned to one processor, upstream and load on another; medians
of interleaved rounds. Believe ratios within a run to about 10 %, absolute figures to about 20 %.
A burst is {burst} chunks written at once; its figure is the whole stream's time over its chunks.
A crowd is many slow streams at once, as many as the system keeps up with, measured while all of
them run: {crowds}. Added latency is the difference to asking the upstream directly. Latencies and
lags are taken at real-time priority unless noted. Cold start ends with the first right answer."""


class MarkersMissing(Exception):
    """The page to write into has no place for the results."""


def render(results: Results, verdicts: list[Verdict], *, machine: str, command: str) -> str:
    """Write the whole report."""
    parts = [
        f"Machine: {machine}. Command: `{command}`.",
        _explain(results),
        _figure_table(results),
        _ratio_table(results),
        _gate_table(verdicts),
        _notes(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def write_into(page: Path, report: str) -> None:
    """Put the report between the markers of a page; a page that is not there yet is made.

    Raises:
        MarkersMissing: The page exists without the two markers.
    """
    if not page.exists():
        page.write_text(f"# Performance\n\n{BEGIN}\n{END}\n", encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkersMissing(f"{page.name} needs the two lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{report}\n{END}{after}", encoding="utf-8")


def format_ratio(ratio: float) -> str:
    """Write a ratio so that a person sees who is ahead: ``1/25`` or ``x2.7``."""
    if ratio >= 1:
        return f"x{ratio:.3g}"
    return f"1/{1 / ratio:.3g}" if ratio > 0 else "0"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table, the first column to the left, the others to the right."""
    lines = [list(header), ["---", *(["--:"] * (len(header) - 1))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _explain(results: Results) -> str:
    crowds = ", ".join(
        f"{crowd.streams} of {1000 / crowd.interval_ms:g} chunks/s for {name}"
        for name, crowd in ((name, SYSTEMS[name].crowd) for name in results.versions)
    )
    text = _EXPLANATION.format(burst=scenarios.BURST_CHUNKS, crowds=crowds)
    return textwrap.fill(text, _LINE_WIDTH)


def _figure_table(results: Results) -> str:
    names = list(results.versions)
    header = ["", *(f"{SYSTEMS[name].title} {results.versions[name]}" for name in names)]
    rows = [
        [
            metric.title,
            *(_format(results.find_median(name, metric.name), metric.digits) for name in names),
        ]
        for metric in METRICS.values()
    ]
    return format_table(header, rows)


def _ratio_table(results: Results) -> str:
    """Compare ours with each other system; empty when there is nothing to compare."""
    peers = [name for name in results.versions if name != OURS]
    if OURS not in results.versions or not peers:
        return ""
    rows = []
    for metric in METRICS.values():
        if metric.name == _HIGHER_IS_BETTER:
            continue
        ratios = [results.find_ratio(metric.name, OURS, peer) for peer in peers]
        cells = [_NOT_MEASURED if ratio is None else format_ratio(ratio) for ratio in ratios]
        rows.append([metric.title, *cells])
    header = ["ours against", *(SYSTEMS[peer].title for peer in peers)]
    return format_table(header, rows)


def _gate_table(verdicts: list[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        gate = verdict.gate
        numbers: list[float | None] = [gate.limit, gate.stretch, verdict.value]
        state = (
            f"**{verdict.state.value}**" if verdict.state is State.FAILED else verdict.state.value
        )
        if gate.against:
            cells = [_NOT_MEASURED if value is None else format_ratio(value) for value in numbers]
        else:
            cells = [_format(value, METRICS[gate.metric].digits) for value in numbers]
        rows.append([gate.title, *cells, state])
    return format_table(["gate", "limit", "stretch", "measured", "verdict"], rows)


def _notes(results: Results) -> str:
    lines = [f"* {name} was not measured: {reason}" for name, reason in results.skipped.items()]
    for name, problems in results.problems.items():
        lines += [f"* {name}, no figure: {problem}" for problem in problems]
    lines += [f"* {remark}" for remark in results.remarks]
    return "\n".join(lines)


def _format(value: float | None, digits: int) -> str:
    return _NOT_MEASURED if value is None else f"{value:,.{digits}f}"
