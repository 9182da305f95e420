"""Settings of authentication: the keys that come from the environment."""

from dataclasses import dataclass

from gateway.kernel.settings import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Who may call."""

    bearer_token: str = setting("", env="GATEWAY_BEARER_TOKEN", secret=True, help="One API key.")
    bearer_tokens: str = setting(
        "", env="GATEWAY_BEARER_TOKENS", secret=True, help="API keys, separated by ','."
    )
    gateway_api_keys: str = setting(
        "",
        env="GATEWAY_API_KEYS",
        secret=True,
        help="API keys, separated by ',' or ';', or a JSON list.",
    )
    api_keys: str = setting("", env="API_KEYS", secret=True, help="API keys, separated by ','.")
