"""Health, readiness and metrics: what load balancers, orchestrators and Prometheus ask."""

from typing import Any

from flask import Blueprint

from gateway import __version__
from gateway.kernel.clock import utc_now
from gateway.kernel.errors import NotFound
from gateway.routing.catalog import Catalog, Health
from gateway.usage.metrics import CONTENT_TYPE, Metrics
from gateway.usage.settings import UsageSettings
from gateway.web.endpoint import PUBLIC, endpoint
from gateway.web.incoming import Incoming, Outgoing, json_answer
from gateway.web.wait import is_draining

blueprint = Blueprint("ops", __name__)
_WORDS = {None: "unknown", True: "healthy", False: "unreachable"}


@endpoint(blueprint, "GET", "/health", scope=PUBLIC, operation_id="health.check", observed=True)
def check_health(incoming: Incoming) -> Outgoing:
    """Tell that the process lives; never touches a dependency, states are the last known ones."""
    catalog = incoming.part(Catalog)
    services = {name: _WORDS[health.healthy] for name, health in catalog.health().items()}
    return json_answer({
        "ok": True, "status": "ok" if catalog.is_ready() else "degraded", "version": __version__,
        "timestamp": utc_now().isoformat(), "services": services,
    })  # fmt: skip


@endpoint(blueprint, "GET", "/readyz", scope=PUBLIC, operation_id="readiness.check", observed=True)
def check_readiness(incoming: Incoming) -> Outgoing:
    """Tell whether requests can be answered: 503 until the upstreams that are needed answer."""
    catalog = incoming.part(Catalog)
    draining = is_draining()
    ready = catalog.is_ready() and not draining
    checks = {**catalog.checks(), "process": "draining" if draining else "ok"}
    document = {
        "ok": ready,
        "ready": ready,
        "status": "ready" if ready else "not_ready",
        "checks": checks,
    }
    return json_answer(document, 200 if ready else 503, None if ready else [("Retry-After", "1")])


@endpoint(
    blueprint,
    "GET",
    "/health/upstreams",
    scope="metrics",
    operation_id="health.upstreams",
    observed=True,
)
def check_upstreams(incoming: Incoming) -> Outgoing:
    """Tell what the last look at each upstream found."""
    catalog = incoming.part(Catalog)
    upstreams = {name: _upstream(catalog, health) for name, health in catalog.health().items()}
    configured = catalog.checks()
    ok = all(item["ok"] for name, item in upstreams.items() if name in configured)
    return json_answer({"ok": ok, "upstreams": upstreams})


@endpoint(blueprint, "GET", "/metrics", scope="metrics", operation_id="metrics.get", observed=True)
def get_metrics(incoming: Incoming) -> Outgoing:
    """Return all metrics in Prometheus' text format."""
    if not incoming.part(UsageSettings).metrics_enabled:
        raise NotFound("Metrics are switched off (METRICS_ENABLED).")
    return Outgoing(200, [("Content-Type", CONTENT_TYPE)], (incoming.part(Metrics).text(),))


def _upstream(catalog: Catalog, health: Health) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ok": bool(health.healthy),
        "status": _WORDS[health.healthy],
        "models": len(health.cards),
    }
    if health.checked_s:
        found["age_s"] = round(catalog.age_s(health), 1)
    if health.error:
        found["error"] = health.error
    return found
