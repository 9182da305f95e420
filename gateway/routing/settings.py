"""Settings of routing: which upstreams exist and which one is the default."""

from dataclasses import dataclass

from gateway.kernel.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingSettings:
    """Where calls may go."""

    upstreams: str = setting(
        "",
        env="GATEWAY_UPSTREAMS",
        help="Upstreams as name=url, separated by ';' or ','. http(s):// is OpenAI-compatible; "
        "ollama://, mlx:// and mock:// name their backend.",
    )
    upstream_api_keys: str = setting(
        "",
        env="GATEWAY_UPSTREAM_API_KEYS",
        secret=True,
        help="Credentials the gateway shows to its upstreams, as name=key separated by ';'.",
    )
    default_upstream: str = setting(
        "",
        env="GATEWAY_DEFAULT_UPSTREAM",
        also=("DEFAULT_BACKEND",),
        help="Upstream for models that nobody lists; unset means 404 for them.",
    )
    ollama_url: str = setting(
        "", env="OLLAMA_BASE_URL", help="An Ollama server; becomes the upstream 'ollama'."
    )
    mlx_url: str = setting(
        "", env="MLX_BASE_URL", help="An MLX server; becomes the upstream 'mlx'."
    )
    mock: str = setting(
        "auto",
        env="GATEWAY_MOCK",
        choices=("auto", "on", "off"),
        help="The embedded mock upstream. auto: only while no real upstream is configured, "
        "never in production.",
    )
    refresh_s: float = setting(
        30.0,
        env="HEALTH_CHECK_INTERVAL_SEC",
        least=0.1,
        unit="s",
        help="Time between two looks at an upstream's health and model list.",
    )
    probe_timeout_s: float = setting(
        5.0,
        env="HEALTH_CHECK_TIMEOUT_SEC",
        least=0.1,
        unit="s",
        help="Longest wait for an upstream's model list.",
    )
