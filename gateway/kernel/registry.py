"""Plug-ins by name: a decorator registers, a folder load finds them, unknown names get a hint."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Registry(Generic[T]):
    """Named parts of one kind.

    Args:
        noun: What is registered, for error messages.

    Shared: Filled while modules are imported, read-only afterwards.
    """

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files a part under a name, which must be free."""

        def file_part(part: T) -> T:
            if name in self._parts:
                raise ValueError(f"{self._noun} {name!r} is registered twice")
            self._parts[name] = part
            return part

        return file_part

    def get(self, name: str) -> T:
        """Return the part of that name.

        Raises:
            LookupError: Unknown; the message lists the names and the nearest one.
        """
        try:
            return self._parts[name]
        except KeyError:
            raise LookupError(unknown(self._noun, name, self._parts)) from None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted."""
        return iter(sorted(self._parts))


def unknown(noun: str, name: str, known: object) -> str:
    """Return a sentence that names an unknown thing, the nearest match and all choices."""
    names = sorted(str(item) for item in known)  # type: ignore[attr-defined]  # any iterable of names
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown {noun} {name!r}{hint} (known: {', '.join(names) or 'none'})"


def load_folder(package: str) -> None:
    """Import every module of a package, so that its plug-ins register themselves."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
