"""The source of the house as its rules see it: files, trees, and what a name in them means."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GATEWAY = ROOT / "gateway"
TESTS = ROOT / "tests"


def modules(folder: Path) -> list[Path]:
    """Return every Python file below a folder."""
    return sorted(folder.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a file's path from the root, as rules and reviewed lists write it."""
    return path.relative_to(ROOT).as_posix()


@cache  # each rule walks the whole house
def tree_of(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names_in(path: Path) -> frozenset[str]:
    """Return every dotted name that a file imports or uses."""
    return frozenset(used_names(tree_of(path)))


def used_names(tree: ast.Module) -> Iterator[str]:
    """Yield every dotted name that a module imports or uses, as it is called where it comes from.

    ``from time import time as now`` followed by ``now()`` yields ``time.time``.
    """
    meant: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for item in node.names:
                yield item.name
                head = item.name.partition(".")[0]
                meant[item.asname or head] = item.name if item.asname else head
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for item in node.names:
                yield f"{node.module}.{item.name}"
                meant[item.asname or item.name] = f"{node.module}.{item.name}"
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            head, _, rest = ast.unparse(node).partition(".")
            if head in meant:
                yield f"{meant[head]}.{rest}".rstrip(".")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function and method, nested ones too."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
