"""What can go wrong with ZooKeeper, as proxypool's two families of errors. kazoo's own never leave this package."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kazoo.exceptions import (
    AuthFailedError,
    BadVersionError,
    InvalidACLError,
    KazooException,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)
from kazoo.handlers.threading import KazooTimeoutError

from proxypool.core.errors import AccessDenied, PermanentError, TransientError

__all__ = [
    "Conflict",
    "LayoutTooNew",
    "NameInUse",
    "NotFound",
    "PoolMissing",
    "ZooKeeperUnreachable",
    "translated",
]


SIMILAR = 0.5
"""How like a name must be to be suggested; p1 and p2 are."""


class ZooKeeperUnreachable(TransientError):
    """No server answered in time."""


class Conflict(TransientError):
    """Others changed the pool again and again while we tried to."""


class PoolMissing(TransientError):
    """The pool was not initialised yet: a daemon waits for it, a user is told how to."""


class LayoutTooNew(PermanentError):
    """The pool was written by a later proxypool, in a layout that this one does not know."""


class NameInUse(PermanentError):
    """Another living machine has the name this one was given."""


class NotFound(PermanentError):
    """There is no such subnet, pair, node or host."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "", near: int = 1) -> None:
        """`where` reads like "in subnet s1"; `known` are the names that would do, of which `near` are suggested."""
        names = sorted(known)
        alike = difflib.get_close_matches(name.lower(), names, n=near, cutoff=SIMILAR)
        if alike:
            hint = f"did you mean {' or '.join(', '.join(alike).rsplit(', ', 1))}?"
        elif names:
            hint = f"known: {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"  # noqa: PLR2004 - one line
        else:
            hint = "there is none yet"
        super().__init__(f"there is no {kind} {name!r}{f' {where}' if where else ''}: {hint}")


@contextmanager
def translated() -> Iterator[None]:
    """Turn kazoo's errors into ours; those that say what the tree looks like pass, for callers in this package.

    Raises:
        TransientError: the connection broke or the answer is late.
        AccessDenied: ZooKeeper refuses it to whom we say we are.
    """
    try:
        yield
    except (NoNodeError, NodeExistsError, BadVersionError, NotEmptyError):
        raise
    except (NoAuthError, AuthFailedError, InvalidACLError) as error:
        raise AccessDenied(
            f"ZooKeeper refuses access ({type(error).__name__}): it takes another user, or another secret, than what "
            "zookeeper.user and zookeeper.secret_file of the configuration say"
        ) from error
    except KazooTimeoutError as error:
        raise TransientError("ZooKeeper does not answer in time") from error
    except KazooException as error:
        raise TransientError(f"the connection to ZooKeeper broke ({type(error).__name__})") from error
