"""The caller names the upstream."""

import pytest

from gateway.kernel.call import Plan, Target
from gateway.kernel.errors import InvalidRequest
from gateway.routing.policies.pinned import pinned
from tests.fakes.backend import ScriptedBackend
from tests.fakes.calls import make_call


@pytest.fixture
def snapshot(catalog_of):
    """Two upstreams; one is called like a model of the other, one serves an alias."""
    return catalog_of(
        ScriptedBackend("ollama").listing("llama3.1:8b", "qwen:latest"),
        ScriptedBackend("llama3.1", serves={"chat": "org/Model"}).listing("org/Model"),
    ).snapshot


def test_the_header_names_the_upstream(snapshot):
    assert pinned(make_call(model="gpt-9", pinned="ollama"), snapshot) == Plan(
        (Target("ollama", "gpt-9"),), "override:x-backend"
    )


def test_the_upstream_is_asked_for_its_own_name_of_the_model(snapshot):
    plan = pinned(make_call(model="chat", pinned="llama3.1"), snapshot)

    assert plan.targets == (Target("llama3.1", "org/Model"),)


def test_of_several_upstreams_that_serve_it_the_pinned_ones_name_counts(catalog_of):
    both = catalog_of(
        ScriptedBackend("a", serves={"chat": "a-model"}),
        ScriptedBackend("b", serves={"chat": "b-model"}),
    ).snapshot

    assert pinned(make_call(model="chat", pinned="b"), both).targets == (Target("b", "b-model"),)


def test_a_short_name_is_completed(snapshot):
    plan = pinned(make_call(model="qwen", pinned="ollama"), snapshot)

    assert plan.targets == (Target("ollama", "qwen:latest"),)


def test_the_header_and_the_same_prefix_agree(snapshot):
    plan = pinned(make_call(model="ollama:gpt-9", pinned="ollama"), snapshot)

    assert plan.targets == (Target("ollama", "gpt-9"),)


def test_the_header_wins_over_another_prefix(snapshot):
    plan = pinned(make_call(model="ollama:gpt-9", pinned="llama3.1"), snapshot)

    assert plan.targets == (Target("llama3.1", "ollama:gpt-9"),)


@pytest.mark.parametrize("name", ["nobody", "Ollama", "ollama ", "../ollama", "http://10.0.0.1"])
def test_an_unknown_upstream_in_the_header_is_the_callers_mistake(snapshot, name):
    with pytest.raises(InvalidRequest) as caught:
        pinned(make_call(pinned=name), snapshot)

    assert (caught.value.status, caught.value.param) == (400, "X-Backend")
    assert "known: llama3.1, ollama" in caught.value.message


def test_a_prefix_names_the_upstream(snapshot):
    assert pinned(make_call(model="ollama:gpt-9:70b"), snapshot) == Plan(
        (Target("ollama", "gpt-9:70b"),), "pinned:model"
    )


def test_a_listed_name_is_never_taken_apart(snapshot):
    assert pinned(make_call(model="llama3.1:8b"), snapshot) is None


def test_nor_does_the_header_of_its_upstream_take_it_apart(snapshot):
    plan = pinned(make_call(model="llama3.1:8b", pinned="ollama"), snapshot)

    assert plan.targets == (Target("ollama", "llama3.1:8b"),)


@pytest.mark.parametrize("model", ["gpt-9", "gpt:9", "ollama:", ":gpt", ":", "qwen", "ollama"])
def test_a_name_that_names_no_upstream_is_left_to_others(snapshot, model):
    assert pinned(make_call(model=model), snapshot) is None
