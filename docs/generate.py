"""Writes the documents that are made from the code's own declarations; ``--check`` only compares.

``make docs`` writes them, ``make check`` fails while one of them says something else than the code.
"""

import argparse
import ast
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from gateway.app import create_app
from gateway.cli import WRONG_SETTINGS
from gateway.kernel import errors
from gateway.kernel.errors import GatewayError, SettingsError
from gateway.kernel.settings import Row
from gateway.routing.upstreams import MLX_URL, OLLAMA_URL
from gateway.settings import ROOMS, read_settings
from gateway.usage.metrics import TABLE
from gateway.web.endpoint import PUBLIC, endpoints_of

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES: Mapping[str, str] = MappingProxyType({
    "WEB_CONCURRENCY": "4",
    "ALLOWED_ORIGINS": "https://chat.example.org",
    "GATEWAY_UPSTREAMS": "llama=http://localhost:8001;mock=mock://local",
    "GATEWAY_DEFAULT_UPSTREAM": "ollama",
    "OLLAMA_BASE_URL": OLLAMA_URL,
    "MLX_BASE_URL": MLX_URL,
    "BACKEND_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt",
    "BACKEND_CLIENT_CERT": "/run/secrets/client.crt,/run/secrets/client.key",
})  # fmt: skip
"""What ``.env.example`` shows for settings that are unset by default; secrets get no example."""

_MADE = "<!-- Made by `make docs` from the code's declarations: change those, not this page. -->"
_SETTINGS = """\
Settings come from the environment. `python -m gateway` also reads a file `.env` in the working
directory, and the environment wins over it. `python -m gateway config` prints each setting, its
value and where that came from; `config --check` only checks, and exits 2 if there is a mistake.

A **secret** is starred wherever it is printed, and `<name>_FILE` may name a file to read it from.
Lists are separated by commas. An older name is read when the name itself is not set.
"""
_ENV = """\
# Made by `make docs` from the code's declarations: change those, not this file.
#
# Copy it to .env and take the '#' off what you want to change. `python -m gateway` reads .env
# from the working directory; the environment wins. Shown are the defaults, or an example where
# there is none. docs/settings.md says the same as a table.
"""
_ERRORS = """\
Every failure has one body, on every route and inside streams:

```json
{"error": {"message": "…", "type": "…", "param": null, "code": "…", "request_id": "…"}}
```

`details` is added where there is more to say, such as the attempts that were made. Match on
`code`, which is stable; the message is for people. The request id is also in the `x-request-id`
header and in the log.

`x-should-retry: false` tells OpenAI's clients not to send the request again; where the column is
empty the header is left out and the client's own rules decide. *Falls back* means that the next
target is tried as long as the client has seen no content.
"""
_CODES = """\
## More precise codes

Where a class covers several cases, `code` tells which one it was:
"""
_CODES_END = """\
Refusals by the HTTP parser (`invalid_http`) keep their own status: 400, 414, 417, 431 or 501.
An upstream's own code is passed on with `UpstreamRejected` when it has one.
"""
_ENDPOINTS = """\
The API is on `GATEWAY_PORT` ({api}); metrics and health are also on `OBSERVABILITY_PORT`
({observability}), where no credential is asked for. Send a key as `Authorization: Bearer <key>`
or `X-API-Key: <key>`; it must hold the scope named here.
"""
_ENDPOINTS_END = """\
`X-Backend: <upstream>` picks the upstream. Answers of models tell in `X-Backend-Used`,
`X-Model-Used` and `X-Router-Reason` who answered and why; every answer has an `x-request-id`.
"""
_METRICS = """\
`GET /metrics` answers in Prometheus' text format, summed over all workers. Label values come
from closed sets, so callers cannot add series: `path` is the route's template, `upstream` a
configured name, `status` an HTTP status or, for an attempt, `success` or an error code.
"""
_METRICS_END = """\
A histogram has `_bucket`, `_sum` and `_count` series.
"""
_RULE_WIDTH = 79


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(*words: str) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _page(title: str, *parts: str) -> str:
    return "\n".join([f"{_MADE}\n", f"# {title}\n", *parts])


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0]


# -- settings ------------------------------------------------------------------------------------


def settings_page() -> str:
    """Return docs/settings.md: a table for each room."""
    parts = [_SETTINGS]
    head = ("name", "older names", "default", "unit", "what it does")
    for room, about, rows in _rooms():
        lines = [
            (_code(row.env), _code(*row.also), _default(row), row.unit, _help(row)) for row in rows
        ]
        parts += [f"## {room}\n", f"{about}\n", table(head, lines)]
    return _page("Settings", *parts)


def _rooms() -> Iterator[tuple[str, str, list[Row]]]:
    rows = read_settings({}).rows
    for room in ROOMS:
        name = room.__module__.split(".")[1]
        yield name, _first_line(room), [row for row in rows if row.room == name]


def _text(row: Row) -> str:
    return f"{row.value:g}" if isinstance(row.value, float) else row.shown()


def _default(row: Row) -> str:
    return _code(_text(row)) if _text(row) else "unset"


def _help(row: Row) -> str:
    choices = f" One of {_code(*row.choices)}." if row.choices else ""
    return f"{row.help}{choices}{' **Secret.**' if row.secret else ''}"


def env_example() -> str:
    """Return .env.example: the same rows, each commented out."""
    parts = [_ENV]
    for room, about, rows in _rooms():
        rule = f"# -- {room}: {about} "
        parts.append(rule + "-" * max(0, _RULE_WIDTH - len(rule)) + "\n")
        parts += [_env_entry(row) for row in rows]
    return "\n".join(parts)


def _env_entry(row: Row) -> str:
    notes = [row.help]
    if row.choices:
        notes.append(f"One of: {', '.join(row.choices)}.")
    if row.unit:
        notes.append(f"In {'seconds' if row.unit == 's' else row.unit}.")
    if row.secret:
        notes.append(f"Or {row.env}_FILE=/path/to/a/file.")
    if row.also:
        notes.append(f"Older names: {', '.join(row.also)}.")
    value = _text(row) or EXAMPLES.get(row.env, "")
    return f"# {' '.join(notes)}\n#{row.env}={value}\n"


# -- errors --------------------------------------------------------------------------------------


def errors_page() -> str:
    """Return docs/errors.md: the tree of failures, and the codes more precise than a class."""
    head = ("class", "is a", "status", "code", "type", "`x-should-retry`", "falls back", "meaning")
    precise = [(_code(code), _code(name), said) for code, name, said in precise_codes()]
    return _page(
        "Errors",
        _ERRORS,
        table(head, map(_error_row, error_tree(GatewayError))),
        _CODES,
        table(("code", "class", "message"), precise),
        _CODES_END,
    )


def error_tree(cls: type[GatewayError]) -> Iterator[type[GatewayError]]:
    """Yield a class and everything below it, in the order of their declaration."""
    yield cls
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_tree(child)


def _error_row(cls: type[GatewayError]) -> tuple[str, ...]:
    if cls is SettingsError:
        status = f"start-up only, exit {WRONG_SETTINGS}"
    else:
        theirs = "status" in inspect.signature(cls).parameters
        status = "theirs" if theirs else str(cls.status)
    return (
        _code(cls.__name__), "" if cls is GatewayError else _code(cls.__bases__[0].__name__),
        status, _code(cls.code), _code(cls.type),
        "" if cls.should_retry is None else str(cls.should_retry).lower(),
        "yes" if cls.falls_back else "", _first_line(cls),
    )  # fmt: skip


def precise_codes() -> list[tuple[str, str, str]]:
    """Return code, class and message of each place that names a code of its own."""
    names = {cls.__name__ for cls in error_tree(GatewayError)}
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        if path.name == "mock.py":
            continue  # its failures are asked for, and say so
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                code = _constant(node, "code")
                if node.func.id in names and code:
                    said = found.setdefault((code, node.func.id), [])
                    said += [text for text in _message(node) if text not in said]
    return [
        (code, name, " ".join(said) or "(in the upstream's words)")
        for (code, name), said in sorted(found.items())
    ]


def _constant(call: ast.Call, name: str) -> str:
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return str(keyword.value.value or "")
    return ""


def _message(call: ast.Call) -> list[str]:
    """Return a literal message, with … for what is only known later; none when it is not ours."""
    if not call.args or not isinstance(call.args[0], (ast.Constant, ast.JoinedStr)):
        return []
    text = call.args[0]
    pieces = text.values if isinstance(text, ast.JoinedStr) else [text]
    return ["".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in pieces)]


# -- endpoints and metrics -----------------------------------------------------------------------


def endpoints_page() -> str:
    """Return docs/endpoints.md."""
    settings = read_settings({})
    api, observability = settings.web.port, settings.web.observability_port
    rows = [
        (
            item.method, _code(item.path), "none" if item.scope == PUBLIC else _code(item.scope),
            _code(item.operation_id), f"{api}, {observability}" if item.observed else str(api),
            item.summary,
        )
        for item in endpoints_of(create_app(settings))
    ]  # fmt: skip
    return _page(
        "Endpoints",
        _ENDPOINTS.format(api=api, observability=observability),
        table(("method", "path", "scope", "operation id", "ports", "what it does"), rows),
        _ENDPOINTS_END,
    )


def metrics_page() -> str:
    """Return docs/metrics.md."""
    rows = [
        (_code(row.name), row.kind.__name__.lower(), _code(*row.labels), row.help) for row in TABLE
    ]
    head = ("name", "kind", "labels", "what it tells")
    return _page("Metrics", _METRICS, table(head, rows), _METRICS_END)


DOCUMENTS: Mapping[str, Callable[[], str]] = MappingProxyType({
    ".env.example": env_example,
    "docs/endpoints.md": endpoints_page,
    "docs/errors.md": errors_page,
    "docs/metrics.md": metrics_page,
    "docs/settings.md": settings_page,
})  # fmt: skip
"""Every generated file, by its place below the root."""


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the documents; with ``--check`` return 1 when one differs, and name it."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args(argv).check
    made = {name: make() for name, make in DOCUMENTS.items()}
    differing = [name for name, text in made.items() if _read(root / name) != text]
    for name in differing:
        if check:
            sys.stderr.write(f"{name} differs from the code; run: make docs\n")
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(made[name], encoding="utf-8", newline="\n")
            sys.stderr.write(f"{name} written\n")
    return 1 if check and differing else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
