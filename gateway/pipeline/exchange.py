"""One Call's life from its first attempt to its last byte, closed exactly once."""

from collections.abc import Iterator

from gateway.kernel.call import Call, Plan, Reply
from gateway.kernel.errors import ClientGone, GatewayError
from gateway.kernel.ids import header_safe
from gateway.pipeline.attempts import Attempts
from gateway.routing.catalog import Snapshot
from gateway.usage.metrics import Metrics
from gateway.web.errors import translate
from gateway.web.incoming import Headers, Incoming


class Exchange:
    """A Call being answered.

    Closing settles everything: the upstream's connection, the tokens, the metrics and what the log
    line says. It happens once, at the end, at an error or when the client leaves.

    Shared: Belongs to the greenlet of one request.
    """

    def __init__(
        self, call: Call, plan: Plan, catalog: Snapshot, incoming: Incoming, metrics: Metrics
    ) -> None:
        self._call = call
        self._plan = plan
        self._incoming = incoming
        self._metrics = metrics
        self._attempts = Attempts(call, plan, catalog, incoming.wait(), metrics)
        self._blocks: Iterator[bytes] | None = None
        self._began_s = incoming.wait().now()
        self._first_content_s: float | None = None
        self._closed = False

    def reply(self) -> Reply:
        """Return the finished answer; closes the exchange."""
        try:
            return self._attempts.reply()
        except Exception as error:
            self.failed(translate(error))
            raise
        finally:
            self.close()

    def start(self, beat_s: float) -> "Exchange":
        """Begin a stream; its blocks come from ``next``."""
        self._blocks = self._attempts.blocks(beat_s)
        return self

    def __next__(self) -> bytes:
        """Return the next block; ``b""`` after a silent beat."""
        if self._blocks is None:
            raise StopIteration
        block = next(self._blocks)
        if block and self._first_content_s is None:
            self._first_content_s = self._incoming.wait().now() - self._began_s
        return block

    def headers(self) -> Headers:
        """Return which target answered and why; safe to send whatever the model is called."""
        target = self._attempts.target
        return [
            ("X-Backend-Used", header_safe(target.upstream)),
            ("X-Model-Used", header_safe(target.model)),
            ("X-Router-Reason", header_safe(self._plan.reason)),
        ]

    def failed(self, error: GatewayError) -> None:
        """Note what ended this exchange."""
        self._incoming.facts["code"] = error.code

    def close(self) -> None:
        """Settle everything. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._blocks is not None:
            self._blocks.close()  # type: ignore[attr-defined]  # a generator
        # Whoever closes without a word has left: gunicorn, because the caller did.
        self._attempts.settle(self._incoming.facts.get("code", ClientGone.code))
        self._report()

    def _report(self) -> None:
        attempts, facts = self._attempts, self._incoming.facts
        target, usage = attempts.target, attempts.usage
        facts.update(
            backend=target.upstream,
            model=target.model,
            stream=self._call.stream,
            reason=self._plan.reason,
        )
        if len(attempts.made) > 1:
            facts["attempts"] = [f"{made.target.upstream}:{made.outcome}" for made in attempts.made]
        elif attempts.made and attempts.made[0].outcome != "ok":
            facts.setdefault("code", attempts.made[0].outcome)
        count, upstream = self._metrics.count, target.upstream
        if self._first_content_s is not None:
            facts["ttft_ms"] = round(self._first_content_s * 1000, 1)
            self._metrics.observe(
                "gateway_time_to_first_token_seconds", self._first_content_s, upstream
            )
        if usage is not None:
            facts.update(tokens_in=usage.prompt_tokens, tokens_out=usage.completion_tokens)
            facts["estimated"] = usage.estimated or None
            count("gateway_tokens_total", upstream, "input", by=usage.prompt_tokens)
            count("gateway_tokens_total", upstream, "output", by=usage.completion_tokens)
