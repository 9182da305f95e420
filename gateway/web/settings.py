"""Settings of the edge: ports, sizes, deadlines, CORS."""

from dataclasses import dataclass

from gateway.kernel.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """How requests come in."""

    environment: str = setting(
        "development",
        env="GATEWAY_ENV",
        choices=("development", "production"),
        help="In production weak settings stop the start and the embedded mock is off.",
    )
    host: str = setting("127.0.0.1", env="GATEWAY_HOST", help="Address of the API.")
    port: int = setting(8800, env="GATEWAY_PORT", least=1, most=65_535, help="Port of the API.")
    observability_host: str = setting(
        "127.0.0.1", env="OBSERVABILITY_HOST", help="Address of metrics and health."
    )
    observability_port: int = setting(
        8801,
        env="OBSERVABILITY_PORT",
        least=1,
        most=65_535,
        help="Port of metrics and health, without authentication.",
    )
    workers: int | None = setting(
        None,
        env="WEB_CONCURRENCY",
        also=("MAX_WORKERS",),
        least=1,
        help="Worker processes; unset means one for each processor.",
    )
    worker_connections: int = setting(
        2000,
        env="GATEWAY_WORKER_CONNECTIONS",
        least=10,
        unit="connections",
        help="Open connections a worker keeps; beyond it a caller gets 503 at once.",
    )
    max_in_flight: int = setting(
        1500,
        env="GATEWAY_MAX_IN_FLIGHT",
        least=1,
        unit="requests",
        help="Requests a worker carries at once, streams included; "
        "beyond it a caller gets 503 at once.",
    )
    graceful_timeout_s: int = setting(
        35,
        env="GATEWAY_GRACEFUL_TIMEOUT_SECONDS",
        least=1,
        unit="s",
        help="Time a stopping worker has for the requests it carries.",
    )
    max_request_bytes: int = setting(
        20_971_520,
        env="MAX_REQUEST_BYTES",
        least=1,
        unit="bytes",
        help="Largest request body; beyond it 413.",
    )
    body_timeout_s: float = setting(
        30.0,
        env="GATEWAY_BODY_TIMEOUT_SECONDS",
        least=0.1,
        unit="s",
        help="Longest wait for a request body to arrive.",
    )
    write_timeout_s: float = setting(
        30.0,
        env="GATEWAY_WRITE_TIMEOUT_SECONDS",
        least=0.1,
        unit="s",
        help="Longest time a client may leave an answer unread before its connection is closed.",
    )
    heartbeat_s: float = setting(
        15.0,
        env="GATEWAY_HEARTBEAT_SECONDS",
        least=0.1,
        unit="s",
        help="Silence after which a stream carries a comment to keep the connection open.",
    )
    allowed_origins: tuple[str, ...] = setting(
        (),
        env="ALLOWED_ORIGINS",
        help="Browser origins that may call the API; empty turns CORS off.",
    )
    cors_credentials: bool = setting(
        False,
        env="GATEWAY_CORS_ALLOW_CREDENTIALS",
        help="Let browsers send credentials across origins.",
    )
    data_dir: str = setting("data", env="DATA_DIR", help="Folder for what must survive a restart.")
    log_level: str = setting(
        "INFO",
        env="GATEWAY_LOG_LEVEL",
        also=("LOG_LEVEL",),
        choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        help="Least severe event that is logged.",
    )


def address_of(host: str, port: int) -> str:
    """Return ``host:port`` as servers and URLs want it; an IPv6 address needs brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def problems_of(settings: WebSettings) -> list[str]:
    """Return what is wrong with these settings taken together, one line each."""
    problems = []
    if "*" in settings.allowed_origins and settings.cors_credentials:
        problems.append(
            "ALLOWED_ORIGINS=* with GATEWAY_CORS_ALLOW_CREDENTIALS=true: "
            "any site could act for a user; list the origins instead"
        )
    if settings.max_in_flight >= settings.worker_connections:
        problems.append(
            "GATEWAY_MAX_IN_FLIGHT must be smaller than GATEWAY_WORKER_CONNECTIONS, "
            "or a full worker cannot say that it is full"
        )
    if settings.port == settings.observability_port:
        problems.append(
            "GATEWAY_PORT and OBSERVABILITY_PORT are the same; only the port tells requests apart"
        )
    return problems
