"""What an operator reads when the gateway has started: where it listens and one line to try."""

from pathlib import Path

from gateway.auth.first_key import PLAIN
from gateway.web.settings import WebSettings

_LINE = "─" * 78


def banner(
    web: WebSettings, *, first_key: str | None, has_env_keys: bool, on_terminal: bool
) -> str:
    """Return the start-up text.

    Args:
        first_key: The admin key made just now, if one was. It is shown on a terminal only: the
            output of a container is collected and kept.
    """
    path = Path(web.data_dir) / PLAIN
    key = "$GATEWAY_KEY"
    lines = []
    if first_key and on_terminal:
        key = first_key
        lines = ["Your admin key, shown this once:", "", f"    {first_key}", ""]
    elif first_key or path.is_file():
        key = f"$(cat {path})"
        lines = [
            (
                f"Your admin key lies in {path} (readable by you only); "
                "delete the file once you have it."
            ),
            "",
        ]
    elif has_env_keys:
        lines = ["Put one of your API keys into $GATEWAY_KEY to try:", ""]
    else:
        lines = [
            (
                "Put your admin key into $GATEWAY_KEY "
                f"(lost? stop, delete {path.parent}/keys.json, start)."
            ),
            "",
        ]
    return "\n".join([
        _LINE,
        (
            f"Nexus Gateway   API http://{web.host}:{web.port}   "
            f"metrics and health http://{web.observability_host}:{web.observability_port}"
        ),
        _LINE,
        *lines,
        "Try:",
        "",
        f"    curl http://{web.host}:{web.port}/v1/chat/completions \\",
        f'      -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\',
        """      -d '{"model": "mock", "messages": [{"role": "user", "content": "Hello!"}]}'""",
        "",
        "",
    ])  # fmt: skip
