"""The ZooKeeper session on disk, so that a restarted daemon can go on with it. Its password is a secret: mode 0600."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

log = logging.getLogger(__name__)


class SavedSession(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to resume a session, and whose it is."""

    pool: str
    identity: str
    session: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    password: str
    """Hexadecimal."""


def load(path: Path, pool: str, identity: str) -> SavedSession | None:
    """The saved session, None if there is none, it cannot be read, or it is another pool's or another name's.

    Ephemeral nodes of another name would live on as long as we kept their session.
    """
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=SavedSession)
        bytes.fromhex(saved.password)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("cannot read the saved ZooKeeper session %s, starting a new one: %s", path, error)
        return None
    return saved if (saved.pool, saved.identity) == (pool, identity) else None


def save(path: Path, saved: SavedSession) -> None:
    """Write atomically. Failing is logged, not raised: it costs an election at the next restart, no more."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(saved))
        temporary.replace(path)
    except OSError as error:
        log.warning("cannot save the ZooKeeper session to %s: %s", path, error)


def forget(path: Path) -> None:
    """Remove the saved session."""
    path.unlink(missing_ok=True)
