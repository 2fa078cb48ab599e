"""Who we tell ZooKeeper that we are, and how we make sure that it is ZooKeeper: the digest user, the host's key, TLS.

kazoo writes what it sends into its log when that is verbose, secrets included: see `redact`.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from proxypool.adapters.secret_file import make_secret, read_secret
from proxypool.adapters.tls import client_context
from proxypool.core.access import HOST, MACHINE, AccessRole, digest_of
from proxypool.core.config import ZooKeeperConfig

SCHEME = "digest"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a session says of itself."""

    user: AccessRole | None = None
    digest: str = ""
    """Of the user and its secret."""
    owner: str = ""
    """Of the key of this machine, by which its entries are its own; empty: it has none."""
    _secrets: tuple[str, ...] = field(default=(), repr=False)

    def as_auth_data(self) -> set[tuple[str, str]]:
        """As kazoo wants it."""
        return {(SCHEME, secret) for secret in self._secrets}


def read_credentials(config: ZooKeeperConfig, key: Path | None) -> Credentials:
    """What the configuration says; nobody, if it says nothing. `key`: where a host keeps its own, made if need be.

    Raises:
        AccessDenied: a secret cannot be read, or others could read it.
    """
    if config.user is None or config.secret_file is None:
        return Credentials()
    secret = read_secret(config.secret_file)
    said, owner = [f"{config.user}:{secret}"], ""
    if key is not None and config.user is HOST:
        own = read_secret(str(key)) if key.exists() else _make(key)
        said.append(f"{MACHINE}:{own}")
        owner = digest_of(MACHINE, own)
    return Credentials(config.user, digest_of(config.user, secret), owner, tuple(said))


def _make(key: Path) -> str:
    key.parent.mkdir(parents=True, exist_ok=True)
    return make_secret(key)


def tls_context(config: ZooKeeperConfig) -> Callable[[], ssl.SSLContext] | None:
    """Makes what each connection is protected by, from the files as they are then; None: no TLS.

    Raises:
        PermanentError: the files cannot be used now.
        AccessDenied: others could read the key.
    """
    authorities = config.tls_ca
    if authorities is None:
        return None

    make = partial(client_context, authorities, config.tls_cert, config.tls_key)
    make()
    return make


def redact(record: logging.LogRecord) -> bool:
    """A filter of kazoo's logger: what it sends to say who we are is not written."""
    if record.name and isinstance(record.args, tuple):
        record.args = tuple("Auth(***)" if type(one).__name__ == "Auth" else one for one in record.args)
    if "passwd" in str(record.msg):
        record.msg, record.args = "(a session's password is not written)", ()
    return True
