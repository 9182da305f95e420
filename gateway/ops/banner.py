"""What an operator reads when the gateway has started: where it listens and one line to try."""

from pathlib import Path

from gateway.auth.first_key import DIGESTS, PLAIN
from gateway.web.settings import WebSettings, address_of

_LINE = "─" * 78
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "[::1]"}


def banner(
    web: WebSettings, *, first_key: str | None, has_env_keys: bool, on_terminal: bool, model: str
) -> str:
    """Return the start-up text.

    Args:
        first_key: The admin key made just now, if one was. It is shown on a terminal only: the
            output of a container is collected and kept.
        model: A model that surely answers; empty when there is none.
    """
    key, lines = _key(Path(web.data_dir), first_key, has_env_keys=has_env_keys, shown=on_terminal)
    api = f"http://{address_of(_ANYWHERE.get(web.host, web.host), web.port)}"
    observed = address_of(
        _ANYWHERE.get(web.observability_host, web.observability_host), web.observability_port
    )
    return "\n".join([
        _LINE,
        f"Nexus Gateway   API {api}   metrics and health http://{observed}",
        _LINE,
        *lines,
        "",
        "Try:",
        "",
        *_example(api, key, model),
        "",
        "",
    ])  # fmt: skip


def _key(
    data_dir: Path, first_key: str | None, *, has_env_keys: bool, shown: bool
) -> tuple[str, list[str]]:
    """Return what stands for the key in the example, and what is said about it."""
    path = data_dir / PLAIN
    if first_key and shown:
        return first_key, ["Your admin key, shown this once:", "", f"    {first_key}"]
    if has_env_keys:
        return "$GATEWAY_KEY", ["Keys come from the settings; put one of them into $GATEWAY_KEY."]
    if path.is_file():
        where = f"Your admin key lies in {path} (readable by you only);"
        return f"$(cat {path})", [where, "delete the file once you have it."]
    lost = f"(lost? stop, delete {data_dir / DIGESTS}, start)"
    return "$GATEWAY_KEY", [f"Put your admin key into $GATEWAY_KEY {lost}."]


def _example(api: str, key: str, model: str) -> list[str]:
    if not model:
        return [f'    curl {api}/v1/models -H "Authorization: Bearer {key}"']
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
    return [
        f"    curl {api}/v1/chat/completions \\",
        f'      -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        f"      -d '{body}'",
    ]
