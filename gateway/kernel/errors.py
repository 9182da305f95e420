"""Every way a request can fail, declared once.

GatewayError                      500 internal_error
├─ InvalidRequest                 400 invalid_request
│  ├─ UnknownModel                404 model_not_found
│  └─ BodyTooLarge                413 request_too_large
├─ AuthError                      401 invalid_api_key
│  └─ NotAllowed                  403 not_allowed
├─ NotFound                       404 not_found
├─ MethodNotAllowed               405 method_not_allowed
├─ Refused                        429 rate_limit_exceeded
│  └─ Overloaded                  503 overloaded
├─ UpstreamError                  502 upstream_error            (falls back)
│  ├─ UpstreamUnreachable         503 upstream_unavailable      (falls back)
│  ├─ UpstreamReset               502 upstream_reset            (falls back)
│  ├─ UpstreamTimeout             504 upstream_timeout          (falls back)
│  ├─ UpstreamInvalid             502 upstream_invalid_response (falls back)
│  ├─ UpstreamCredential          502 upstream_auth             (falls back)
│  ├─ UpstreamBusy                429 upstream_busy             (falls back)
│  ├─ UpstreamRejected            their 4xx, passed through
│  ├─ UpstreamCut                 502 upstream_truncated        (falls back)
│  └─ NoBackend                   503 no_backend
├─ ClientGone                     499 client_gone
├─ Draining                       503 server_draining
└─ SettingsError                  start-up only, exit code 2

Status, code, type and the retry header are class attributes; nothing else here chooses them.
"""

from collections.abc import Mapping
from typing import Any

_SECRET_LENGTH = 8


class GatewayError(Exception):
    """A failure whose message may be shown to the caller.

    Args:
        message: What was wrong, what is allowed and what to do. Never a secret, a prompt, an
            upstream's address or its HTML.
        param: The request field at fault.
        code: A more precise code than the class's.
        details: Further facts for the envelope.
        retry_after_s: How long to wait, for ``Retry-After``.
    """

    status = 500
    code = "internal_error"
    type = "server_error"
    should_retry: bool | None = None
    """``x-should-retry``: None leaves the decision to the client's own rules."""
    falls_back = False
    """Whether another Target may be tried while the client has seen no content."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = dict(details) if details else None
        self.retry_after_s = retry_after_s
        if code is not None:
            self.code = code

    def hide(self, secret: str) -> None:
        """Take a secret out of everything the caller would read, wherever an upstream quoted it.

        Placeholders that some servers want as a key ("ollama", "EMPTY") are words, no secrets.
        """
        if len(secret) >= _SECRET_LENGTH:
            self.message = self.message.replace(secret, "[secret]")
            self.code = self.code.replace(secret, "[secret]")
            self.param = self.param.replace(secret, "[secret]") if self.param else self.param

    def envelope(self, request_id: str | None) -> dict[str, Any]:
        """Return the one error body of this product, ready to be encoded.

        Shape: ``{"error": {"message", "type", "param", "code", "request_id", "details"?}}``
        """
        error: dict[str, Any] = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
            "request_id": request_id,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


class InvalidRequest(GatewayError):
    """The request itself is wrong; sending it again cannot help."""

    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    should_retry = False


class UnknownModel(InvalidRequest):
    """No target serves the model that was asked for."""

    status = 404
    code = "model_not_found"


class BodyTooLarge(InvalidRequest):
    """The body is larger, deeper or richer in structure than allowed."""

    status = 413
    code = "request_too_large"


class AuthError(GatewayError):
    """The caller is not known."""

    status = 401
    code = "invalid_api_key"
    type = "authentication_error"
    should_retry = False


class NotAllowed(AuthError):
    """The caller is known and may not do this."""

    status = 403
    code = "not_allowed"
    type = "permission_error"


class NotFound(GatewayError):
    """Nothing stands at this address."""

    status = 404
    code = "not_found"
    type = "invalid_request_error"
    should_retry = False


class MethodNotAllowed(GatewayError):
    """The address exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    type = "invalid_request_error"
    should_retry = False


class Refused(GatewayError):
    """A limit stands in the way; the same request may pass later."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"


class Overloaded(Refused):
    """This process carries as many requests as it may."""

    status = 503
    code = "overloaded"
    type = "server_error"


class UpstreamError(GatewayError):
    """An upstream failed; the caller's request was fine."""

    status = 502
    code = "upstream_error"
    type = "upstream_error"
    falls_back = True


class UpstreamUnreachable(UpstreamError):
    """No connection could be made."""

    status = 503
    code = "upstream_unavailable"


class UpstreamReset(UpstreamError):
    """The connection ended before the answer began; tokens may have been spent."""

    code = "upstream_reset"
    should_retry = False


class UpstreamTimeout(UpstreamError):
    """A deadline passed: connect, first byte, idle or total."""

    status = 504
    code = "upstream_timeout"
    should_retry = False


class UpstreamInvalid(UpstreamError):
    """The upstream answered something that is not this protocol."""

    code = "upstream_invalid_response"
    should_retry = False


class UpstreamCredential(UpstreamError):
    """The upstream refused the gateway's own credential; the caller's key is fine."""

    code = "upstream_auth"
    should_retry = False


class UpstreamBusy(UpstreamError):
    """The upstream is out of capacity and said so."""

    status = 429
    code = "upstream_busy"
    type = "rate_limit_error"


class UpstreamRejected(UpstreamError):
    """The upstream refused the request as wrong; its status and meaning are passed through."""

    status = 400
    code = "upstream_rejected"
    type = "invalid_request_error"
    should_retry = False
    falls_back = False

    def __init__(self, message: str, *, status: int, code: str | None = None, **news: Any) -> None:
        super().__init__(message, code=code, **news)
        self.status = status


class UpstreamCut(UpstreamError):
    """The answer ended before the model said it was finished."""

    code = "upstream_truncated"
    should_retry = False
    falls_back = True


class NoBackend(UpstreamError):
    """Every target was tried or skipped."""

    status = 503
    code = "no_backend"
    falls_back = False


class ClientGone(GatewayError):
    """The caller closed the connection; nobody reads an answer."""

    status = 499
    code = "client_gone"
    type = "client_error"
    should_retry = False


class Draining(GatewayError):
    """This process is being replaced; another one will answer."""

    status = 503
    code = "server_draining"
    type = "server_error"


class SettingsError(GatewayError):
    """The configuration is wrong; the message lists every mistake, one a line."""

    code = "invalid_settings"
