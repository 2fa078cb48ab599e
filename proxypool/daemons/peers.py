"""Who is at the other end of a unix socket, as the kernel says, and whether they may use it.

The mode of the socket keeps others out as well, but it is a file in a directory, which somebody may change or bind
into a container. The kernel's word was given when the peer connected and cannot be forged.
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

from proxypool.core.errors import PermanentError

_CREDENTIALS = struct.Struct("3i")
_PEER_GROUPS = 59
"""SO_PEERGROUPS, which Python has no name for."""
_MAX_GROUPS = 256
"""Python reads options of 1,024 bytes at most."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that connected."""

    pid: int
    user: int
    groups: frozenset[int]


def peer_of(connection: socket.socket) -> Peer:
    """Whose it was when it connected.

    Raises:
        OSError: not a unix socket.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, group = _CREDENTIALS.unpack(raw)
    return Peer(pid, user, frozenset({group, *_more_groups(connection)}))


def _more_groups(connection: socket.socket) -> tuple[int, ...]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _PEER_GROUPS, 4 * _MAX_GROUPS)
    except OSError:
        # More of them than fit: the first one is known all the same.
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


@dataclass(frozen=True, slots=True)
class Guests:
    """Who may use a socket besides root and ourselves."""

    users: frozenset[int] = frozenset()
    group: int | None = None

    @staticmethod
    def named(users: Collection[str], group: str | None) -> Guests:
        """By their names in the configuration; a user may also be a number.

        Raises:
            PermanentError: there is no such user or group.
        """
        return Guests(frozenset(map(_user_id, users)), _group_id(group))

    @property
    def mode(self) -> int:
        """Of the socket: no more than what they need to get that far."""
        if self.users:
            return 0o666
        return 0o600 if self.group is None else 0o660

    def welcome(self, peer: Peer) -> bool:
        """Whether that process may use it."""
        return peer.user in {0, os.geteuid(), *self.users} or self.group in peer.groups


def _user_id(name: str) -> int:
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise PermanentError(f"host.api_users: there is no user {name!r}; name another, or give its number") from error


def _group_id(group: str | None) -> int | None:
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise PermanentError(
            f"host.api_group: there is no group {group!r}; create it with `groupadd {group}`"
        ) from error
