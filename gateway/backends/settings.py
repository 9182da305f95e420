"""Settings of the way to the upstreams: time-outs, sizes, TLS."""

from dataclasses import dataclass

from gateway.kernel.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """How upstreams are spoken to."""

    connect_timeout_s: float = setting(
        2.0,
        env="GATEWAY_CONNECT_TIMEOUT_SECONDS",
        least=0.01,
        unit="s",
        help="Longest wait for a connection to an upstream.",
    )
    first_byte_timeout_s: float = setting(
        60.0,
        env="GATEWAY_FIRST_BYTE_TIMEOUT_SECONDS",
        least=0.01,
        unit="s",
        help="Longest wait for a stream's first byte; the total bounds other answers.",
    )
    idle_timeout_s: float = setting(
        30.0,
        env="GATEWAY_IDLE_TIMEOUT_SECONDS",
        least=0.01,
        unit="s",
        help="Longest silence inside an answer.",
    )
    total_timeout_s: float = setting(
        600.0,
        env="GATEWAY_REQUEST_TIMEOUT_SECONDS",
        also=("TIMEOUT_SECONDS",),
        least=0.01,
        unit="s",
        help="Longest time for a whole answer, attempts included.",
    )
    max_response_bytes: int = setting(
        33_554_432,
        env="GATEWAY_MAX_RESPONSE_BYTES",
        least=1024,
        unit="bytes",
        help="Largest answer that is not streamed.",
    )
    verify_tls: bool = setting(
        True, env="BACKEND_VERIFY_TLS", help="Check the certificates of upstreams."
    )
    ca_bundle: str = setting(
        "", env="BACKEND_CA_BUNDLE", help="File of authorities that upstreams may use."
    )
    client_cert: str = setting(
        "", env="BACKEND_CLIENT_CERT", help="Our certificate for upstreams: 'pem' or 'cert,key'."
    )
