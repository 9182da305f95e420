"""The tests are the same tree again: whoever knows a module knows where its tests are."""

import ast

import pytest

from tests.rules.house import GATEWAY, TESTS, functions, modules, name_of, tree_of

DECLARATIONS_ONLY = {
    "gateway/__main__.py",
    "gateway/auth/settings.py",
    "gateway/backends/settings.py",
    "gateway/routing/settings.py",
    "gateway/usage/settings.py",
}
"""Modules without a line of logic; tests of their readers cover them."""
FOR_MANY = {"test_conformance.py"}
"""Suites that all plug-ins of a folder take. (Long ones may be parted: test_<module>_<part>.py.)"""
MODULES = [
    path
    for path in modules(GATEWAY)
    if path.name != "__init__.py" and name_of(path) not in DECLARATIONS_ONLY
]


def mirror_of(path):
    """Return where a module's tests are."""
    return TESTS / "gateway" / path.relative_to(GATEWAY).with_name(f"test_{path.name}")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_has_its_tests_at_the_same_place(path):
    tests = mirror_of(path)

    assert tests.is_file(), f"{name_of(tests)} is missing"
    assert any(function.name.startswith("test_") for function in functions(tree_of(tests)))


def test_no_tests_are_left_behind_by_a_module_that_went_away():
    mirrored = {mirror_of(path).with_suffix("") for path in modules(GATEWAY)}

    alone = [
        name_of(path)
        for path in modules(TESTS / "gateway")
        if path.name.startswith("test_")
        and path.name not in FOR_MANY
        and not any(f"{path.with_suffix('')}_".startswith(f"{mirror}_") for mirror in mirrored)
    ]
    assert alone == []


def test_a_package_file_holds_a_docstring_and_at_most_the_version():
    for path in modules(GATEWAY):
        if path.name == "__init__.py":
            rest = [ast.unparse(node) for node in tree_of(path).body[1:]]
            assert all(line.startswith("__version__ =") for line in rest), name_of(path)


@pytest.mark.parametrize("name", sorted(DECLARATIONS_ONLY))
def test_what_needs_no_tests_has_no_logic(name):
    tree = tree_of(GATEWAY.parent / name)

    assert list(functions(tree)) == []
    assert not any(isinstance(node, (ast.If, ast.For, ast.While)) for node in ast.walk(tree))


def test_no_module_has_a_name_that_says_nothing():
    names = {
        part
        for path in modules(GATEWAY)
        for part in path.relative_to(GATEWAY).with_suffix("").parts
    }

    assert not names & {"utils", "helpers", "common", "manager", "core", "misc", "base_utils"}
