"""Step 2 of a request: who is calling, and may they do this."""

from collections.abc import Callable

from gateway.auth.credentials import credential_of
from gateway.auth.keys import KeyRing
from gateway.kernel.errors import AuthError, NotAllowed
from gateway.web.incoming import Incoming


class KeyGuard:
    """Admits callers by API key.

    Args:
        failed: Told the code of each refusal, to be counted.

    Shared: One a process; ``ring`` is replaced whole when keys change.
    """

    def __init__(self, ring: KeyRing, failed: Callable[[str], None]) -> None:
        self.ring = ring
        self._failed = failed

    def admit(self, incoming: Incoming, scope: str) -> None:
        """Set the request's principal.

        Raises:
            AuthError: No credential, or one that nobody holds. Unknown, expired and malformed keys
                get the same answer.
            NotAllowed: The caller lacks the scope.
            InvalidRequest: Two different credentials.
        """
        try:
            principal = self.ring.find(credential_of(incoming))
            if principal is None:
                raise AuthError("This API key is not valid.")
            if not principal.may(scope):
                raise NotAllowed(f"This API key may not use {scope!r} endpoints.")
        except AuthError as error:
            self._failed(error.code)
            raise
        incoming.principal = principal
        incoming.facts["principal"] = principal.key_id
