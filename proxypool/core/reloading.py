"""What of the configuration a running daemon takes over when it is told to read the file again. Pure.

The whole file is taken over, or nothing of it: a key that needs a restart and was changed refuses all the others too.
The reference of the configuration is written from this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from proxypool.core.config import Config
from proxypool.core.discovery import Daemon
from proxypool.core.documents import to_builtins
from proxypool.core.errors import InvalidInput

RELOADED = frozenset(
    {
        "log",
        "node.labels",
        "node.bandwidth_bytes_per_s",
        "node.packets_per_s",
        "node.new_connections_per_s",
        "host.subnets",
        "host.open_cidrs",
        "host.linger_s",
        "controller.placement",
        "controller.node_pairs",
        "controller.max_actions",
        "controller.dead_after_s",
        "controller.ready_deadline_s",
        "controller.drain_deadline_s",
        "controller.policy",
    }
)
"""Keys, and sections with all that is in them. Every other key takes effect with a restart."""
_OF_ALL = frozenset({"pool", "run_dir", "zookeeper", "metrics", "log"})
"""Sections and keys that concern every daemon of a machine."""
_OF_ROLE: Mapping[Daemon, frozenset[str]] = {
    Daemon.NODE: frozenset({"node"}),
    Daemon.HOST: frozenset({"host"}),
    Daemon.CONTROLLER: frozenset({"controller", "provider"}),
}


class NeedsRestart(InvalidInput):
    """Keys were changed that a running daemon cannot take over."""

    def __init__(self, keys: tuple[str, ...], role: Daemon) -> None:
        self.keys = keys
        super().__init__(
            f"{', '.join(keys)} cannot be changed while the daemon runs: change {'it' if len(keys) == 1 else 'them'} "
            f"back, or `systemctl restart proxypool-{role.value}`, which leaves traffic alone"
        )


def is_reloaded(key: str) -> bool:
    """Whether a key takes effect without a restart."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in RELOADED for length in range(1, len(parts) + 1))


def changed_keys(old: Config, new: Config, role: Daemon) -> tuple[str, ...]:
    """Keys that concern a daemon of this role and have another value, in alphabetical order.

    Raises:
        InvalidInput: the section of the role is gone.
    """
    if getattr(new, role.value) is None:
        raise InvalidInput(f"there is no section [{role.value}] any more")
    before, after = (dict(_leaves(to_builtins(config), "")) for config in (old, new))
    of_ours = _OF_ALL | _OF_ROLE[role]
    return tuple(
        key
        for key in sorted(before.keys() | after.keys())
        if key.partition(".")[0] in of_ours and before.get(key, _NOTHING) != after.get(key, _NOTHING)
    )


def require_reloadable(old: Config, new: Config, role: Daemon) -> tuple[str, ...]:
    """The keys that were changed, if all of them can be taken over.

    Raises:
        NeedsRestart: some cannot.
        InvalidInput: the section of the role is gone.
    """
    keys = changed_keys(old, new, role)
    stuck = tuple(key for key in keys if not is_reloaded(key))
    if stuck:
        raise NeedsRestart(stuck, role)
    return keys


_NOTHING = object()


def _leaves(value: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys. Lists are values, and so are tables of the operator's own names: a node's labels."""
    for key, item in value.items():
        at = f"{name}.{key}" if name else str(key)
        if isinstance(item, Mapping) and at != "node.labels":
            yield from _leaves(item, at)
        else:
            yield at, item
