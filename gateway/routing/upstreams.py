"""The configured upstreams: the seeds' variables made into one set of frozen objects."""

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.backends.base import Upstream, backend_for
from gateway.backends.settings import BackendSettings
from gateway.backends.transport import Timeouts
from gateway.kernel.registry import unknown
from gateway.routing.settings import RoutingSettings

OLLAMA_URL = "http://127.0.0.1:11434"
MLX_URL = "http://127.0.0.1:10240/v1"
DEMO_MODELS = ("llama3.1:8b", "llama-3.3-8b-instruct")
"""Names in the ``curl`` lines users try first; the mock answers to them until a real model does."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def configured(
    routing: RoutingSettings, backends: BackendSettings, *, production: bool, problems: list[str]
) -> tuple[Upstream, ...]:
    """Return the upstreams in the order of preference, the embedded mock last.

    Args:
        problems: Every mistake is appended here.
    """
    urls = dict(_listed(routing.upstreams, problems))
    for name, variable, url, usual in (
        ("ollama", "OLLAMA_BASE_URL", routing.ollama_url, OLLAMA_URL),
        ("mlx", "MLX_BASE_URL", routing.mlx_url, MLX_URL),
    ):
        native = _native(name, url or usual)
        problem = _url_problem(url if "://" in url else native)
        if problem:
            problems.append(f"{variable}: {problem}")
        elif url or (routing.default_upstream == name and name not in urls):
            urls.setdefault(name, native)
    keys = dict(_pairs(routing.upstream_api_keys, "GATEWAY_UPSTREAM_API_KEYS", problems))
    # By its place, not by its name: where the name was forgotten, that is half of the key.
    problems.extend(
        f"GATEWAY_UPSTREAM_API_KEYS: entry {place} names no upstream (known: {', '.join(urls)})"
        for place, name in enumerate(keys, 1)
        if name not in urls
    )
    problems.extend(
        f"GATEWAY_UPSTREAM_API_KEYS: the key of {name!r} has characters that no header may carry"
        for name, key in keys.items()
        if not key.isascii() or not key.isprintable()
    )
    upstreams = [
        _upstream(name, url, backends, api_key=keys.get(name, "")) for name, url in urls.items()
    ]
    is_real = any(not url.startswith("mock://") for url in urls.values())
    if routing.mock == "on" or (routing.mock == "auto" and not is_real and not production):
        if not is_real and "ollama" not in urls:
            upstreams.append(
                _upstream("ollama", _native("ollama", OLLAMA_URL), backends, implied=True)
            )
        if "mock" not in urls:
            stand_ins = {} if is_real else dict.fromkeys(DEMO_MODELS, "mock")
            upstreams.append(
                _upstream("mock", "mock://local", backends, embedded=True, serves=stand_ins)
            )
    names = [upstream.name for upstream in upstreams]
    if routing.default_upstream and routing.default_upstream not in names:
        problems.append(
            f"GATEWAY_DEFAULT_UPSTREAM: {unknown('upstream', routing.default_upstream, names)}"
        )
    return tuple(upstreams)


def _upstream(name: str, url: str, backends: BackendSettings, **more: object) -> Upstream:
    return Upstream(
        name=name, url=url, timeouts=Timeouts.of(backends),
        max_response_bytes=backends.max_response_bytes, **more,  # type: ignore[arg-type]  # fields of Upstream
    )  # fmt: skip


def _native(name: str, url: str) -> str:
    """Return the URL with the scheme of the backend that a seed's variable means."""
    scheme, separator, rest = _lowered(url).partition("://")
    if not separator:
        return f"{name}://{url}"
    if name == "ollama":
        return f"ollama+https://{rest}" if scheme == "https" else f"ollama://{rest}"
    return f"{name}://{rest}" if scheme == "http" else f"{scheme}://{rest}"


def _listed(text: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    seen = set()
    for name, url in _pairs(text.replace(",", ";"), "GATEWAY_UPSTREAMS", problems):
        if not _NAME.fullmatch(name):
            problems.append(
                f"GATEWAY_UPSTREAMS: {name!r} is no upstream name; "
                "use letters, digits, '.', '_' and '-'"
            )
        elif name in seen:
            problems.append(f"GATEWAY_UPSTREAMS names {name!r} twice")
        else:
            problem = _url_problem(url)
            if problem:
                problems.append(f"GATEWAY_UPSTREAMS: {name}: {problem}")
            else:
                yield name, _lowered(url)
        seen.add(name)


def _lowered(url: str) -> str:
    """Return the URL with its scheme in small letters, so that HTTPS is not taken for HTTP."""
    scheme, separator, rest = url.partition("://")
    return scheme.lower() + separator + rest


def _url_problem(url: str) -> str:
    if "://" not in url:
        return "the address needs a scheme, such as http://"
    if "@" in url.partition("://")[2].partition("/")[0]:
        return "credentials do not belong in an address; use GATEWAY_UPSTREAM_API_KEYS"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return "the address has characters that do not belong there"
    try:
        http_url = backend_for(url).http_url(url)
    except LookupError as error:
        return str(error.args[0])
    if http_url is not None and not _has_place(http_url):
        return "the address needs a host and, if it names a port, one from 1 to 65535"
    return ""


def _has_place(http_url: str) -> bool:
    try:
        parts = urlsplit(http_url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _pairs(text: str, variable: str, problems: list[str]) -> Iterator[tuple[str, str]]:
    for place, entry in enumerate(text.replace("\n", ";").split(";"), 1):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if equals and name and value:
            yield name, value
        elif entry.strip():
            problems.append(f"{variable}: entry {place} is not of the form name=value")
