"""How large things may be: what does not fit a screen is not read."""

import ast

from tests.rules.house import GATEWAY, ROOT, TESTS, functions, modules, name_of, tree_of

MOST_LINES = 400
MOST_TEST_LINES = 600
MOST_FUNCTION_LINES = 60
MOST_FIXTURES = 8
MOST_CONFTEST_LINES = 150
SOURCES = [
    *modules(GATEWAY),
    *modules(ROOT / "loadtests"),
    ROOT / "wsgi.py",
    ROOT / "gunicorn.conf.py",
]


def length_of(function):
    """Return a function's lines without its docstring."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_there_is_something_to_measure():
    assert len(SOURCES) > 80
    assert len(modules(TESTS)) > 50


def longer_than(most, paths):
    """Return the files that are too long, and how long they are."""
    lines = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    return {name: count for name, count in lines.items() if count > most}


def test_no_file_is_longer_than_400_lines():
    assert longer_than(MOST_LINES, SOURCES) == {}


def test_no_test_file_is_longer_than_600_lines():
    assert longer_than(MOST_TEST_LINES, modules(TESTS)) == {}


def test_no_function_is_longer_than_60_lines():
    long = {
        f"{name_of(path)}:{function.lineno} {function.name}": length_of(function)
        for path in [*SOURCES, *modules(TESTS)]
        for function in functions(tree_of(path))
        if length_of(function) > MOST_FUNCTION_LINES
    }

    assert long == {}


def test_what_all_tests_share_stays_small():
    path = TESTS / "conftest.py"
    fixtures = [
        function.name
        for function in functions(tree_of(path))
        if any("fixture" in ast.unparse(mark) for mark in function.decorator_list)
    ]

    assert len(fixtures) <= MOST_FIXTURES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_CONFTEST_LINES


def test_a_function_is_measured_without_its_docstring():
    [function] = functions(ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'))

    assert length_of(function) == 2
