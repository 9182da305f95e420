"""Who serves which model: a table that is replaced whole whenever an upstream was looked at."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.backends.base import Backend, ModelCard
from gateway.kernel.call import Target
from gateway.kernel.clock import Monotonic, monotonic


@dataclass(frozen=True, slots=True)
class Health:
    """What the last look at an upstream found.

    Attributes:
        healthy: None until it was looked at.
        error: Why it is not healthy; never an address.
    """

    healthy: bool | None = None
    error: str = ""
    checked_s: float = 0.0
    cards: tuple[ModelCard, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalog at one moment; never changed, only replaced.

    Attributes:
        backends: By upstream name, in order of preference.
        targets: By the name callers use, the targets that serve it, best first.
        cards: By the name callers use, how the model is listed.
        open_prefixes: Starts of names that are served without being listed.
    """

    backends: Mapping[str, Backend]
    targets: Mapping[str, tuple[Target, ...]]
    cards: Mapping[str, ModelCard]
    open_prefixes: Mapping[str, str]

    def find(self, model: str) -> tuple[Target, ...]:
        """Return the targets that serve a name; empty when none does."""
        found = self.targets.get(model)
        if found is not None:
            return found
        prefix, slash, _ = model.partition("/")
        upstream = self.open_prefixes.get(prefix + slash)
        return (Target(upstream, model),) if upstream else ()


class Catalog:
    """Keeps the snapshot current; the last good list of a silent upstream stays in it.

    Shared: Readers take ``snapshot`` once and work on that; only ``learn`` replaces it.
    """

    def __init__(self, backends: Iterable[Backend], clock: Monotonic = monotonic) -> None:
        self._backends = {backend.upstream.name: backend for backend in backends}
        self._clock = clock
        self._health = dict.fromkeys(self._backends, Health())
        for name, backend in self._backends.items():
            if backend.probe() is None:
                self._health[name] = Health(True, "", clock(), tuple(backend.models(None)))
        self.snapshot = self._build()

    def learn(self, upstream: str, cards: Iterable[ModelCard]) -> None:
        """Take over an upstream's model list."""
        before, now = self._health[upstream], tuple(cards)
        self._health[upstream] = Health(True, "", self._clock(), now)
        if now != before.cards:
            self.snapshot = self._build()

    def lost(self, upstream: str, error: str) -> None:
        """Note that an upstream did not answer; its last good list stays."""
        before = self._health[upstream]
        self._health[upstream] = replace(
            before, healthy=False, error=error, checked_s=self._clock()
        )

    def health(self) -> dict[str, Health]:
        """Return the state of each upstream, by name."""
        return dict(self._health)

    def age_s(self, health: Health) -> float:
        """Return the seconds since a look."""
        return self._clock() - health.checked_s

    def silent(self) -> list[str]:
        """Return the upstreams that may serve anything: they never told what they serve.

        One that nobody configured stops counting once it has not answered.
        """
        return [
            name
            for name, health in self._health.items()
            if health.healthy is None
            or (health.healthy is False and not health.cards and not self._is_implied(name))
        ]

    def _is_implied(self, name: str) -> bool:
        return self._backends[name].upstream.implied

    def checks(self) -> dict[str, str]:
        """Return what readiness depends on: a word for each upstream that somebody configured."""
        words = {None: "unknown", True: "ok", False: "unavailable"}
        return {
            name: words[self._health[name].healthy]
            for name, backend in self._backends.items()
            if not backend.upstream.embedded and not backend.upstream.implied
        }

    def is_ready(self) -> bool:
        """Tell whether every required upstream, and at least one of those configured, answers."""
        required = [name for name, backend in self._backends.items() if backend.upstream.required]
        checks = self.checks()
        return all(checks.get(name) == "ok" for name in required) and (
            not checks or "ok" in checks.values()
        )

    def _build(self) -> Snapshot:
        targets: dict[str, list[Target]] = {}
        cards: dict[str, ModelCard] = {}
        prefixes: dict[str, str] = {}

        def file(name: str, target: Target, card: ModelCard) -> None:
            if target not in targets.setdefault(name, []):
                targets[name].append(target)
            cards.setdefault(name, card)

        for name, backend in self._backends.items():
            listed = self._health[name].cards
            for card in listed:
                model = backend.upstream.serves.get(card.id, card.id)
                file(card.id, Target(name, model), card)
            for public, model in backend.upstream.serves.items():
                file(public, Target(name, model), ModelCard(public, owned_by=name))
            if backend.open_prefix:
                prefixes.setdefault(backend.open_prefix, name)
        self._add_short_names(targets)
        self._add_upstream_names(targets)
        return Snapshot(
            self._backends, {name: tuple(found) for name, found in targets.items()}, cards, prefixes
        )

    def _add_upstream_names(self, targets: dict[str, list[Target]]) -> None:
        """Let an upstream's own name stand for its only model, as ``llama=http://…`` promises."""
        for name, backend in self._backends.items():
            listed = self._health[name].cards
            if name not in targets and not backend.upstream.implied:
                targets[name] = [Target(name, listed[0].id if len(listed) == 1 else name)]

    @staticmethod
    def _add_short_names(targets: dict[str, list[Target]]) -> None:
        """Let ``llama3`` stand for ``llama3:latest``, as Ollama itself does."""
        for name in list(targets):
            short = name.removesuffix(":latest")
            if short not in targets:
                targets[short] = targets[name]


def as_json(name: str, card: ModelCard, started_s: int) -> dict[str, Any]:
    """Return a model as OpenAI lists it; clients rely on every field being there."""
    return {
        "id": name, "object": "model", "created": card.created or started_s,
        "owned_by": card.owned_by or "upstream", **card.facts,
    }  # fmt: skip
