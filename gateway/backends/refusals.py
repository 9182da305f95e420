"""What an upstream's refusal means, in whatever shape, told without the upstream's secrets."""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from gateway.backends.transport import Response
from gateway.kernel.clock import utc_now
from gateway.kernel.errors import (
    UpstreamBusy,
    UpstreamCredential,
    UpstreamError,
    UpstreamInvalid,
    UpstreamRejected,
    UpstreamTimeout,
)

RETRY_AFTER_LIMIT_S = 120.0
_MESSAGE_LIMIT = 500
_READ_LIMIT = 1_000
"""The patterns look no further: 64 KB of ``a.a.a.`` would hold the hub for half a minute."""
_REDIRECTS = range(300, 400)
_REJECTIONS = range(400, 500)
_FAILURES = range(400, 600)
_BAD_CREDENTIAL = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NOT_SERVED = frozenset({
    HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED,
})  # fmt: skip
_ADDRESS = re.compile(
    r"""(?i)\b[a-z][a-z0-9+.-]{0,20}://[^\s"'<>),]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"""
    r"|\b[\w.-]{1,100}:\d{2,5}\b|\[?(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{1,4}\b(?:\](?::\d+)?)?"
    r"|\blocalhost\b|\b(?:[\w-]{1,63}\.){1,8}(?:local|internal|lan|corp|intranet|svc|cluster|com"
    r"|net|org|io|dev|ai|app|cloud|co|uk|eu|us|de|fr|ch|nl|cn|jp|in)\b"
)
_SECRET = re.compile(
    r"\b(?:sk|pk|rk|key|nxs|hf|gsk|xai)[-_][\w*-]{6,}|\bAIza[\w-]{10,}|\bAKIA[A-Z0-9]{8,}"
    r"""|\b(?i:api[-_]?key)["'\s:=]+[^\s"',)]{6,}"""
    r"""|\b(?i:bearer)\s+[^\s"'),]+|\beyJ[\w-]+\.[\w.-]+"""
)
_PATH = re.compile(r"""(?<![\w/])/(?:[\w.-]+/)+[\w.@-]*|\b[A-Za-z]:\\[^\s"'<>),]+""")
_HTML = re.compile(r"(?i)<(?:!doctype|/?(?:html|head|body|title|div|p|h\d|br|hr|center|script))\b")
_CONTEXT = re.compile(
    r"(?i)context[ _-]?(?:length|window|size)|maximum (?:context|prompt|input)"
    r"|too many tokens|prompt is too long"
)
_NO_MODEL = re.compile(
    r"(?i)model\b.*\b(?:not (?:found|exist|available|loaded|supported)|unknown|pinned)"
    r"|(?:unknown|invalid) model|no such model|not found.*\bmodel\b|pinned to "
    r"|cached snapshot folder"
)
_NOTHING_SAID = re.compile(
    r"(?i)|(?:404:? )?(?:the requested )?(?:url|resource|path|page|route|method|endpoint)?\W*"
    r"(?:was |is )?not (?:found|allowed|implemented|supported)\W*.{0,60}"
)
"""What servers say of an address they do not know; anything else is about the caller's request."""
_POLICY = re.compile(r"(?i)content[ _-]?(?:filter|policy|management)")


def check(response: Response) -> None:
    """Close an answer that is no plain 200, and raise what it means.

    Raises:
        UpstreamError: The refusal, or that the answer is compressed.
    """
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    if response.status == HTTPStatus.OK and is_plain:
        return
    try:
        if response.status == HTTPStatus.OK:
            raise UpstreamInvalid(
                "The upstream compressed its answer although it was asked not to."
            )
        raise refusal_of(response.status, response.headers, response.read_refusal())
    finally:
        response.close()


def refusal_of(status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
    """Return the error for an answer that is not 2xx.

    Shape: understands ``{"error": {…}}``, ``{"error": "…"}``, ``[{"error": …}]``,
    ``{"detail": "…"}``, ``{"detail": [{"loc", "msg"}]}``, ``{"message": "…"}``, plain text, HTML,
    an event-stream body, an empty body and redirects.
    """
    message, code, param = _words(body, headers.get("content-type", ""))
    return classify(status, message, code, param, retry_after(headers))


def classify(
    status: int, message: str, code: str | None, param: str | None, retry_after_s: float | None
) -> UpstreamError:
    """Return the error for an upstream status and what the upstream said."""
    details = {"upstream_status": status}
    if status in _BAD_CREDENTIAL:
        return UpstreamCredential("The upstream refused the gateway's credential.", details=details)
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return UpstreamCredential("The gateway's account at the upstream is out of credit.",
                                  code="upstream_quota", details=details)  # fmt: skip
    if status == HTTPStatus.TOO_MANY_REQUESTS or (
        status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after_s is not None
    ):
        return UpstreamBusy("The upstream is out of capacity; try again later.",
                            retry_after_s=retry_after_s or 1.0, details=details)  # fmt: skip
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return UpstreamTimeout("The upstream gave up waiting.", details=details)
    if status in _REDIRECTS:
        return UpstreamInvalid("The upstream answered with a redirect, which is never followed; "
                               "check its configured URL.", details=details)  # fmt: skip
    if status in _REJECTIONS:
        return _rejected(status, message, code, param)
    return UpstreamError(f"The upstream failed with status {status}.", details=details)


def _rejected(status: int, message: str, code: str | None, param: str | None) -> UpstreamError:
    text = f"{code or ''} {message}"[:_READ_LIMIT]
    param = scrub(param or "") or None
    shown = scrub(message) or f"The upstream refused the request with status {status}."
    if _CONTEXT.search(text):
        return UpstreamRejected(shown, status=400, code="context_length_exceeded", param=param)
    if _POLICY.search(text):
        return UpstreamRejected(shown, status=400, code="content_filter", param=param)
    if _NO_MODEL.search(text) or code == "model_not_found":
        return UpstreamRejected(shown, status=404, code="model_not_found", param="model")
    if status in _NOT_SERVED and _NOTHING_SAID.fullmatch(message.strip()):
        return UpstreamInvalid(
            "The upstream does not serve this endpoint; check its configured URL.",
            details={"upstream_status": status},
        )
    return UpstreamRejected(shown, status=status, code=scrub(code or "") or None, param=param)


def in_band(error: Any) -> UpstreamError:
    """Return the error for an ``error`` member inside a stream or a 200 answer."""
    message, code, param = _from_error(error)
    message = message[:_READ_LIMIT]
    status = HTTPStatus.BAD_GATEWAY.value
    if isinstance(error, dict):
        for name in ("code", "status", "status_code"):
            value = error.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value in _FAILURES:
                status = value
    if status == HTTPStatus.BAD_GATEWAY and (
        _CONTEXT.search(f"{code} {message}") or _POLICY.search(f"{code} {message}")
    ):
        status = HTTPStatus.BAD_REQUEST.value
    return classify(status, message, code, param, None)


def scrub(text: str) -> str:
    """Return a message without addresses, credentials and paths, at most 500 characters.

    Nothing is left of an HTML page.
    """
    text = text[:_READ_LIMIT]
    if _HTML.search(text):
        return ""
    for pattern, word in ((_SECRET, "[secret]"), (_ADDRESS, "[address]"), (_PATH, "[path]")):
        text = pattern.sub(word, text)
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_LIMIT else text[: _MESSAGE_LIMIT - 1] + "…"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an upstream asked to wait, at most 120."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, RETRY_AFTER_LIMIT_S)
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError, TypeError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max((when - utc_now()).total_seconds(), 0.0), RETRY_AFTER_LIMIT_S)


def _words(body: bytes, content_type: str) -> tuple[str, str | None, str | None]:
    text = body.strip()
    if text.startswith(b"data:"):
        text = text[5:].split(b"\n", 1)[0].strip()
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        plain = text.decode("utf-8", "replace")
        shown = "" if "<" in plain or "html" in content_type or "\n" in plain else plain
        return shown, None, None
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return (document if isinstance(document, str) else ""), None, None
    return _from_error(document.get("error") or document.get("detail") or document)


def _from_error(error: Any) -> tuple[str, str | None, str | None]:
    """Return message, code and param of an error in any of the shapes seen."""
    if isinstance(error, str):
        return error, None, None
    if isinstance(error, list):
        said = [_validation(item) for item in error[:3] if isinstance(item, dict)]
        return "; ".join(message for message, _ in said), None, said[0][1] if said else None
    if not isinstance(error, dict):
        return "", None, None
    message = error.get("message") or error.get("msg") or ""
    names = (error.get("code"), error.get("type"))
    code = next((name for name in names if name and isinstance(name, str)), None)
    param = error.get("param")
    return (
        message if isinstance(message, str) else "",
        code,
        param if isinstance(param, str) else None,
    )


def _validation(item: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return what a schema check said and where, without the input it quotes."""
    place = item.get("loc")
    where = (
        ".".join(str(part) for part in place if part != "body") if isinstance(place, list) else ""
    )
    message = item.get("msg")
    text = message if isinstance(message, str) else "invalid"
    return (f"{where}: {text}" if where else text), where or None
