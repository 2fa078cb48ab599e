"""Gives every node of a pool the access list that it ought to have, or takes all of them away; and tells which differ.

Blocking; the session must be connected, as the administrator for all but looking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kazoo.exceptions import NoNodeError
from kazoo.security import ACL

from proxypool.adapters.zookeeper.access_lists import acl_of, grants_in
from proxypool.adapters.zookeeper.layout import ACTIONS, CONTROLLER, CONTROLLERS, HISTORY
from proxypool.adapters.zookeeper.reading import Node, read_children, read_nodes
from proxypool.adapters.zookeeper.registry import TUNNEL_ADDRESSES, pool_missing
from proxypool.adapters.zookeeper.session import PoolSession
from proxypool.adapters.zookeeper.writing import Create, write_all
from proxypool.core import access
from proxypool.core.access import ACCESS, ADMIN, ALL, HELD, OPEN, Access, Grant
from proxypool.core.documents import decode, encode
from proxypool.core.errors import AccessDenied, InvalidInput
from proxypool.core.model import HostSpec

TOP = "/proxypool"
"""What all pools of an ensemble stand in."""
CONTAINERS = ("subnets", "nodes", "hosts", TUNNEL_ADDRESSES, HISTORY, CONTROLLER, CONTROLLERS, ACTIONS)
"""What only the administrator can make once the pool has access lists."""
BATCH = 500
PASSES = 5
"""Daemons make nodes meanwhile, some of which have not heard of the lists yet."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A node whose access list is not what it ought to be."""

    path: str
    now: tuple[Grant, ...]
    wanted: tuple[Grant, ...]


class Securing:
    """See the module's text."""

    def __init__(self, session: PoolSession) -> None:
        self._session, self._layout = session, session.layout

    def read(self) -> Access | None:
        """Who may use the pool, as it says itself; None: everybody.

        Raises:
            AccessDenied: we may not know.
            PoolMissing: it was not initialised.
        """
        found, version = read_nodes(self._session, (self._path(ACCESS), self._path("version")))
        if version is None:
            raise pool_missing(self._layout.pool)
        return None if found is None else decode(found.data, Access, what=self._path(ACCESS))

    def differences(self, wanted: Access | None, limit: int | None = None) -> list[Difference]:
        """Nodes with other lists than these people's, at most about `limit` of which are looked at, sorted by path.
        None: of a pool that is open to all.
        """
        paths = list(self._walk(limit))
        owners = self._owners(paths) if wanted is not None else {}
        found = []
        for path, now in self._lists(paths):
            ought = OPEN if wanted is None else self._wanted(path, wanted, owners, now)
            if now not in {ought, access.masked(ought)}:
                found.append(Difference(path, now, ought))
        return sorted(found, key=lambda one: one.path)

    def secure(self, wanted: Access) -> int:
        """Make it so that only these people may use the pool; how many lists were changed. Doing it again is fine, and
        does what is left of it.

        Raises:
            AccessDenied: we are not the administrator; nothing was changed.
            InvalidInput: we would lock ourselves out; nothing was changed.
        """
        ours = self._session.credentials.digest
        if self._session.credentials.user is not ADMIN:
            raise AccessDenied('only the administrator may do this: give zookeeper.user = "admin" and its secret')
        if ours not in wanted.digests:
            raise InvalidInput(
                "the secret that this command itself uses (zookeeper.secret_file) is not among them: it would lock "
                "itself out"
            )
        self.read()
        write_all(self._session, [Create(self._path(suffix)) for suffix in CONTAINERS])
        self._write(wanted)
        return self._repeat(wanted)

    def open(self) -> int:
        """Take every access list away, so that everybody may do everything; how many were changed.

        Raises:
            AccessDenied: we are not the administrator.
        """
        self.read()
        changed = self._repeat(None)
        path = self._path(ACCESS)
        if self._session.wait(self._session.client.exists_async(path)) is not None:
            self._session.wait(self._session.client.delete_async(path))
        # What was made between the two.
        return changed + self._repeat(None)

    def _write(self, wanted: Access) -> None:
        path, client = self._path(ACCESS), self._session.client
        acl = acl_of(access.grants_of(access.rule_of(ACCESS), wanted))
        (old,) = read_nodes(self._session, (path,))
        if old is None:
            self._session.wait(client.create_async(path, encode(wanted), acl=acl))
        elif decode(old.data, Access, what=path) != wanted:
            self._session.wait(client.set_async(path, encode(wanted, old.data)))

    def _repeat(self, wanted: Access | None) -> int:
        changed = 0
        for _ in range(PASSES):
            changes = self.differences(wanted)
            held = self._hold() if wanted is not None else 0
            if not changes and not held:
                break
            changed += self._set(changes)
        return changed

    def _set(self, changes: Sequence[Difference]) -> int:
        done = 0
        for part in _batches(changes):
            sent = [self._session.client.set_acls_async(one.path, acl_of(one.wanted)) for one in part]
            done += sum(self._ended(result) is not None for result in sent)
        return done

    def _hold(self) -> int:
        """Give entries of hosts, and orders, the child that keeps them; how many had none."""
        paths = [path for path in self._walk(None) if access.rule_of(self._suffix(path)).is_held]
        lists = read_children(self._session, paths)
        bare = [path for path, names in zip(paths, lists, strict=True) if names is not None and HELD not in names]
        for part in _batches(bare):
            write_all(self._session, [Create(f"{path}/{HELD}") for path in part])
        return len(bare)

    def _wanted(
        self, path: str, wanted: Access, owners: Mapping[str, str], now: tuple[Grant, ...]
    ) -> tuple[Grant, ...]:
        if path == TOP:
            # Other pools' administrators stay who they are, and everybody may see which pools there are.
            others = {grant for grant in now if grant.scheme != "world"}
            is_masked = access.masked(others) == tuple(sorted(others)) and bool(others)
            admins = () if is_masked else (who for who in wanted.digests if who.startswith(f"{ADMIN}:"))
            ours = {Grant("digest", who, ALL) for who in admins}
            return tuple(sorted({*others, *ours, Grant("world", "anyone", "r")}))
        return access.grants_of(access.rule_of(self._suffix(path)), wanted, owners.get(path, ""))

    def _owners(self, paths: Iterable[str]) -> dict[str, str]:
        """Path of a host's entry -> digest of the key of its host, where that is known."""
        names = {path: parts for path in paths if (parts := tuple(self._suffix(path).split("/")))}
        addresses = [path for path, parts in names.items() if parts[0] == TUNNEL_ADDRESSES and len(parts) > 1]
        tops = [path for path in addresses if len(names[path]) == 2]  # noqa: PLR2004 - tunnel-addresses/<address>
        holders = {
            path: node.data.decode(errors="replace")
            for path, node in zip(tops, read_nodes(self._session, tops), strict=True)
            if node is not None
        }
        hosts = [path for path, parts in names.items() if parts[0] == "hosts" and len(parts) == 2]  # noqa: PLR2004
        keys = {
            names[path][1]: _owner(node)
            for path, node in zip(hosts, read_nodes(self._session, hosts), strict=True)
            if node is not None
        }
        found = {}
        for path, parts in names.items():
            match parts:
                case ("hosts", host, *_) | ("subnets", _, "hosts", host, *_):
                    found[path] = keys.get(host, "")
                case ("tunnel-addresses", address, *_):
                    found[path] = keys.get(holders.get(self._path(f"{TUNNEL_ADDRESSES}/{address}"), ""), "")
        return found

    def _walk(self, limit: int | None) -> Iterator[str]:
        """Every node of the pool, and what pools stand in; parents before their children."""
        count, level = 0, [TOP, self._layout.root]
        while level and (limit is None or count < limit):
            level = level if limit is None else level[: limit - count]
            yield from level
            count += len(level)
            below = [path for path in level if path != TOP]
            lists = read_children(self._session, below)
            level = [f"{at}/{name}" for at, names in zip(below, lists, strict=True) for name in names or ()]

    def _lists(self, paths: Sequence[str]) -> Iterator[tuple[str, tuple[Grant, ...]]]:
        """Of those that are there."""
        for part in _batches(paths):
            sent = [self._session.client.get_acls_async(path) for path in part]
            for path, result in zip(part, sent, strict=True):
                answer = self._ended(result)
                if answer is not None:
                    acl: list[ACL] = answer[0]
                    yield path, grants_in(acl)

    def _ended(self, result: Any) -> Any:
        try:
            return self._session.wait(result)
        except NoNodeError:
            return None

    def _path(self, suffix: str) -> str:
        return self._layout.path(suffix)

    def _suffix(self, path: str) -> str:
        return path[len(self._layout.root) + 1 :]


def _owner(node: Node) -> str:
    try:
        return decode(node.data, HostSpec, what="host").owner
    except InvalidInput:
        return ""


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for at in range(0, len(items), BATCH):
        yield items[at : at + BATCH]
