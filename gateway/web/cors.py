"""Cross-origin access for browsers: off unless origins are listed."""

from typing import Any

from gateway.web.incoming import Headers, Outgoing
from gateway.web.settings import WebSettings

EXPOSED = ", ".join(
    "x-request-id x-ratelimit-limit-requests x-ratelimit-limit-tokens "
    "x-ratelimit-remaining-requests x-ratelimit-remaining-tokens "
    "x-ratelimit-reset-requests x-ratelimit-reset-tokens "
    "retry-after retry-after-ms x-should-retry X-Backend-Used X-Model-Used X-Router-Reason".split()
)
"""Headers that browser code may read; without this list it sees none of them."""
_PREFLIGHT_CACHE_S = "600"
_MOST_ASKED = 1024


class Cors:
    """Answers preflights and marks answers for the origins that ``ALLOWED_ORIGINS`` lists."""

    def __init__(self, settings: WebSettings) -> None:
        self._origins = frozenset(settings.allowed_origins)
        self._credentials = settings.cors_credentials
        self.enabled = bool(self._origins)

    def headers(self, environ: dict[str, Any]) -> Headers:
        """Return the headers of an answer to this request."""
        headers = [("Vary", "Origin")]
        origin = environ.get("HTTP_ORIGIN", "")
        if "*" in self._origins:
            headers.append(("Access-Control-Allow-Origin", "*"))
        elif origin in self._origins:
            headers.append(("Access-Control-Allow-Origin", origin))
        else:
            return headers
        headers.append(("Access-Control-Expose-Headers", EXPOSED))
        if self._credentials:
            headers.append(("Access-Control-Allow-Credentials", "true"))
        return headers

    def preflight(self, environ: dict[str, Any]) -> Outgoing:
        """Return the answer to an OPTIONS request; an unlisted origin gets no permission."""
        asked = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
        headers = [("Access-Control-Allow-Methods", "GET, POST, DELETE"),
                   ("Access-Control-Max-Age", _PREFLIGHT_CACHE_S)]  # fmt: skip
        if asked.isascii() and asked.isprintable() and len(asked) <= _MOST_ASKED:
            headers.append(("Access-Control-Allow-Headers", asked))
        return Outgoing(204, headers, ())
