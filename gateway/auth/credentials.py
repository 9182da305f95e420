"""Finds the one credential of a request, however it was sent."""

from gateway.kernel.errors import AuthError, InvalidRequest
from gateway.web.incoming import Incoming


def credential_of(incoming: Incoming) -> str:
    """Return the secret in ``Authorization: Bearer`` or ``X-API-Key``.

    Raises:
        AuthError: There is none.
        InvalidRequest: There are two, and they differ: which one counts must not be a guess.
    """
    offered = incoming.header("HTTP_AUTHORIZATION") or ""
    scheme, _, bearer = offered.strip().partition(" ")
    bearer = bearer.strip() if scheme.lower() == "bearer" else ""
    key = (incoming.header("HTTP_X_API_KEY") or "").strip()
    if bearer and key and bearer != key:
        raise InvalidRequest("Authorization and X-API-Key carry different credentials; send one.",
                             code="two_credentials")  # fmt: skip
    if not bearer and not key:
        raise AuthError(
            "No API key was sent; use 'Authorization: Bearer <key>' or 'X-API-Key: <key>'.",
            code="missing_api_key",
        )
    found = bearer or key
    if not found.isascii():
        # WSGI hands bytes over as Latin-1; the environment's keys were read as UTF-8.
        return found.encode("latin-1").decode("utf-8", "surrogateescape")
    return found
