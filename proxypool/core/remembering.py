"""What a host agent knew of the pool before it was started, where the documents cannot be read now. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from proxypool.core.model import Snapshot


def with_remembered(now: Snapshot, before: Snapshot | None) -> Snapshot:
    """The pool as it is now; of subnets that cannot be read, what is not known of them is as it was known before."""
    if before is None or not now.unread_subnets:
        return now
    unread = now.unread_subnets
    subnets = {name: before.subnets[name] for name in unread if name in before.subnets}
    pairs = {name: {**before.pairs.get(name, {}), **now.pairs.get(name, {})} for name in unread}
    listed = {name: before.subnet_hosts[name] for name in unread if name in before.subnet_hosts}
    return replace(
        now,
        subnets={**subnets, **now.subnets},
        pairs={**now.pairs, **{name: some for name, some in pairs.items() if some}},
        subnet_hosts={**listed, **now.subnet_hosts},
    )
