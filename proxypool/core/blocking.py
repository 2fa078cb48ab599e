"""What is blocked, and where it is counted: one chain of ours for each reason, which drops what is led into it.

The counter of a chain's rule is the number of packets blocked for that reason, so the kernel itself counts, nothing has
to be remembered, and `iptables -vnL PP-NO-STRANGER` shows the same as the metrics. A packet that is let through pays
nothing for it. Only what the filter on an ENI drops has no chain: the kernel counts it at the device. What each reason
stands for is written in docs/isolation.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from proxypool.core.scene import CHAIN_PREFIX, Chain, Rule

_PREFIX = f"{CHAIN_PREFIX}NO-"
REFUSED_CHAIN = f"{CHAIN_PREFIX}DEAD"
"""Of a host: what leads nowhere is answered with an error."""


class Blocked(StrEnum):
    """Why packets are blocked. A closed set: the label of a metric."""

    STRANGER = "stranger"
    """A tunnel packet of a sender that is no function host; on a host: of one that is no HaVip."""
    SYNC = "sync"
    """A packet of the tunnels between members whose sender is no node."""
    VRRP = "vrrp"
    """An advertisement of VRRP for this node whose sender is no node."""
    CUSTOMER = "customer"
    """From a customer's network, and no answer to anything."""
    HOST = "host"
    """From a tunnel, to what is no address of the subnet, or with a source that is no host's."""
    REDIRECT = "redirect"
    """An ICMP redirect for the namespace itself, as about a probe of its own."""
    LINK = "link"
    """For the addresses of the link between members, or over it, and not the other member's word."""
    SOURCE = "source"
    """About to leave an ENI with a source that is neither the card's nor the pair's; see `scene.SourceGuard`."""
    UNASKED = "unasked"
    """On a host: from a tunnel, and no answer to anything."""
    PLATFORM = "platform"
    """On a host: from an instance to nodes, HaVips or ZooKeeper."""
    TUNNEL = "tunnel"
    """On a host: a tunnel packet that an instance made itself."""
    FLOOD = "flood"
    """On a host: a connection of an instance that begins too many."""
    REFUSED = "refused"
    """On a host: to a customer, without attachment or pair; answered with an error."""


def chain_of_blocked(why: Blocked) -> str:
    """Name of the chain that drops."""
    return f"{_PREFIX}{why.value.upper()}"


def blocked_chains(chains: Iterable[Chain]) -> tuple[Chain, ...]:
    """The chains that drop, of those reasons that rules lead to."""
    targets = {rule.target for chain in chains for rule in chain.rules if isinstance(rule, Rule)}
    names = [name for why in Blocked if (name := chain_of_blocked(why)) in targets]
    return tuple(Chain(name, None, (Rule("DROP"),)) for name in names)


def why_blocked(chain: str) -> Blocked | None:
    """What the packets that match the rules of a chain are counted as; None: nothing is blocked there."""
    if chain == REFUSED_CHAIN:
        return Blocked.REFUSED
    return _WHY.get(chain)


_WHY = {chain_of_blocked(why): why for why in Blocked if why not in {Blocked.REFUSED, Blocked.SOURCE}}
