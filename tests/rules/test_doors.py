"""Each way out has one door: the environment, the clock, the network, the catch-all."""

import ast

import pytest

from tests.rules.house import GATEWAY, modules, name_of, names_in, tree_of, used_names

DOORS = {
    "os.environ": {"gateway/kernel/settings.py"},
    "os.environb": set(),
    "os.getenv": set(),
    "time.time": {"gateway/kernel/clock.py"},
    "time.monotonic": {"gateway/kernel/clock.py"},
    "time.perf_counter": set(),
    "time.sleep": set(),
    "random.random": set(),
    "requests": {"gateway/routing/probes.py"},
    "urllib3": set(),
    "http.client": set(),
    "subprocess": set(),
    "pickle": set(),
}
"""What may be used only in these files."""
MAY_CATCH_ALL = {
    "gateway/web/edge.py",  # turns the unknown into a 500 and logs it once
    "gateway/web/stream.py",  # after the first byte any end must be a cut stream
    "gateway/web/worker.py",  # one connection's end is not the worker's
    "gateway/routing/probes.py",  # a background loop outlives any defect of one look
}


def uses(names, name):
    """Tell whether a name, or anything below it, is among those that a module uses."""
    return any(used == name or used.startswith(f"{name}.") for used in names)


def swallows(tree):
    """Return the lines of handlers that catch everything and do not raise it again."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            catches_all = any(
                kind is None or ast.unparse(kind) in {"Exception", "BaseException"}
                for kind in kinds
            )
            last = node.body[-1]
            if catches_all and not (isinstance(last, ast.Raise) and last.exc is None):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("name", DOORS)
def test_each_of_these_is_used_behind_its_door_only(name):
    found = {name_of(path) for path in modules(GATEWAY) if uses(names_in(path), name)}

    assert found == DOORS[name]


def test_only_the_edges_and_the_background_loops_catch_everything():
    found = {name_of(path) for path in modules(GATEWAY) if swallows(tree_of(path))}

    assert found == MAY_CATCH_ALL


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import os\nos.environ['A']", "os.environ"),
        ("import os as o\no.environ.get('A')", "os.environ"),
        ("from os import environ as e\ne['A']", "os.environ"),
        ("from time import monotonic", "time.monotonic"),
        ("import time\nnow = time.monotonic", "time.monotonic"),
        ("import requests.adapters", "requests"),
        ("from requests import Session", "requests"),
        ("def f():\n    import requests", "requests"),
    ],
)
def test_the_rule_finds_every_way_to_go_around_a_door(source, name):
    assert uses(set(used_names(ast.parse(source))), name)


@pytest.mark.parametrize(
    "source",
    ["environ = {}\nenviron['A']", "import os\nos.replace", "clock.time()", "import requests_x"],
)
def test_the_rule_takes_nothing_else_for_it(source):
    names = set(used_names(ast.parse(source)))

    assert not any(uses(names, name) for name in DOORS)


@pytest.mark.parametrize(
    "kind", ["", " Exception", " BaseException", " (ValueError, Exception) as e"]
)
def test_the_rule_finds_a_catch_all_unless_it_raises_again(kind):
    caught = f"try:\n    f()\nexcept{kind}:\n    g()\n"

    assert swallows(ast.parse(caught)) == [3]
    assert swallows(ast.parse(caught + "    raise\n")) == []
    assert swallows(ast.parse(caught + "    raise E from None\n")) == [3]
    assert swallows(ast.parse(caught.replace(f"except{kind}:", "except OSError:"))) == []
