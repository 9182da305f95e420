"""The model's name decides: whoever lists it serves it."""

from gateway.kernel.call import Call, Plan
from gateway.routing.catalog import Snapshot
from gateway.routing.router import policy


@policy("direct", rank=50)
def direct(call: Call, catalog: Snapshot) -> Plan | None:
    """Return every target that serves the model, best first; None when nobody does."""
    targets = catalog.find(call.model)
    return Plan(targets, "direct:model") if targets else None
