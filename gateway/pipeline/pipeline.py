"""The spine joined: the one place where the order of a call's steps is written down."""

from gateway.backends.settings import BackendSettings
from gateway.kernel.call import Call
from gateway.kernel.deadline import Deadline
from gateway.kernel.errors import GatewayError
from gateway.kernel.logs import Log
from gateway.pipeline.exchange import Exchange
from gateway.routing.catalog import Catalog
from gateway.routing.router import Router
from gateway.usage.metrics import Metrics
from gateway.web.incoming import Incoming, Outgoing, json_answer
from gateway.web.settings import WebSettings
from gateway.web.stream import HEADERS, StreamBody

_BEATS = 3
"""Looks at the clock within a heartbeat, so that one is at most a third late."""


class Pipeline:
    """Takes a Call through routing and attempts to an answer.

    Shared: One a process, stateless.
    """

    def __init__(
        self, router: Router, catalog: Catalog, metrics: Metrics, log: Log, web: WebSettings,
        backends: BackendSettings,
    ) -> None:  # fmt: skip
        self._router = router
        self._catalog = catalog
        self._metrics = metrics
        self._log = log
        self._heartbeat_s = web.heartbeat_s
        self._total_s = backends.total_timeout_s

    def deadline(self, incoming: Incoming, *, stream: bool) -> Deadline:
        """Return how long a call may take.

        OpenAI's clients tell their read time-out. For an answer in one piece that bounds the whole;
        for a stream it only bounds a gap, which the heartbeat already keeps short.
        """
        seconds = self._total_s
        told = incoming.header("HTTP_X_STAINLESS_READ_TIMEOUT")
        if told and not stream:
            try:
                seconds = min(seconds, max(float(told), 0.1))
            except ValueError:
                seconds = self._total_s
        return Deadline.after(seconds)

    def open(self, call: Call, incoming: Incoming) -> Outgoing:
        """Answer a call.

        Raises:
            UnknownModel, NoBackend: Nobody serves it.
            UpstreamError: Every target failed before any content.
            ClientGone: The caller left.
        """
        incoming.facts["model"] = call.model
        plan = self._router.plan(call)
        exchange = Exchange(call, plan, self._catalog.snapshot, incoming, self._metrics)
        try:
            if not call.stream:
                body = exchange.reply().body
                return json_answer(body, headers=exchange.headers())
            body_blocks = StreamBody(
                exchange.start(self._heartbeat_s / _BEATS),
                self._heartbeat_s,
                incoming.request_id,
                self._log,
            )
            return Outgoing(200, [*HEADERS, *exchange.headers()], body_blocks)
        except GatewayError as error:
            exchange.failed(error)
            exchange.close()
            incoming.answer_headers.extend(exchange.headers())
            raise
