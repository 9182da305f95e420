"""From a call to a plan."""

import pytest

from gateway.kernel.call import Kind, Plan, Target
from gateway.kernel.errors import NoBackend, UnknownModel
from gateway.routing.router import POLICIES, RANKS, policy
from tests.fakes.backend import ScriptedBackend
from tests.fakes.calls import make_call


def test_a_listed_model_goes_to_whoever_serves_it(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing("llama"))

    plan = router_of(catalog).plan(make_call(model="llama"))

    assert plan == Plan((Target("a", "llama"),), "direct:model")


def test_the_callers_own_choice_comes_before_the_models_name(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing("llama"), ScriptedBackend("b").listing("x"))

    plan = router_of(catalog).plan(make_call(model="llama", pinned="b"))

    assert plan == Plan((Target("b", "llama"),), "override:x-backend")


def test_policies_are_asked_in_the_order_of_their_ranks(catalog_of, router_of):
    asked = []
    names = ("test-last", "test-first")
    for name, rank in zip(names, (9, 1), strict=True):
        policy(name, rank=rank)(lambda *_, name=name: asked.append(name))
    try:
        router = router_of(catalog_of(ScriptedBackend("a").listing("llama")))
    finally:
        for name in names:
            del RANKS[name], POLICIES._parts[name]

    router.plan(make_call(model="llama"))

    assert asked == ["test-first", "test-last"]
    assert RANKS["pinned"] < RANKS["direct"]


def test_an_unknown_model_is_refused_with_the_nearest_name(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing("llama3.1:8b"))

    with pytest.raises(UnknownModel) as caught:
        router_of(catalog).plan(make_call(model="llama3.1:8"))

    assert (caught.value.status, caught.value.param) == (404, "model")
    assert "'llama3.1:8b'" in caught.value.message


def test_a_list_too_long_to_be_compared_gives_no_hint(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing(*(f"model-{place}" for place in range(201))))

    with pytest.raises(UnknownModel) as caught:
        router_of(catalog).plan(make_call(model="model-1000"))

    assert "Did you mean" not in caught.value.message


def test_an_unknown_model_goes_to_the_default_upstream_if_there_is_one(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing("llama"), ScriptedBackend("b").listing("x"))

    plan = router_of(catalog, default_upstream="b").plan(make_call(model="gpt-9"))

    assert plan == Plan((Target("b", "gpt-9"),), "direct:default")


def test_while_an_upstream_was_not_looked_at_a_model_is_not_unknown(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").probed_at("http://127.0.0.1:1"))

    with pytest.raises(NoBackend) as caught:
        router_of(catalog).plan(make_call(model="llama"))

    assert (caught.value.status, caught.value.retry_after_s) == (503, 1)


def test_nor_while_an_upstream_never_told_what_it_serves(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").probed_at("http://127.0.0.1:1"))
    catalog.lost("a", "gone")

    with pytest.raises(NoBackend, match="a"):
        router_of(catalog).plan(make_call(model="llama"))


def test_a_lost_upstream_whose_list_is_known_makes_no_model_possible(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").probed_at("http://127.0.0.1:1"))
    catalog.learn("a", ScriptedBackend("a").listing("qwen").models(None))
    catalog.lost("a", "gone")

    with pytest.raises(UnknownModel):
        router_of(catalog).plan(make_call(model="llama"))


def test_only_targets_that_take_this_kind_of_call_are_planned(catalog_of, router_of):
    catalog = catalog_of(
        ScriptedBackend("a").listing("m").taking(Kind.CHAT), ScriptedBackend("b").listing("m")
    )

    plan = router_of(catalog).plan(make_call(Kind.EMBEDDINGS, model="m"))

    assert plan.targets == (Target("b", "m"),)


def test_a_model_that_nobody_serves_for_this_kind_of_call_is_refused(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").listing("m").taking(Kind.CHAT))

    with pytest.raises(UnknownModel, match="embeddings"):
        router_of(catalog).plan(make_call(Kind.EMBEDDINGS, model="m"))


def test_the_newest_snapshot_is_used(catalog_of, router_of):
    catalog = catalog_of(ScriptedBackend("a").probed_at("http://127.0.0.1:1"))
    router = router_of(catalog)
    catalog.learn("a", ScriptedBackend("a").listing("llama").models(None))

    assert router.plan(make_call(model="llama")).targets == (Target("a", "llama"),)
