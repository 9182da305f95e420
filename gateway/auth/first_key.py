"""The first admin key: made once, shown once, kept only as a digest.

Until keys live in a database, the digest lies in ``DATA_DIR/keys.json`` (mode 600), which all
workers of the host read.
"""

import fcntl
import os
from pathlib import Path

import orjson

from gateway.auth.keys import digest_of, new_key, public_id
from gateway.kernel.errors import SettingsError

DIGESTS = "keys.json"
PLAIN = "first_admin_key"


def stored_digests(data_dir: Path) -> dict[str, str]:
    """Return the stored keys: public id to hex digest.

    Raises:
        SettingsError: The file cannot be read, or is damaged.
    """
    path = data_dir / DIGESTS
    try:
        stored = orjson.loads(path.read_bytes())
        return {name: bytes.fromhex(digest).hex() for name, digest in stored.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"{path} is damaged; restore it, or delete it to get a new admin key."
        ) from error


def make_first_key(data_dir: Path) -> str | None:
    """Return a new admin key when there is none yet; None when one exists.

    The key is written to ``first_admin_key`` (mode 600) before its digest is, so that a crash in
    between loses nothing; of several processes that race, one makes it.

    Raises:
        SettingsError: The folder cannot be written, or its key file is damaged.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (data_dir / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if stored_digests(data_dir):
                return None
            key = new_key()
            _write(data_dir / PLAIN, key.encode() + b"\n")
            _write(data_dir / DIGESTS, orjson.dumps({public_id(key): digest_of(key).hex()}))
    except OSError as error:
        raise SettingsError(
            f"DATA_DIR={data_dir} cannot be written ({error.strerror}), so it can keep no admin "
            "key; choose another folder, or configure a key with GATEWAY_API_KEYS."
        ) from error
    return key


def forget_plain(data_dir: Path) -> None:
    """Remove the readable copy, once its owner has seen it."""
    (data_dir / PLAIN).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
