"""Who serves which model, and what readiness makes of it."""

import pytest

from gateway.backends.base import ModelCard
from gateway.kernel.call import Target
from gateway.routing.catalog import Health, as_json
from tests.fakes.backend import ScriptedBackend


def seen(name: str, *models: str, **upstream) -> ScriptedBackend:
    """Return a backend whose models are known from the start."""
    return ScriptedBackend(name, **upstream).listing(*models)


def unseen(name: str, **upstream) -> ScriptedBackend:
    """Return a backend that has to be looked at."""
    return ScriptedBackend(name, **upstream).probed_at("http://127.0.0.1:1/v1/models")


def cards(*models: str) -> list[ModelCard]:
    return [ModelCard(model) for model in models]


# --- names ---------------------------------------------------------------------------------------


def test_a_model_is_served_by_everyone_who_lists_it_in_the_order_of_preference(catalog_of):
    snapshot = catalog_of(seen("b", "llama"), seen("a", "llama", "qwen")).snapshot

    assert snapshot.find("llama") == (Target("b", "llama"), Target("a", "llama"))
    assert snapshot.find("qwen") == (Target("a", "qwen"),)


def test_a_model_that_nobody_lists_is_served_by_nobody(catalog_of):
    assert catalog_of(seen("a", "llama")).snapshot.find("gpt-9") == ()


def test_a_public_name_leads_to_the_upstreams_own(catalog_of):
    snapshot = catalog_of(unseen("a", serves={"chat": "org/Model-7B"})).snapshot

    assert snapshot.find("chat") == (Target("a", "org/Model-7B"),)
    assert snapshot.cards["chat"] == ModelCard("chat", owned_by="a")


def test_a_public_name_that_is_also_listed_leads_to_the_upstreams_own(catalog_of):
    snapshot = catalog_of(seen("a", "chat", serves={"chat": "org/Model-7B"})).snapshot

    assert snapshot.find("chat") == (Target("a", "org/Model-7B"),)


def test_a_name_without_its_tag_means_the_latest(catalog_of):
    snapshot = catalog_of(seen("ollama", "llama3:latest", "llama3:8b")).snapshot

    assert snapshot.find("llama3") == (Target("ollama", "llama3:latest"),)
    assert "llama3" not in snapshot.cards


def test_a_listed_name_wins_over_a_short_one(catalog_of):
    snapshot = catalog_of(seen("a", "llama3:latest"), seen("b", "llama3")).snapshot

    assert snapshot.find("llama3") == (Target("b", "llama3"),)


def test_an_upstreams_name_stands_for_its_only_model(catalog_of):
    snapshot = catalog_of(seen("llama", "org/Llama-3-8B")).snapshot

    assert snapshot.find("llama") == (Target("llama", "org/Llama-3-8B"),)
    assert "llama" not in snapshot.cards


@pytest.mark.parametrize("models", [(), ("a", "b")], ids=["none", "several"])
def test_without_an_only_model_an_upstreams_name_stands_for_itself(catalog_of, models):
    assert catalog_of(seen("llama", *models)).snapshot.find("llama") == (Target("llama", "llama"),)


def test_an_upstream_that_nobody_configured_stands_for_nothing(catalog_of):
    assert catalog_of(seen("ollama", "llama", implied=True)).snapshot.find("ollama") == ()


def test_a_listed_name_wins_over_an_upstreams(catalog_of):
    snapshot = catalog_of(seen("llama", "x"), seen("b", "llama")).snapshot

    assert snapshot.find("llama") == (Target("b", "llama"),)


def test_names_with_an_open_prefix_are_served_unlisted(catalog_of):
    class Open(ScriptedBackend):
        open_prefix = "mock/"

    snapshot = catalog_of(Open("mock").listing("mock")).snapshot

    assert snapshot.find("mock/chunks=4") == (Target("mock", "mock/chunks=4"),)
    assert snapshot.find("mock/") == (Target("mock", "mock/"),)
    assert snapshot.find("mocking/x") == ()
    assert "mock/chunks=4" not in snapshot.cards


# --- looking -------------------------------------------------------------------------------------


def test_what_was_learnt_replaces_the_snapshot_whole(catalog_of):
    catalog = catalog_of(unseen("a"))
    before = catalog.snapshot

    catalog.learn("a", cards("llama"))

    assert before.find("llama") == ()
    assert catalog.snapshot.find("llama") == (Target("a", "llama"),)


def test_the_same_list_again_costs_no_new_snapshot(catalog_of, clock):
    """Of 100,000 models one takes a quarter of a second, and every worker looks all the time."""
    catalog = catalog_of(unseen("a"))
    catalog.learn("a", cards("llama", "qwen"))
    before = catalog.snapshot
    clock.advance(30)

    catalog.learn("a", cards("llama", "qwen"))

    assert catalog.snapshot is before
    assert catalog.health()["a"].checked_s == clock()


def test_a_model_that_is_gone_is_forgotten(catalog_of):
    catalog = catalog_of(unseen("a"))
    catalog.learn("a", cards("llama", "qwen"))

    catalog.learn("a", cards("qwen"))

    assert catalog.snapshot.find("llama") == ()


def test_the_last_good_list_of_a_lost_upstream_is_kept(catalog_of):
    catalog = catalog_of(unseen("a"), seen("b", "x"))
    catalog.learn("a", cards("llama"))

    catalog.lost("a", "ConnectTimeout")
    catalog.learn("b", cards("y"))

    assert catalog.snapshot.find("llama") == (Target("a", "llama"),)
    assert catalog.health()["a"].error == "ConnectTimeout"


def test_health_tells_what_the_last_look_found_and_when(catalog_of, clock):
    catalog = catalog_of(unseen("a"))
    untouched = catalog.health()["a"]
    catalog.learn("a", cards("llama"))
    clock.advance(7)
    age_s = catalog.age_s(catalog.health()["a"])
    catalog.lost("a", "gone")

    assert untouched == Health()
    assert age_s == 7
    assert catalog.health()["a"] == Health(False, "gone", clock(), (ModelCard("llama"),))


def test_an_upstream_that_recovers_is_healthy_without_an_error(catalog_of, clock):
    catalog = catalog_of(unseen("a"))
    catalog.lost("a", "gone")

    catalog.learn("a", cards("llama"))

    assert catalog.health()["a"] == Health(True, "", clock(), (ModelCard("llama"),))


def test_whoever_never_told_what_it_serves_is_silent(catalog_of):
    catalog = catalog_of(*(unseen(name) for name in "abcd"), seen("mock"))
    catalog.lost("b", "gone")
    catalog.learn("c", cards("llama"))
    catalog.lost("c", "gone")
    catalog.learn("d", [])

    assert catalog.silent() == ["a", "b"]


def test_an_upstream_that_nobody_configured_is_silent_until_it_was_looked_at(catalog_of):
    catalog = catalog_of(unseen("ollama", implied=True))
    before = catalog.silent()

    catalog.lost("ollama", "gone")

    assert (before, catalog.silent()) == (["ollama"], [])


# --- readiness -----------------------------------------------------------------------------------


def test_each_configured_upstream_is_a_check(catalog_of):
    catalog = catalog_of(
        unseen("a"), unseen("b"), unseen("c"),
        seen("mock", embedded=True), unseen("ollama", implied=True),
    )  # fmt: skip
    catalog.learn("b", [])
    catalog.lost("c", "gone")

    assert catalog.checks() == {"a": "unknown", "b": "ok", "c": "unavailable"}


@pytest.mark.parametrize(
    ("required", "well", "ready"),
    [
        ((), ("a",), True), ((), ("b",), True), ((), (), False),
        (("a",), ("a",), True), (("a",), ("b",), False), (("a", "b"), ("a",), False),
        (("a", "b"), ("a", "b"), True),
    ],
)  # fmt: skip
def test_it_is_ready_when_the_required_and_at_least_one_answer(catalog_of, required, well, ready):
    catalog = catalog_of(*(unseen(name, required=name in required) for name in "ab"))
    for name in well:
        catalog.learn(name, [])

    assert catalog.is_ready() is ready


def test_with_nothing_configured_it_is_ready(catalog_of):
    catalog = catalog_of(seen("mock", embedded=True), unseen("ollama", implied=True))

    assert catalog.is_ready()


def test_it_is_not_ready_any_more_when_its_only_upstream_is_lost(catalog_of):
    catalog = catalog_of(unseen("a"))
    catalog.learn("a", [])
    catalog.lost("a", "gone")

    assert not catalog.is_ready()


# --- being listed --------------------------------------------------------------------------------


def test_a_model_is_listed_with_every_field_that_clients_need():
    assert as_json("m", ModelCard("m"), 7) == {
        "id": "m", "object": "model", "created": 7, "owned_by": "upstream"}  # fmt: skip


def test_what_is_known_of_a_model_is_listed():
    card = ModelCard("m", 5, "me", {"context_length": 8192})

    assert as_json("alias", card, 7) == {
        "id": "alias", "object": "model", "created": 5, "owned_by": "me",
        "context_length": 8192}  # fmt: skip
