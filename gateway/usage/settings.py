"""Settings of metrics."""

from dataclasses import dataclass

from gateway.kernel.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSettings:
    """What is counted."""

    metrics_enabled: bool = setting(
        True, env="METRICS_ENABLED", help="Serve /metrics; off answers 404 there."
    )
