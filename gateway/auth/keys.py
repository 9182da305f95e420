"""API keys: how they are made, which ones the environment names, and how one is looked up."""

import binascii
import hashlib
import secrets
import string
from collections.abc import Iterable, Mapping

import orjson

from gateway.auth.settings import AuthSettings
from gateway.kernel.call import Principal

SCOPES = frozenset({"chat", "embeddings", "models", "metrics"})
ADMIN_SCOPES = SCOPES | {"admin"}
KNOWN_DEMO_KEYS = frozenset(
    "dev-key sk-test-key-123 sk-admin-key-456 sk-dev-key-789 change-me change-me-in-production "
    "your-secret-token test-token secret sk-1234".split()
)
"""Keys that stand in public READMEs; anyone knows them."""
SHORTEST_KEY = 32
LEAST_VARIETY = 8
"""Different characters in a key; 32 random hexadecimal digits have fewer once in a million keys."""
_ALPHABET = string.digits + string.ascii_letters
_PREFIX = "nxs"


def new_key() -> str:
    """Return ``nxs_<public id>_<secret>_<checksum>``: 190 random bits, known to leak scanners."""
    public, secret = (_random(length) for length in (8, 32))
    return f"{_PREFIX}_{public}_{secret}_{_checksum(public + secret)}"


def is_well_formed(key: str) -> bool:
    """Tell whether a key has our form and an intact checksum, without asking any store."""
    parts = key.split("_")
    if len(parts) != 4:  # noqa: PLR2004  # prefix, public id, secret, checksum
        return False
    return parts[0] == _PREFIX and parts[3] == _checksum(parts[1] + parts[2])


def public_id(key: str) -> str:
    """Return the name under which a key may be logged."""
    return key.split("_")[1] if is_well_formed(key) else f"env-{digest_of(key).hex()[:8]}"


def digest_of(key: str) -> bytes:
    """Return what is kept of a key. Keys are random, so one fast hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class KeyRing:
    """The keys that may call.

    A look-up costs the same for one key and for a million, and compares digests of secrets, so its
    time tells nothing about the keys.

    Shared: Read-only after construction.
    """

    def __init__(self, principals: Mapping[bytes, Principal]) -> None:
        self._principals = dict(principals)

    def find(self, key: str) -> Principal | None:
        """Return who holds a key; None when nobody does."""
        return self._principals.get(digest_of(key))

    def __len__(self) -> int:
        """Return how many keys there are."""
        return len(self._principals)


def from_environment(settings: AuthSettings) -> tuple[str, ...]:
    """Return every key that a setting names, in order, once each."""
    found: dict[str, None] = {}
    for text in (
        settings.bearer_token,
        settings.bearer_tokens,
        settings.gateway_api_keys,
        settings.api_keys,
    ):
        found.update(dict.fromkeys(_split(text)))
    return tuple(found)


def key_ring(keys: Iterable[str], admin_digests: Mapping[str, str]) -> KeyRing:
    """Return the ring of the environment's and the stored admin keys (public id to hex digest)."""
    principals = {digest_of(key): Principal(public_id(key), SCOPES) for key in keys}
    for name, digest in admin_digests.items():
        principals[bytes.fromhex(digest)] = Principal(name, ADMIN_SCOPES)
    return KeyRing(principals)


def weak_keys(keys: Iterable[str]) -> list[str]:
    """Return a line for each key that is short or publicly known, naming it by its digest only."""
    lines = []
    for key in keys:
        if key.startswith("["):
            lines.append(f"API key {public_id(key)} begins with '['; was a JSON list meant?")
        elif key in KNOWN_DEMO_KEYS:
            lines.append(f"API key {public_id(key)} stands in a public README; anyone can use it")
        elif len(key) < SHORTEST_KEY:
            lines.append(
                f"API key {public_id(key)} has fewer than {SHORTEST_KEY} characters; "
                "it can be guessed"
            )
        elif len(set(key)) < LEAST_VARIETY:
            lines.append(f"API key {public_id(key)} repeats a few characters; it can be guessed")
    return lines


def _split(text: str) -> list[str]:
    if text.startswith("["):
        try:
            listed = orjson.loads(text)
        except orjson.JSONDecodeError:
            listed = None
        if isinstance(listed, list):
            return [item.strip() for item in listed if isinstance(item, str) and item.strip()]
    return [
        part.strip()
        for part in text.replace(";", ",").replace("\n", ",").split(",")
        if part.strip()
    ]


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(text: str) -> str:
    value = binascii.crc32(text.encode("ascii", "replace"))
    digits = ""
    for _ in range(6):
        value, place = divmod(value, len(_ALPHABET))
        digits = _ALPHABET[place] + digits
    return digits
