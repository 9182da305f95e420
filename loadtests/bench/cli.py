"""The command line: ``python -m loadtests.bench``."""

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from types import FrameType

from loadtests.bench import gates, machine, measure, report
from loadtests.bench.results import Results
from loadtests.bench.runner import Comparison, Options
from loadtests.bench.scenarios import FULL, QUICK
from loadtests.bench.systems import OURS, SYSTEMS, System
from loadtests.bench.workers import WorkerFailed

GATE_FAILED = 1
WRONG_USAGE = 2
NOTHING_MEASURED = 3
INTERRUPTED = 130

_OPEN_FILES = 16_384
_EPILOG = """\
examples:
  python -m loadtests.bench --quick                      all installed systems, in a minute
  python -m loadtests.bench --quick --only ours          while working on the hot path
  python -m loadtests.bench --gate                       full size; exit 1 when a gate fails
  python -m loadtests.bench --write docs/performance.md  put the tables into the page
  python -m loadtests.bench.peers                        install LiteLLM and Portkey

exit codes: 0 measured (and no gate failed), 1 a gate failed (--gate), 2 wrong usage,
3 nothing measured, 130 interrupted
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = _build_parser()
    chosen = parser.parse_args(arguments)
    systems = _read_systems(parser, chosen.only)
    options = Options(
        size=QUICK if chosen.quick else FULL,
        systems=systems,
        ours_env=_read_variables(parser, chosen.env),
        seed=chosen.seed,
        realtime=not chosen.no_realtime,
    )
    if not hasattr(os, "sched_getaffinity"):
        sys.stderr.write("the benchmark reads Linux's /proc: run it on Linux or in a container\n")
        return NOTHING_MEASURED
    machine_now = machine.describe()
    try:
        results = _measure(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except WorkerFailed as exc:
        sys.stderr.write(f"nothing measured: {exc}\n")
        return NOTHING_MEASURED
    return _publish(chosen, results, machine_now)


def _measure(options: Options) -> Results:
    signal.signal(signal.SIGTERM, _interrupt)
    _raise_open_files()
    processors = measure.find_processors()
    if processors is None:
        sys.stderr.write("only one processor: system and load share it, so latencies mean little\n")
    gateway, load = processors or (None, None)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, measure.pinned_to(load):
        return Comparison(options, Path(folder), gateway).run()


def _publish(chosen: argparse.Namespace, results: Results, machine_then: str) -> int:
    verdicts = gates.judge(results)
    size = " --quick" if chosen.quick else ""
    text = report.render(
        results,
        verdicts,
        machine=machine_then,
        command=f"python -m loadtests.bench{size}",
    )
    sys.stdout.write(text)
    if chosen.json:
        chosen.json.write_text(json.dumps(results.to_json(), indent=1) + "\n")
    if chosen.write:
        try:
            report.write_into(chosen.write, text)
        except report.MarkersMissing as exc:
            sys.stderr.write(f"{exc}\n")
            return WRONG_USAGE
    if not results.versions:
        return NOTHING_MEASURED
    if not chosen.gate:
        return 0
    if OURS not in results.versions:
        sys.stderr.write("no gate can be judged: ours was not measured\n")
        return NOTHING_MEASURED
    failed = any(verdict.state is gates.State.FAILED for verdict in verdicts)
    return GATE_FAILED if failed else 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description=(
            "Measure the processor time of gateways per request and per streamed chunk, side by"
            " side, against a fake upstream that answers at once. Progress goes to standard error,"
            " the report (Markdown) to standard output."
        ),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="under 60 s instead of under 10 min")
    parser.add_argument(
        "--only", metavar="NAMES", help=f"systems, with commas between; of {', '.join(SYSTEMS)}"
    )
    parser.add_argument(
        "--gate", action="store_true", help="exit 1 when a gate of the design fails"
    )
    parser.add_argument(
        "--write", metavar="PAGE", type=Path, help="write the report into this page"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every raw figure as JSON")
    parser.add_argument(
        "--env",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a further environment variable for ours; repeatable",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffled order (default 0)")
    parser.add_argument(
        "--no-realtime",
        action="store_true",
        help="leave the latency scenarios at ordinary priority (else real-time, where permitted)",
    )
    return parser


def _read_systems(parser: argparse.ArgumentParser, only: str | None) -> tuple[System, ...]:
    names = tuple(only.split(",")) if only else tuple(SYSTEMS)
    for name in names:
        if name not in SYSTEMS:
            parser.error(f"unknown system {name!r}; known: {', '.join(SYSTEMS)}")
    return tuple(SYSTEMS[name] for name in names)


def _read_variables(parser: argparse.ArgumentParser, pairs: list[str]) -> dict[str, str]:
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            parser.error(f"--env wants NAME=VALUE, not {pair!r}")
        variables[name] = value
    return variables


def _raise_open_files() -> None:
    """Let this process and its children open a socket for each stream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
