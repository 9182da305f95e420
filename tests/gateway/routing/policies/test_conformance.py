"""One exam for every registered policy: a pure function from any call to a plan, or to nothing."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.kernel.call import Kind, Plan
from gateway.kernel.errors import InvalidRequest
from gateway.kernel.registry import load_folder
from gateway.routing.catalog import Catalog
from gateway.routing.router import POLICIES, RANKS
from tests.fakes.backend import ScriptedBackend
from tests.fakes.calls import make_call

load_folder("gateway.routing.policies")

NAMES = st.sampled_from(["a", "b", "llama3.1", "llama3.1:8b", "a:x", "x", "x:latest", "a:", ":"])
ANY_NAME = NAMES | st.text(min_size=1, max_size=12)
UPSTREAMS = st.dictionaries(
    st.sampled_from(["a", "b", "llama3.1", "x"]),
    st.tuples(st.lists(ANY_NAME, max_size=3), st.dictionaries(ANY_NAME, ANY_NAME, max_size=2)),
    max_size=3,
)
CALLS = st.builds(
    make_call,
    kind=st.sampled_from(Kind),
    model=ANY_NAME,
    stream=st.booleans(),
    pinned=st.none() | ANY_NAME,
)


def snapshot_of(upstreams: dict):
    backends = [
        ScriptedBackend(name, serves=serves).listing(*models)
        for name, (models, serves) in upstreams.items()
    ]
    return Catalog(backends, lambda: 0.0).snapshot


@pytest.mark.parametrize("name", list(POLICIES))
@given(upstreams=UPSTREAMS, call=CALLS)
def test_a_policy_plans_known_upstreams_or_nothing(name, upstreams, call):
    policy, snapshot = POLICIES.get(name), snapshot_of(upstreams)

    try:
        plan = policy(call, snapshot)
    except InvalidRequest as refused:
        assert refused.param in {"X-Backend", "model"}  # noqa: PT017  # raising is one of three ways
        return

    if plan is None:
        return
    assert isinstance(plan, Plan)
    assert plan.reason
    assert plan.targets
    assert {target.upstream for target in plan.targets} <= set(upstreams)
    assert len(set(plan.targets)) == len(plan.targets)
    assert all(target.model for target in plan.targets)


@pytest.mark.parametrize("name", list(POLICIES))
@given(upstreams=UPSTREAMS, call=CALLS)
def test_a_policy_is_pure(name, upstreams, call):
    policy, snapshot = POLICIES.get(name), snapshot_of(upstreams)
    before = (dict(snapshot.targets), dict(snapshot.cards), dict(snapshot.open_prefixes))

    def ask():
        try:
            return policy(call, snapshot)
        except InvalidRequest as refused:
            return refused.message

    first, second = ask(), ask()

    assert first == second
    assert before == (snapshot.targets, snapshot.cards, snapshot.open_prefixes)
    assert copy.copy(call) == call


def test_every_registered_policy_has_a_rank_of_its_own():
    assert set(RANKS) == set(POLICIES)
    assert len(set(RANKS.values())) == len(RANKS)
