"""Builds the application: each part made, handed its settings, joined in the order data walks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask

from gateway import __version__
from gateway.auth.first_key import stored_digests
from gateway.auth.guard import KeyGuard
from gateway.auth.keys import key_ring
from gateway.backends.base import Backend, Upstream, backend_for
from gateway.backends.connection import tls_context
from gateway.backends.resolver import Resolver
from gateway.backends.transport import Pool
from gateway.chat.routes import blueprint as chat
from gateway.discovery.metadata import Declared
from gateway.discovery.metadata import blueprint as metadata
from gateway.discovery.models import blueprint as models
from gateway.embeddings.routes import blueprint as embeddings
from gateway.kernel.errors import SettingsError
from gateway.kernel.logs import Log
from gateway.kernel.registry import load_folder
from gateway.ops.health import blueprint as ops
from gateway.pipeline.pipeline import Pipeline
from gateway.routing.catalog import Catalog
from gateway.routing.probes import Probes
from gateway.routing.router import Router
from gateway.settings import Settings
from gateway.usage.metrics import Metrics
from gateway.usage.observer import RequestObserver
from gateway.usage.sampler import Sampler
from gateway.web.edge import Edge
from gateway.web.endpoint import AnyPath, Guard, endpoints_of
from gateway.web.services import part_of, provide

SLICES: tuple[Blueprint, ...] = (chat, embeddings, models, metadata, ops)
"""The rooms, one line each."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts that a test may bring along instead of the usual ones."""

    log: Log | None = None
    metrics: Metrics | None = None
    backends: tuple[Backend, ...] | None = None


def create_app(settings: Settings, parts: Parts | None = None) -> Flask:
    """Return the application; nothing runs in the background until ``start``."""
    parts = parts or Parts()
    load_folder("gateway.routing.policies")
    app = Flask("gateway", static_folder=None)
    # A doubled slash is another address; a redirect would repeat the Host header of the request.
    app.url_map.merge_slashes = False
    app.url_map.converters["path"] = AnyPath
    log = parts.log or Log(settings.web.log_level)
    metrics = parts.metrics or Metrics()
    backends = parts.backends
    if backends is None:
        backends = tuple(_backends(settings))
    catalog = Catalog(backends)
    router = Router(catalog, settings.routing)
    ring = key_ring(settings.keys, _stored_keys(settings, log))
    guard = KeyGuard(ring, lambda code: metrics.count("gateway_auth_failures_total", code))
    pipeline = Pipeline(router, catalog, metrics, log, settings.web, settings.backends)
    probes = Probes(catalog, settings.routing, settings.backends, log)
    for part in (
        log,
        metrics,
        catalog,
        router,
        pipeline,
        probes,
        settings.web,
        settings.routing,
        settings.usage,
    ):
        provide(app, part)
    provide(app, guard, Guard)
    for blueprint in SLICES:
        app.register_blueprint(blueprint)
    provide(app, Declared(endpoints_of(app)))
    edge = Edge(app, settings.web, RequestObserver(metrics, log), log)
    provide(app, edge)
    provide(app, Sampler(metrics, lambda: edge.in_flight))
    app.wsgi_app = edge  # type: ignore[method-assign]  # the documented way to wrap a Flask application
    return app


def start(app: Flask) -> None:
    """Begin what runs in the background; called once in each worker, after the fork."""
    upstreams = sorted(part_of(app, Catalog).snapshot.backends)
    part_of(app, Log).info("worker started", version=__version__, upstreams=upstreams)
    part_of(app, Probes).start()
    part_of(app, Sampler).start()


def stop(app: Flask) -> None:
    """End what runs in the background."""
    part_of(app, Log).info("worker stopped")
    part_of(app, Probes).stop()
    part_of(app, Sampler).stop()


def _stored_keys(settings: Settings, log: Log) -> dict[str, str]:
    """Return the stored keys; a file damaged while the gateway runs must not stop a new worker."""
    try:
        return stored_digests(Path(settings.web.data_dir))
    except SettingsError as error:
        log.warning("stored keys unreadable", reason=error.message)
        return {}


def _backends(settings: Settings) -> list[Backend]:
    resolver = Resolver()
    urls = [backend_for(upstream.url).http_url(upstream.url) for upstream in settings.upstreams]
    # Reading the certificate authorities takes longer than all other steps of a start together.
    needs_tls = any(url and url.lower().startswith("https:") for url in urls)
    tls: Any = tls_context(settings.backends) if needs_tls else None
    return [_backend(upstream, resolver, tls) for upstream in settings.upstreams]


def _backend(upstream: Upstream, resolver: Resolver, tls: Any) -> Backend:
    kind = backend_for(upstream.url)
    url = kind.http_url(upstream.url)
    pool = Pool(url, upstream.timeouts, resolver, tls) if url else None
    return kind(upstream, pool)
