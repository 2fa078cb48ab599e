"""What a host last knew of its pool, in a file: to begin with when ZooKeeper is away while the agent starts.

Only what steering needs: the subnets, the pairs of those in use here, and the host's own tunnel address.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from proxypool.core.documents import decode, encode
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.model import Document, PairSpec, PoolSpec, Snapshot, SubnetSpec
from proxypool.core.validation import require_two_nodes

log = logging.getLogger(__name__)


class _Cached(Document, frozen=True, kw_only=True):
    tunnel_address: IPv4Address
    spec: PoolSpec
    subnets: dict[str, SubnetSpec]
    pairs: dict[str, dict[str, PairSpec]]
    listed: tuple[str, ...]
    """Subnets in whose lists this host stands."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a file told."""

    tunnel_address: IPv4Address
    snapshot: Snapshot


class PoolCache:
    """Owner of the file."""

    def __init__(self, path: Path, host: str) -> None:
        """Nothing is read."""
        self._path, self._host = path, host
        self._written: tuple[object, ...] = ()

    def load(self) -> Remembered | None:
        """What was known; None if nothing was, or the file is not understood."""
        try:
            found = decode(self._path.read_bytes(), _Cached, what=str(self._path))
            _require_own_names(found, str(self._path))
        except FileNotFoundError:
            return None
        except (OSError, InvalidInput) as error:
            log.warning("what was known of the pool cannot be read, and is asked of ZooKeeper: %s", error)
            return None
        here = frozenset({self._host})
        snapshot = Snapshot(
            spec=found.spec,
            subnets=found.subnets,
            pairs=found.pairs,
            subnet_hosts=dict.fromkeys(found.listed, here),
        )
        return Remembered(found.tunnel_address, snapshot)

    def save(self, snapshot: Snapshot, tunnel_address: IPv4Address, in_use: Iterable[str]) -> None:
        """Write what is known now, if it is not what was written last.

        Raises:
            TransientError: it cannot be written.
        """
        used = frozenset(in_use)
        known = (snapshot.spec, snapshot.subnets, _of(snapshot.pairs, used), used, tunnel_address)
        if snapshot.spec is None or known == self._written:
            return
        document = _Cached(
            tunnel_address=tunnel_address,
            spec=snapshot.spec,
            subnets=dict(snapshot.subnets),
            pairs=_of(snapshot.pairs, used),
            listed=tuple(sorted(used)),
        )
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(encode(document))
            os.rename(new, self._path)
        except OSError as error:
            raise TransientError(f"cannot write {self._path}: {error.strerror}") from error
        self._written = known


def _require_own_names(found: _Cached, what: str) -> None:
    """As of documents in ZooKeeper: what stands under another's name must not speak for it.

    Raises:
        InvalidInput: something does.
    """
    for name, subnet in found.subnets.items():
        if subnet.id != name:
            raise InvalidInput(f"{what} has subnet {subnet.id!r} as {name!r}")
    for subnet_name, pairs in found.pairs.items():
        for name, pair in pairs.items():
            if (pair.subnet, pair.id) != (subnet_name, name):
                raise InvalidInput(f"{what} has pair {pair.subnet}/{pair.id} as {subnet_name}/{name}")
            require_two_nodes(pair, what)


def _of(pairs: Mapping[str, Mapping[str, PairSpec]], used: Iterable[str]) -> dict[str, dict[str, PairSpec]]:
    return {name: dict(pairs[name]) for name in sorted(used) if name in pairs}
