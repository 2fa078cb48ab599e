"""A certificate authority for labs and tests, by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from proxypool.lab.errors import LabError

VALID_DAYS = 2
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates that it makes in a folder."""

    def __init__(self, folder: Path) -> None:
        """Make it. `LabError` when openssl cannot."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self.certificate, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-days", str(VALID_DAYS)),
            *("-subj", "/CN=authority of a lab", "-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )

    def issue(self, name: str, *names: str) -> Identity:
        """A certificate of this name, for these names: `DNS:localhost`, `IP:127.0.0.1`. `LabError` as above."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(names)}\n" if names else "basicConstraints=CA:FALSE\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial"),
            *("-days", str(VALID_DAYS), "-extfile", extensions, "-out", certificate),
        )
        key.chmod(0o600)
        return Identity(certificate, key)


def _openssl(*words: str | Path) -> None:
    try:
        done = subprocess.run(["openssl", *map(str, words)], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        raise LabError("certificates need openssl: apt-get install openssl") from None
    if done.returncode:
        raise LabError(f"openssl {words[0]} failed: {done.stderr.strip()[-500:]}")
