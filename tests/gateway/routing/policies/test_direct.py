"""The model's name decides."""

from gateway.kernel.call import Plan, Target
from gateway.routing.policies.direct import direct
from tests.fakes.backend import ScriptedBackend
from tests.fakes.calls import make_call


def test_every_upstream_that_serves_the_model_is_planned_best_first(catalog_of):
    snapshot = catalog_of(*(ScriptedBackend(name).listing("m") for name in "ba")).snapshot

    assert direct(make_call(model="m"), snapshot) == Plan(
        (Target("b", "m"), Target("a", "m")), "direct:model"
    )


def test_a_model_that_nobody_serves_is_left_to_others(catalog_of):
    assert direct(make_call(model="m"), catalog_of(ScriptedBackend("a")).snapshot) is None
