"""An authority of our own, a server certificate for ``localhost`` and one for a client."""

import subprocess
from pathlib import Path

_NEW_KEY = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -batch"


def make_certificates(folder: Path) -> None:
    """Write ``ca.pem``, ``server.pem`` and ``client.pem``, each with a ``.key`` beside it."""
    _openssl(folder, f"{_NEW_KEY} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem")
    (folder / "names").write_text("subjectAltName=DNS:localhost\n")
    for name in ("server", "client"):
        _openssl(folder, f"{_NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        _openssl(
            folder,
            f"x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
            f"-extfile names -out {name}.pem",
        )


def _openssl(folder: Path, arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)
