"""Looks at every upstream now and then, off the request path: is it there, what does it serve."""

import random
from typing import Any

import gevent
import orjson
import requests

from gateway.backends.base import Backend, Probe
from gateway.backends.settings import BackendSettings
from gateway.kernel.errors import UpstreamError
from gateway.kernel.logs import Log
from gateway.routing.catalog import Catalog
from gateway.routing.settings import RoutingSettings

_ANSWER_LIMIT_BYTES = 8_388_608
_READ_BYTES = 65_536
_UNWELL_S = 5.0
"""Time between two looks at an upstream that did not answer."""
_JITTER = random.Random()  # noqa: S311  # spreads load, guards nothing


class Probes:
    """One background greenlet for each upstream.

    Shared: Each greenlet writes only its own upstream's state, through the catalog.
    """

    def __init__(
        self, catalog: Catalog, routing: RoutingSettings, backends: BackendSettings, log: Log
    ) -> None:
        self._catalog = catalog
        self._settings = routing
        self._tls: dict[str, Any] = {"verify": backends.ca_bundle or backends.verify_tls}
        if backends.client_cert:
            certificate, _, key = backends.client_cert.partition(",")
            self._tls["cert"] = (certificate, key) if key else certificate
        self._log = log
        self._greenlets: list[Any] = []

    def start(self) -> None:
        """Begin looking; returns at once."""
        for backend in self._catalog.snapshot.backends.values():
            if backend.probe() is not None:
                self._greenlets.append(gevent.spawn(self._watch, backend))

    def stop(self) -> None:
        """Stop looking."""
        gevent.killall(self._greenlets)
        self._greenlets.clear()

    def look(self, backend: Backend) -> bool:
        """Look at one upstream once; tell whether it answered."""
        probe, name = backend.probe(), backend.upstream.name
        if probe is None:
            return True
        before = self._catalog.health()[name].healthy
        try:
            self._catalog.learn(name, backend.models(self._ask(probe)))
            problem = ""
        except (requests.RequestException, OSError, ValueError, gevent.Timeout) as error:
            problem = _reason(error, self._settings.probe_timeout_s)
        except UpstreamError as error:
            problem = error.message
        if problem:
            self._catalog.lost(name, problem)
        if before is not (not problem):
            self._note(backend, problem)
        return not problem

    def _note(self, backend: Backend, problem: str) -> None:
        if not problem:
            listed = len(self._catalog.health()[backend.upstream.name].cards)
            self._log.info("upstream answers", upstream=backend.upstream.name, models=listed)
        elif not backend.upstream.implied:
            self._log.warning(
                "upstream unavailable", upstream=backend.upstream.name, reason=problem
            )

    def _watch(self, backend: Backend) -> None:
        while True:
            try:
                well = self.look(backend)
                backend.weed()
            except Exception as error:  # noqa: BLE001  # a background loop outlives any defect of one look
                self._log.error("probe failed", error, upstream=backend.upstream.name)
                well = False
            pause_s = self._settings.refresh_s if well else min(self._settings.refresh_s, _UNWELL_S)
            # Jitter keeps the workers of a host from asking a model server all at once.
            gevent.sleep(pause_s * _JITTER.uniform(0.8, 1.2))

    def _ask(self, probe: Probe) -> Any:
        timeout_s = self._settings.probe_timeout_s
        # requests' own time-out is per read: a server that drips would hold the greenlet for ever.
        with gevent.Timeout(timeout_s), requests.Session() as session:
            session.trust_env = False
            response = session.get(
                probe.url, headers={**probe.headers, "Accept-Encoding": "identity"},
                timeout=timeout_s, allow_redirects=False, stream=True, **self._tls,
            )  # fmt: skip
            with response:
                if response.status_code != requests.codes.ok:
                    raise UpstreamError(_status_reason(response.status_code))
                body = bytearray()
                for block in response.iter_content(_READ_BYTES):
                    body += block
                    if len(body) > _ANSWER_LIMIT_BYTES:
                        raise UpstreamError("answered with too long a model list")
        return orjson.loads(body)


def _status_reason(status: int) -> str:
    if status in {401, 403}:
        return f"refused our key (status {status}); see GATEWAY_UPSTREAM_API_KEYS"
    return f"answered with status {status}"


def _reason(error: BaseException, timeout_s: float) -> str:
    """Return in an operator's words why an upstream could not be asked; never its address."""
    text = str(error)
    if isinstance(error, (requests.Timeout, gevent.Timeout)):
        return f"no answer within {timeout_s:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate or the TLS handshake was refused"
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema)):
        return "its address is not valid"
    if isinstance(error, requests.ConnectionError):
        if "NameResolution" in text or "getaddrinfo" in text:
            return "its name cannot be resolved"
        return "connection refused" if "refused" in text else "the connection failed"
    if isinstance(error, ValueError):
        return "answered something that is no model list; check its address"
    return type(error).__name__
