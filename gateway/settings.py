"""All rooms' settings in one object, read and checked in one go; only the composition sees it."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.auth.keys import from_environment, weak_keys
from gateway.auth.settings import AuthSettings
from gateway.backends.base import Upstream
from gateway.backends.connection import tls_problems
from gateway.backends.settings import BackendSettings
from gateway.kernel.registry import load_folder
from gateway.kernel.settings import Row, load, refuse, strange_names
from gateway.routing.settings import RoutingSettings
from gateway.routing.upstreams import configured
from gateway.usage.settings import UsageSettings
from gateway.web.settings import WebSettings, problems_of

ROOMS = (WebSettings, AuthSettings, RoutingSettings, BackendSettings, UsageSettings)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, frozen.

    Attributes:
        warnings: What is wrong but does not stop a start, one line each.
        rows: Every setting with its value and where that came from.
    """

    web: WebSettings
    auth: AuthSettings
    routing: RoutingSettings
    backends: BackendSettings
    usage: UsageSettings
    upstreams: tuple[Upstream, ...]
    keys: tuple[str, ...]
    warnings: tuple[str, ...]
    rows: tuple[Row, ...]


_in_force: list[Settings] = []
"""What the master accepted last. Workers are forked from it and find it here, so a source that was
spoilt meanwhile (a secret's file, say) stops neither a reload nor the restart of a worker."""


def accept_settings(environ: Mapping[str, str]) -> Settings:
    """Put a configuration in force; a wrong one leaves the one before in force.

    Raises:
        SettingsError: Lists every mistake at once.
    """
    settings = read_settings(environ)
    _in_force[:] = [settings]
    return settings


def settings_in_force() -> Settings | None:
    """Return the accepted configuration; None when none was accepted in this process."""
    return _in_force[0] if _in_force else None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the configuration that these variables describe.

    Raises:
        SettingsError: Lists every mistake at once.
    """
    load_folder("gateway.backends")
    problems: list[str] = []
    rows: list[Row] = []
    web = load(WebSettings, environ, problems, rows)
    auth = load(AuthSettings, environ, problems, rows)
    routing = load(RoutingSettings, environ, problems, rows)
    backends = load(BackendSettings, environ, problems, rows)
    usage = load(UsageSettings, environ, problems, rows)
    problems += problems_of(web)
    production = web.environment == "production"
    upstreams = configured(routing, backends, production=production, problems=problems)
    problems += tls_problems(backends)
    keys = from_environment(auth)
    warnings = weak_keys(keys)
    if production:
        if any(upstream.url.startswith("mock://") for upstream in upstreams):
            warnings.append("a mock upstream is configured (GATEWAY_MOCK, GATEWAY_UPSTREAMS)")
        if not keys:
            warnings.append(
                "no API key is configured; set GATEWAY_API_KEYS or GATEWAY_BEARER_TOKEN"
            )
        if not backends.verify_tls:
            warnings.append(
                "BACKEND_VERIFY_TLS=false lets anyone on the way read and change upstream traffic"
            )
        problems += [f"GATEWAY_ENV=production: {line}" for line in warnings]
    known = [name for row in rows for name in (row.env, *row.also)]
    known += [f"{name}_FILE" for row in rows if row.secret for name in (row.env, *row.also)]
    strange = strange_names(environ, known)
    if not upstreams:
        strange.append("no upstream is configured, so no model is served; set GATEWAY_UPSTREAMS")
    if problems:
        # A misspelt name may be the reason for what follows; it must not stay hidden.
        problems += strange
    refuse(problems)
    return Settings(
        web, auth, routing, backends, usage, upstreams, keys, (*warnings, *strange), tuple(rows)
    )
