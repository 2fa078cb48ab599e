"""What members say of a pair that an action waits for: read from ZooKeeper each time, as nobody follows statuses."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from proxypool.adapters.zookeeper.actions import ActionStore, Look
from proxypool.core.draining import connections_left
from proxypool.core.model import PairSpec, PairState
from proxypool.core.scaling.documents import Action, Step
from proxypool.core.scaling.readiness import Readiness, is_silent, readiness
from proxypool.core.scaling.turns import Seen

LOOKED_AT = (Step.READY, Step.WAIT)
"""Steps that wait for what members publish."""


def with_word_of_members(seen: Seen, action: Action, store: ActionStore) -> Seen:
    """What an action sees, with what the members of its pair publish if it waits for that.

    Raises:
        TransientError: ZooKeeper does not answer.
    """
    pair = seen.pairs.get(action.pair)
    if pair is None or action.step not in LOOKED_AT:
        return seen
    look = store.look(action.subnet, action.pair)
    if action.step is Step.READY:
        return replace(seen, readiness=_readiness(pair, look, seen.pairs, store))
    return replace(seen, left=connections_left(pair, look.statuses.values(), time.time()))


def _readiness(pair: PairSpec, look: Look, pairs: Mapping[str, PairSpec], store: ActionStore) -> Readiness:
    found = readiness(pair, look.statuses, look.hosts_zxid)
    with_silence = readiness(pair, look.statuses, look.hosts_zxid, is_silence_usual=True)
    if found == with_silence:
        # Several pairs may be on their way, and many active: those are looked at only if it matters.
        return found
    others = [other for other in pairs.values() if other.state is PairState.ACTIVE]
    is_usual = any(is_silent(store.look(other.subnet, other.id).statuses) for other in others)
    return with_silence if is_usual else found
