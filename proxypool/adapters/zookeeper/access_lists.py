"""Access lists of what we make, from the pool's own document about who may use it.

The document is read with the first node that we make on a connection, and again when it changes. Where there is none,
or we say nothing of who we are, nodes are made without lists, as they were before there was such a thing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Protocol

from kazoo.exceptions import NoNodeError
from kazoo.security import ACL, Id

from proxypool.adapters.zookeeper.credentials import Credentials
from proxypool.adapters.zookeeper.layout import Layout
from proxypool.core import access
from proxypool.core.access import Access, Grant, Rule
from proxypool.core.documents import decode
from proxypool.core.states import Coordinator

_BITS = {"r": 1, "w": 2, "c": 4, "d": 8, "a": 16}


class Session(Protocol):
    """What is needed of a session."""

    @property
    def client(self) -> Any:
        """kazoo's."""

    def wait(self, result: Any) -> Any:
        """Of one of its calls."""


class AccessLists:
    """See the module's text. Used from any thread."""

    def __init__(self, layout: Layout, credentials: Credentials) -> None:
        """Nothing is read."""
        self._layout, self._credentials = layout, credentials
        self._lock = threading.Lock()
        self._known: tuple[Access | None] | None = None
        self._turn = 0
        """So many times something made us forget."""

    def on_link(self, state: Coordinator, _session: int | None) -> None:
        """The connection changed, and watches with it."""
        if state is Coordinator.CONNECTED:
            self._forget()

    def _forget(self, _event: Any = None) -> None:
        with self._lock:
            self._known = None
            self._turn += 1

    def current(self, session: Session) -> Access | None:
        """Who may use the pool; None: everybody, or it does not matter.

        Raises:
            TransientError: the connection broke.
            AccessDenied: we may not know.
            InvalidInput: the document cannot be read.
        """
        if self._credentials.user is None:
            return None
        with self._lock:
            known, turn = self._known, self._turn
        if known is not None:
            return known[0]
        found = self._read(session)
        with self._lock:
            if self._turn == turn:
                self._known = (found,)
        return found

    def _read(self, session: Session) -> Access | None:
        path = self._layout.path(access.ACCESS)
        if session.wait(session.client.exists_async(path, watch=self._forget)) is None:
            return None
        try:
            data, _ = session.wait(session.client.get_async(path, watch=self._forget))
        except NoNodeError:
            return None
        return decode(data, Access, what=path)

    def of(self, session: Session, path: str) -> list[ACL] | None:
        """The list of a node that we make; None: none. Raises what `current` does."""
        current = self.current(session)
        rule = self._rule(path)
        if current is None or rule is None:
            return None
        return acl_of(access.grants_of(rule, current, self._credentials.owner))

    def is_held(self, session: Session, path: str) -> bool:
        """Whether a node that we make gets a child that keeps others from deleting it. Raises what `current` does."""
        rule = self._rule(path)
        return rule is not None and rule.is_held and self.current(session) is not None

    def bytes_of(self, session: Session) -> int:
        """How long a list is, about, when it is sent. Raises what `current` does."""
        current = self.current(session)
        return 0 if current is None else sum(len(who) + 24 for who in (*current.digests, self._credentials.owner))

    def _rule(self, path: str) -> Rule | None:
        root = self._layout.root
        if path != root and not path.startswith(f"{root}/"):
            return None
        return access.rule_of(path[len(root) + 1 :])


def acl_of(grants: Iterable[Grant]) -> list[ACL]:
    """As kazoo wants it."""
    return [ACL(sum(_BITS[letter] for letter in one.permissions), Id(one.scheme, one.who)) for one in grants]


def grants_in(found: Iterable[ACL]) -> tuple[Grant, ...]:
    """As `core.access` says it, sorted."""
    return tuple(
        sorted(
            Grant(one.id.scheme, one.id.id, "".join(letter for letter in access.ALL if one.perms & _BITS[letter]))
            for one in found
        )
    )
