"""From a Call to a Plan: the policies are asked in order, the first that knows decides."""

import difflib
from collections.abc import Callable

from gateway.kernel.call import Call, Plan, Target
from gateway.kernel.errors import NoBackend, UnknownModel
from gateway.kernel.registry import Registry
from gateway.routing.catalog import Catalog, Snapshot
from gateway.routing.settings import RoutingSettings

Policy = Callable[[Call, Snapshot], Plan | None]
POLICIES: Registry[Policy] = Registry("policy")
"""Every routing policy by name; files in ``policies/`` register themselves here."""
RANKS: dict[str, int] = {}
"""When each policy is asked, the lowest first."""
_MOST_COMPARED = 200
"""Names worth comparing for a hint: a longer list would hold the hub."""


def policy(name: str, *, rank: int) -> Callable[[Policy], Policy]:
    """Return a decorator that registers a routing policy.

    Args:
        rank: Policies are asked in the order of their ranks; the first that knows decides.
    """

    def file(decide: Policy) -> Policy:
        RANKS[name] = rank
        return POLICIES.register(name)(decide)

    return file


class Router:
    """Chooses targets.

    Shared: Stateless; works on the catalog's current snapshot.
    """

    def __init__(self, catalog: Catalog, settings: RoutingSettings) -> None:
        self._catalog = catalog
        self._default = settings.default_upstream
        self._policies = [POLICIES.get(name) for name in sorted(RANKS, key=RANKS.__getitem__)]

    def plan(self, call: Call) -> Plan:
        """Return the targets to try and why.

        Raises:
            UnknownModel: Nobody serves the model.
            NoBackend: An upstream that may serve it was not looked at yet, or none takes this kind
                of call.
        """
        catalog = self._catalog.snapshot
        for policy in self._policies:
            plan = policy(call, catalog)
            if plan is not None:
                return _capable(plan, call, catalog)
        if self._default:
            return _capable(
                Plan((Target(self._default, call.model),), "direct:default"), call, catalog
            )
        raise self._nobody(call.model, catalog)

    def _nobody(self, model: str, catalog: Snapshot) -> UnknownModel | NoBackend:
        silent = self._catalog.silent()
        if silent:
            return NoBackend(
                "No upstream that was heard from serves this model; not heard from so far: "
                f"{', '.join(silent)}.",
                param="model", retry_after_s=1,
            )  # fmt: skip
        known = list(catalog.cards) if len(catalog.cards) <= _MOST_COMPARED else []
        near = difflib.get_close_matches(model, known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return UnknownModel(
            f"No upstream serves this model. {hint}GET /v1/models lists all.", param="model"
        )


def _capable(plan: Plan, call: Call, catalog: Snapshot) -> Plan:
    targets = tuple(
        target for target in plan.targets if call.kind in catalog.backends[target.upstream].can
    )
    if not targets:
        raise UnknownModel(
            f"No upstream that serves this model takes {call.kind} requests.", param="model"
        )
    return Plan(targets, plan.reason)
