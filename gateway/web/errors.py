"""Every failure becomes the same JSON envelope here, whoever raised it."""

from typing import Any

import orjson
from werkzeug.exceptions import HTTPException

from gateway.kernel.errors import (
    AuthError,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from gateway.web.incoming import Headers, Outgoing


def translate(error: Exception) -> GatewayError:
    """Return our own error for anything that reached the edge."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, HTTPException):
        return _from_werkzeug(error)
    return GatewayError("An internal error happened; it has been logged under this request id.")


def _from_werkzeug(error: HTTPException) -> GatewayError:
    status = error.code or 500
    if status == NotFound.status:
        return NotFound("Nothing is served at this address; GET / lists what is.")
    if status == MethodNotAllowed.status:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return MethodNotAllowed(
            f"This address does not take that method; it takes {allowed}.",
            details={"allowed": allowed},
        )
    if status < 500:  # noqa: PLR2004  # the border between the caller's mistakes and ours
        refusal = InvalidRequest(error.description or error.name)
        refusal.status = status
        return refusal
    return GatewayError("An internal error happened; it has been logged under this request id.")


def headers_of(error: GatewayError) -> Headers:
    """Return the headers by which clients decide what to do about an error."""
    headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
    if error.status == AuthError.status:
        headers.append(("WWW-Authenticate", "Bearer"))
    if error.status == MethodNotAllowed.status and error.details:
        headers.append(("Allow", error.details["allowed"]))
    if error.should_retry is not None:
        headers.append(("x-should-retry", "true" if error.should_retry else "false"))
    if error.retry_after_s is not None:
        headers.append(("Retry-After", str(max(1, -int(-error.retry_after_s // 1)))))
        headers.append(("retry-after-ms", str(int(error.retry_after_s * 1000))))
    return headers


def encode(error: GatewayError, request_id: str | None) -> bytes:
    """Return the envelope as JSON text."""
    envelope: dict[str, Any] = error.envelope(request_id)
    return orjson.dumps(envelope)


def refusal(error: GatewayError, request_id: str) -> Outgoing:
    """Return the whole answer for an error."""
    return Outgoing(error.status, headers_of(error), (encode(error, request_id),))
