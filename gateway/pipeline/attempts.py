"""Step 4d: the Plan's targets tried in order, until one answers with content."""

from collections.abc import Iterator

from gateway.backends.base import Backend
from gateway.backends.normaliser import Normaliser
from gateway.kernel.call import Attempt, Call, Plan, Reply, Target, Usage
from gateway.kernel.errors import GatewayError, UpstreamError, UpstreamInvalid, UpstreamRejected
from gateway.routing.catalog import Snapshot
from gateway.usage.metrics import Metrics
from gateway.web.wait import Wait

_MOST_HELD_BYTES = 1_048_576


class Attempts:
    """One call's tries.

    A finite loop over the Plan: it cannot go on longer than the Plan is long and the Deadline is
    wide. Falling back ends at the first content, because text of two models must not be joined.

    Attributes:
        target: The one being tried, or the one that answered.
        made: All tries so far.
        usage: Tokens of the answer, once it is complete or broken off.
    """

    def __init__(
        self, call: Call, plan: Plan, catalog: Snapshot, wait: Wait, metrics: Metrics
    ) -> None:
        self._call = call
        self._plan = plan
        self._catalog = catalog
        self._wait = wait
        self._metrics = metrics
        self._began_s = 0.0
        self._normaliser: Normaliser | None = None
        self.target: Target = plan.targets[0]
        self.made: list[Attempt] = []
        self.usage: Usage | None = None

    def reply(self) -> Reply:
        """Return the first finished answer.

        Raises:
            GatewayError: What the last target failed with.
        """
        for target in self._plan.targets:
            backend = self._begin(target)
            try:
                reply = backend.reply(self._call, target.model, self._wait)
            except GatewayError as error:
                if not self._may_go_on(target, error):
                    raise self._with_trail(error) from None
            else:
                self._end("ok", "success")
                self.usage = reply.usage
                return reply
        raise AssertionError("a plan has at least one target")

    def blocks(self, beat_s: float) -> Iterator[bytes]:
        """Yield the stream of the first target that answers with content; ``b""`` until then.

        Raises:
            GatewayError: What the last target failed with, or the stream after its first content.
        """
        for target in self._plan.targets:
            backend = self._begin(target)
            normaliser = self._normaliser = Normaliser(self._call, target.model)
            source = backend.stream(self._call, target.model, self._wait, beat_s)
            try:
                yield from self._normalised(source, normaliser)
            except GatewayError as error:
                if normaliser.has_content or not self._may_go_on(target, error):
                    self._fail(error)
                    raise self._with_trail(error) from None
            else:
                self._end("ok", "success")
                return

    def settle(self, outcome: str) -> None:
        """Count the tokens of a stream, complete or not; end an attempt that is still open."""
        if self._normaliser is not None and self._normaliser.has_content:
            self.usage = self._normaliser.settled_usage()
        if self.made and self.made[-1].outcome == "started":
            self._end(outcome, outcome)

    @staticmethod
    def _normalised(source: Iterator[bytes], normaliser: Normaliser) -> Iterator[bytes]:
        held = b""
        try:
            for block in source:
                out = normaliser.feed(block) if block else b""
                if not normaliser.has_content:
                    held += out
                    out = b""
                    if len(held) > _MOST_HELD_BYTES:
                        raise UpstreamInvalid("The upstream sends events without any content.")
                elif held:
                    out, held = held + out, b""
                yield out
                if normaliser.failure is not None:
                    raise normaliser.failure
                if normaliser.done:
                    return
        except UpstreamError:
            # The model had finished; what broke afterwards took nothing from the answer.
            if not normaliser.finished:
                raise
        finally:
            source.close()  # type: ignore[attr-defined]  # backends' streams are generators
        yield held + normaliser.finish()
        if normaliser.failure is not None and not normaliser.finished:
            raise normaliser.failure

    def _begin(self, target: Target) -> Backend:
        self.target = target
        self._began_s = self._wait.now()
        self.made.append(Attempt(target))
        return self._catalog.backends[target.upstream]

    def _fail(self, error: GatewayError) -> None:
        error.hide(self._catalog.backends[self.target.upstream].upstream.api_key)
        # The code of a rejection may be the upstream's own word: fit for a log, not for a label.
        rejected = isinstance(error, UpstreamRejected)
        self._end(error.code, UpstreamRejected.code if rejected else error.code)

    def _end(self, outcome: str, status: str) -> None:
        attempt = self.made[-1]
        if attempt.outcome != "started":
            return
        attempt.outcome = outcome
        attempt.took_s = self._wait.now() - self._began_s
        upstream = attempt.target.upstream
        self._metrics.count("gateway_upstream_requests_total", upstream, status)
        self._metrics.observe("gateway_upstream_latency_seconds", attempt.took_s, upstream)

    def _may_go_on(self, target: Target, error: GatewayError) -> bool:
        self._fail(error)
        is_last = target is self._plan.targets[-1]
        return error.falls_back and not is_last and not self._call.deadline.passed()

    def _with_trail(self, error: GatewayError) -> GatewayError:
        """Add which targets were tried and how each failed."""
        if isinstance(error, UpstreamError):
            trail = [{"upstream": made.target.upstream, "code": made.outcome} for made in self.made]
            error.details = {**(error.details or {}), "attempts": trail}
        return error
