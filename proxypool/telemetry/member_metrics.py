"""Metrics of what a node's members do, collected at the scrape from what the daemon observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Sample
from prometheus_client.metrics_core import Metric

from proxypool.core.health import Probe, Reason
from proxypool.core.model import MemberStatus, PairSpec, PairState
from proxypool.core.role import Role
from proxypool.core.sync_supervision import SyncReport

ROLES = tuple(role.value for role in Role)
_REASONS = frozenset(reason.value for reason in Reason)
_LABELS = ("subnet", "pair")


@dataclass(frozen=True, slots=True)
class MemberView:
    """What the node daemon knows of one of its members at the scrape."""

    pair: PairSpec
    status: MemberStatus
    is_elected: bool
    sync: SyncReport | None = None


def _is_draining(member: MemberView) -> bool:
    return member.pair.state is PairState.DRAINING


def _is_paused(member: MemberView) -> bool:
    return member.pair.paused_since is not None


_STATES: tuple[tuple[str, str, Callable[[MemberView], float | None]], ...] = (
    ("pair_draining", "Whether hosts send the pair no new connections, as it drains.", _is_draining),
    ("pair_paused", "Whether health and election move nothing, for maintenance.", _is_paused),
    (
        "pair_draining_since_timestamp_seconds",
        "When the pair began to drain; no series while it does not.",
        lambda one: one.pair.draining_since if _is_draining(one) else None,
    ),
    (
        "pair_paused_since_timestamp_seconds",
        "When the pair was paused; no series while it is not.",
        lambda one: one.pair.paused_since,
    ),
    (
        "pair_connections",
        "Connections that are not over, of a pair that drains; counted where this node is its master, else no series.",
        lambda one: one.status.connections,
    ),
    (
        "member_damped",
        "Whether this node is well but held back, as it was unfit lately.",
        lambda one: one.status.damped_until is not None,
    ),
    (
        "egress_probe_up",
        "Whether the probe's target answers through the ENI; no series without a target.",
        lambda one: None if one.status.probe == Probe.NONE else one.status.probe in {Probe.OK, Probe.DOUBTFUL},
    ),
    (
        "egress_probe_rtt_seconds",
        "Round trip of the last probe that was answered.",
        lambda one: None if one.status.probe_ms is None else one.status.probe_ms / 1e3,
    ),
    (
        "egress_address_answered",
        "Whether this node answers ARP for the pair's egress address, as read from the kernel; no series without one.",
        lambda one: one.status.answers_egress,
    ),
    ("member_elected", "Whether ZooKeeper elected this node.", lambda one: one.is_elected),
    (
        "member_gate_open",
        "Whether the gate (ip_forward of the subnet's namespace) is open, as read from the kernel.",
        lambda one: bool(one.status.gate),
    ),
    (
        "member_has_havip",
        "Whether the HaVip is on this node's underlay interface, as read from the kernel.",
        lambda one: one.status.has_havip,
    ),
    ("member_fit", "Whether this node can serve the pair.", lambda one: not one.status.health),
    (
        "member_tunnel_up",
        "Whether the subnet's tunnel is up on this node.",
        lambda one: Reason.TUNNEL_DOWN not in one.status.health,
    ),
    (
        "member_nat_in_sync",
        "Whether NAT, filter and routes of the subnet's namespace are as they must be.",
        lambda one: Reason.NOT_PROGRAMMED not in one.status.health,
    ),
    ("member_epoch", "Epoch of the election as this node knows it.", lambda one: one.status.epoch),
    ("member_role_since_timestamp_seconds", "When the role last changed.", lambda one: one.status.since),
)
"""Gauges of a member: name, meaning, and what it is now; None: there is no series."""


def labels_of(pair: PairSpec) -> dict[str, str]:
    """Shared by the samples of a member: a node has thousands, and each would have a dictionary of its own."""
    return {"subnet": pair.subnet, "pair": pair.id}


def member_states(members: tuple[MemberView, ...]) -> Iterator[Metric]:
    """All families."""
    role = GaugeMetricFamily(
        "proxypool_member_role", "Role of this node in the pair: 1 for the current one.", labels=(*_LABELS, "role")
    )
    unfit = GaugeMetricFamily(
        "proxypool_member_unfit",
        "1 for each reason why this node cannot serve the pair (docs/failover.md); no series for the others.",
        labels=(*_LABELS, "reason"),
    )
    labels = [labels_of(member.pair) for member in members]
    for member, where in zip(members, labels, strict=True):
        for name in ROLES:
            role.samples.append(Sample(role.name, {**where, "role": name}, float(member.status.role == name)))
        for reason in member.status.health:
            if reason in _REASONS:
                unfit.samples.append(Sample(unfit.name, {**where, "reason": reason}, 1.0))
    yield role
    yield unfit
    for name, text, value_of in _STATES:
        family = GaugeMetricFamily(f"proxypool_{name}", text, labels=_LABELS)
        for member, where in zip(members, labels, strict=True):
            if (value := value_of(member)) is not None:
                family.samples.append(Sample(family.name, where, float(value)))
        yield family
