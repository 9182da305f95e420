"""The parts of one application, found by their type."""

from typing import Any, TypeVar, cast

from flask import Flask

T = TypeVar("T")
_SLOT = "gateway.parts"

Parts = dict[type, Any]


def parts_of(app: Flask) -> Parts:
    """Return all parts of an application, to look one up by its type."""
    parts: Parts = app.extensions.setdefault(_SLOT, {})
    return parts


def provide(app: Flask, part: object, kind: type | None = None) -> None:
    """Make a part known to an application; a later one of the same kind takes its place."""
    parts_of(app)[kind or type(part)] = part


def part_of(app: Flask, kind: type[T]) -> T:
    """Return an application's part of that type."""
    return cast(T, parts_of(app)[kind])
