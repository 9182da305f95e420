"""The caller names the upstream, in ``X-Backend`` or before the model's name."""

from gateway.kernel.call import Call, Plan, Target
from gateway.kernel.errors import InvalidRequest
from gateway.kernel.registry import unknown
from gateway.routing.catalog import Snapshot
from gateway.routing.router import policy


@policy("pinned", rank=10)
def pinned(call: Call, catalog: Snapshot) -> Plan | None:
    """Return the caller's own choice; None when there is none.

    A listed name is never taken apart: ``llama3.1:8b`` stays a model even if an upstream is called
    ``llama3.1``.

    Raises:
        InvalidRequest: ``X-Backend`` names no upstream.
    """
    prefix, colon, rest = call.model.partition(":")
    if call.pinned:
        if call.pinned not in catalog.backends:
            raise InvalidRequest(
                f"X-Backend: {unknown('upstream', call.pinned, catalog.backends)}.",
                param="X-Backend",
            )
        model = rest if colon and prefix == call.pinned and rest else call.model
        return Plan((_target(catalog, call.pinned, model),), "override:x-backend")
    if colon and rest and prefix in catalog.backends and not catalog.find(call.model):
        return Plan((_target(catalog, prefix, rest),), "pinned:model")
    return None


def _target(catalog: Snapshot, upstream: str, model: str) -> Target:
    """Return the target at one upstream, with its own name for the model when it has one."""
    for target in catalog.find(model):
        if target.upstream == upstream:
            return target
    return Target(upstream, model)
