"""What an earlier time left on the node: namespaces of subnets that are no longer served here, and locks of gates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from proxypool.adapters import netlink
from proxypool.adapters.gate import remove_locks
from proxypool.core.addressing import namespace_of
from proxypool.core.keepalived import gate_lock
from proxypool.core.scene import Scene
from proxypool.daemons.dataplane import Dataplane


def remove_left_over(dataplane: Dataplane, run_dir: Path, kept_subnets: Iterable[str]) -> None:
    """Have namespaces of ours removed that no document asks for; whether they are ours the executor proves before.

    `kept_subnets`: those that are served, and those whose documents cannot be read: a predecessor may serve them, who
    could read them.
    """
    kept = {namespace_of(subnet) for subnet in kept_subnets}
    found = netlink.list_namespaces()
    for name in found:
        if name not in kept:
            dataplane.want(name.removeprefix(namespace_of("")), Scene.absent(name))
    # With the change after that in which a namespace went: whoever has its lock has no gate any more.
    remove_locks(gate_lock(str(run_dir), ""), {name.removeprefix(namespace_of("")) for name in (*kept, *found)})
