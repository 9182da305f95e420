"""Settings declared once as typed dataclass fields; the only code that reads the environment."""

import dataclasses
import difflib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from gateway.kernel.errors import SettingsError

S = TypeVar("S")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
FOREIGN_PREFIXES = ("GATEWAY_SERVICE_", "GATEWAY_PORT_")
"""Names that Kubernetes injects for a service called ``gateway``: not ours, not typos."""


def setting(  # noqa: PLR0913  # a declaration, read like a table row
    default: Any,
    *,
    env: str,
    help: str,  # noqa: A002  # the word users know from --help
    unit: str = "",
    also: tuple[str, ...] = (),
    secret: bool = False,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Declare one setting as a dataclass field.

    Args:
        default: Used when no source names it. The type is the annotation's, not the default's.
        env: Its environment variable.
        help: One sentence for docs, ``config`` and error messages.
        unit: Printed beside the value.
        also: Older names that are read too, after ``env``.
        secret: Starred in every print-out; ``<env>_FILE`` is read as well.
        choices: The only values allowed.
        least: The smallest number allowed.
        most: The largest number allowed.
    """
    meta = {"env": env, "help": help, "unit": unit, "also": also, "secret": secret,
            "choices": choices, "least": least, "most": most}  # fmt: skip
    return field(default=default, metadata={"setting": meta})


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as documentation and the ``config`` command print it."""

    room: str
    env: str
    also: tuple[str, ...]
    default: Any
    unit: str
    help: str
    secret: bool
    choices: tuple[str, ...]
    value: Any = None
    source: str = "default"

    def shown(self) -> str:
        """Return the value as text, starred when it is a secret."""
        if self.secret:
            return "********" if self.value else ""
        if isinstance(self.value, tuple):
            return ",".join(self.value)
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return "" if self.value is None else str(self.value)


def read_environ(dotenv: Path | None = None) -> dict[str, str]:
    """Return the process environment over the lines of a ``.env`` file, if there is one.

    Raises:
        SettingsError: A line of the file is no setting.
    """
    values = dict(_dotenv_lines(dotenv)) if dotenv and dotenv.is_file() else {}
    values.update(os.environ)
    return values


def _dotenv_lines(path: Path) -> Iterator[tuple[str, str]]:
    # Decoded like the process environment: whatever the bytes are, they reach the server unchanged.
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for place, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        name, equals, value = text.partition("=")
        if not text or text.startswith("#"):
            continue
        if not equals:
            raise SettingsError(f"{path}, line {place}: not of the form NAME=value")
        yield name.strip(), _dotenv_value(value)


def _dotenv_value(text: str) -> str:
    """Return a value without its quotes and without the comment behind it."""
    if text.strip()[:1] in {"'", '"'}:
        quoted, quote, rest = text.strip()[1:].partition(text.strip()[0])
        if quote and not rest.partition("#")[0].strip():
            return quoted
    return text.partition(" #")[0].strip()


def load(
    cls: type[S], environ: Mapping[str, str], problems: list[str], rows: list[Row] | None = None
) -> S:
    """Return one room's settings from a mapping.

    Args:
        problems: Every mistake is appended here, so that all are reported at once.
        rows: Receives one row a setting, with the value and where it came from.
    """
    values: dict[str, Any] = {}
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]  # any settings dataclass
        meta = item.metadata["setting"]
        source, text = _find(meta, environ, problems)
        value = item.default
        if text is not None:
            try:
                value = _convert(text, item.type, meta)
            except ValueError as error:
                shown = "********" if meta["secret"] else repr(text)
                problems.append(f"{source}={shown}: {error}. {meta['help']}")
        values[item.name] = value
        if rows is not None:
            rows.append(
                Row(cls.__module__.split(".")[1], meta["env"], meta["also"], item.default,
                    meta["unit"], meta["help"], meta["secret"], meta["choices"],
                    value, source or "default")
            )  # fmt: skip
    return cls(**values)


def _find(
    meta: Mapping[str, Any], environ: Mapping[str, str], problems: list[str]
) -> tuple[str, str | None]:
    for name in (meta["env"], *meta["also"]):
        if environ.get(name, "").strip():
            return name, environ[name].strip()
        path = environ.get(f"{name}_FILE", "").strip()
        if meta["secret"] and path:
            try:
                return f"{name}_FILE", Path(path).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", "it is not UTF-8")
                problems.append(f"{name}_FILE={path}: cannot be read ({reason})")
    return "", None


def _convert(text: str, annotation: Any, meta: Mapping[str, Any]) -> Any:
    kinds = [kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)]
    value: Any = text
    if bool in kinds:
        value = _boolean(text)
    elif int in kinds or float in kinds:
        value = _number(text, int if int in kinds else float, meta)
    elif str not in kinds or Ellipsis in kinds:
        value = tuple(part.strip() for part in text.split(",") if part.strip())
    if meta["choices"]:
        value = next((name for name in meta["choices"] if name.lower() == text.lower()), value)
    if meta["choices"] and value not in meta["choices"]:
        near = difflib.get_close_matches(text, meta["choices"], n=1)
        raise ValueError(
            f"must be one of {', '.join(meta['choices'])}"
            + (f"; did you mean {near[0]}?" if near else "")
        )
    return value


def _boolean(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("must be true or false")


def _number(text: str, kind: type[int] | type[float], meta: Mapping[str, Any]) -> float:
    if text.startswith("tcp://"):
        raise ValueError(
            "looks like a variable that Kubernetes makes for a service called 'gateway'; "
            "rename the service or set enableServiceLinks: false"
        )
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"must be {'a whole number' if kind is int else 'a number'}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if meta["least"] is not None and value < meta["least"]:
        raise ValueError(f"must be at least {meta['least']}")
    if meta["most"] is not None and value > meta["most"]:
        raise ValueError(f"must be at most {meta['most']}")
    return value


def strange_names(environ: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """Return a line for each ``GATEWAY_`` variable that nothing reads, with the nearest real name.

    A report, not a refusal: Kubernetes injects names of this shape by itself.
    """
    names = set(known)
    lines = []
    for name in sorted(environ):
        if not name.startswith("GATEWAY_") or name.startswith(FOREIGN_PREFIXES):
            continue
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        lines.append(f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    return lines


def refuse(problems: list[str]) -> None:
    """Raise one error that lists all mistakes, if there are any.

    Raises:
        SettingsError: One line a mistake.
    """
    if problems:
        raise SettingsError("\n".join(problems))
