"""What a node hears of others on the underlay: that nothing arrives any more, and the other members' advertisements.

Runs on the main loop; what is heard comes from the watch thread.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice

from proxypool.core.model import Snapshot
from proxypool.core.role import HeartbeatHeard, UnderlaySeen
from proxypool.daemons.member import Member
from proxypool.daemons.messages import PeerHeard
from proxypool.daemons.node_watch import NodeWatch
from proxypool.daemons.vrrp_side import VrrpSide

log = logging.getLogger(__name__)

NODES_ASKED, HOSTS_ASKED = 5, 3
"""When the underlay is silent."""


@dataclass
class Neighbourhood:
    """`members` is the node's dictionary, by subnet; it is only read here."""

    node: str
    members: Mapping[str, Member]
    watch: NodeWatch
    vrrp: VrrpSide
    is_silent: bool = False
    """Whether nothing arrives on the underlay."""

    def follow(self, snapshot: Snapshot) -> None:
        """Choose whom to ask on the underlay, the other members of our pairs first, and whose claims to listen to."""
        peers = {peer.node for member in self.members.values() if (peer := member.pair.peer_of(self.node))}
        nodes = [snapshot.nodes[name].underlay for name in sorted(peers) if name in snapshot.nodes]
        hosts: list[IPv4Address] = [host.underlay for host in islice(snapshot.hosts.values(), HOSTS_ASKED)]
        self.watch.neighbours = (*nodes[:NODES_ASKED], *hosts)
        self.watch.claims.follow(frozenset(member.pair.havip for member in self.members.values()))

    def heard(self, now: float, *, is_silent: bool) -> None:
        """Packets have ceased to arrive, or arrive again."""
        self.is_silent = is_silent
        what = "nothing arrives any more: standing aside for all pairs" if is_silent else "packets arrive again"
        log.warning("underlay: %s", what)
        for member in self.members.values():
            member.handle(UnderlaySeen(is_silent), now)

    def peers_heard(self, message: PeerHeard, snapshot: Snapshot, now: float) -> None:
        """Advertisements of other nodes, and which of them say that they are master of what."""
        for member in self.members.values():
            peer = member.pair.peer_of(self.node)
            spec = snapshot.nodes.get(peer.node) if peer else None
            if spec is None:
                continue
            is_master = (spec.underlay, member.pair.vrid) in message.masters
            waits_for_it = member.state.is_aside and spec.underlay in message.peers
            if waits_for_it or (member.state.claimed_at is not None and is_master):
                member.handle(HeartbeatHeard(), now)
            if self.vrrp.is_orphaned(member) and is_master:
                self.vrrp.fence(member, now)

    def listen(self) -> None:
        """For advertisements, only while somebody waits for one: they are many."""
        self.watch.listen_for_peers(any(map(self._is_waiting, self.members.values())))

    def _is_waiting(self, member: Member) -> bool:
        state = member.state
        return state.is_aside or state.claimed_at is not None or self.vrrp.is_orphaned(member)
