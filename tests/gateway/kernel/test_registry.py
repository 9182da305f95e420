"""Plug-ins by name."""

import sys
from pathlib import Path

import pytest

from gateway.kernel.registry import Registry, load_folder, unknown


@pytest.fixture
def registry() -> Registry[str]:
    """A registry of two parts."""
    made: Registry[str] = Registry("policy")
    made.register("weighted")("W")
    made.register("direct")("D")
    return made


def test_a_registered_part_is_found_by_its_name(registry: Registry[str]):
    assert registry.get("direct") == "D"


def test_names_come_sorted(registry: Registry[str]):
    assert list(registry) == ["direct", "weighted"]


def test_the_decorator_hands_the_part_back(registry: Registry[str]):
    assert registry.register("tiered")("T") == "T"


def test_an_unknown_name_is_answered_with_the_nearest_and_all(registry: Registry[str]):
    with pytest.raises(LookupError) as caught:
        registry.get("direkt")

    assert caught.value.args == (
        "unknown policy 'direkt'; did you mean 'direct'? (known: direct, weighted)",
    )


def test_a_name_that_is_taken_is_refused_and_the_first_part_stays(registry: Registry[str]):
    with pytest.raises(ValueError, match="policy 'direct' is registered twice"):
        registry.register("direct")("E")

    assert registry.get("direct") == "D"


def test_nothing_known_is_said_too():
    assert unknown("upstream", "a", []) == "unknown upstream 'a' (known: none)"


def test_a_folder_is_loaded_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "house_of_plugins"
    package.mkdir()
    (package / "__init__.py").write_text("found = []\n", encoding="utf-8")
    for name in ("one", "two"):
        text = f"from house_of_plugins import found\nfound.append({name!r})\n"
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    load_folder("house_of_plugins")

    assert sorted(sys.modules["house_of_plugins"].found) == ["one", "two"]
