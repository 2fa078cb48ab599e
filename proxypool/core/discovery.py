"""Whom Prometheus is to scrape: the daemons that registered, as the answer of an http_sd endpoint. Pure.

The format is Prometheus' own (`http_sd_config`): a list of groups, each with `targets` and `labels`. A group has one
target, since the label `node` tells them apart. The label `role` is also one of `proxypool_member_role` and
`proxypool_build_info`: a scrape configuration must say `honor_labels: true` or theirs become `exported_role`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address
from typing import TypedDict

from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import InvalidInput
from proxypool.core.model import HostSpec, NodeSpec


class Daemon(StrEnum):
    """What runs there: the label `role`."""

    NODE = "node"
    HOST = "host"
    CONTROLLER = "controller"


class Group(TypedDict):
    """One entry of the answer; JSON as it is."""

    targets: list[str]
    labels: dict[str, str]


def targets(
    pool: str,
    nodes: Iterable[NodeSpec],
    hosts: Iterable[HostSpec],
    controllers: Mapping[str, str],
) -> list[Group]:
    """Everybody who can be scraped, in a stable order: nodes, hosts, controllers, each by name.

    Args:
        pool: its name: the label `pool`.
        nodes: as registered, alive or not: one that is dead must be seen to be down.
        hosts: likewise.
        controllers: name to `address:port` of its metrics, as whoever asks reaches it; a loopback address is taken at
            its word, as somebody who asks on the same machine needs it.
    """
    found = [_machine(pool, Daemon.NODE, spec) for spec in _reachable(nodes)]
    found += [_machine(pool, Daemon.HOST, spec) for spec in _reachable(hosts)]
    for name, address in sorted(controllers.items()):
        at = _endpoint(address)
        if at is not None and not _is_unspecified(at[0]):
            found.append(_group(pool, Daemon.CONTROLLER, name, address))
    return found


def unreachable(machines: Iterable[NodeSpec | HostSpec]) -> list[str]:
    """Names of those who registered no address that others can reach: `targets` leaves them out."""
    return sorted(spec.id for spec in machines if not has_reachable_metrics(spec))


def has_reachable_metrics(spec: NodeSpec | HostSpec) -> bool:
    """Whether others can ask it. A loopback address is everybody's own: to ask there would be to ask another."""
    at = _endpoint(spec.metrics)
    if at is None or _is_unspecified(at[0]):
        return False
    return spec.underlay.is_loopback or not _is_loopback(at[0])


def _reachable(machines: Iterable[NodeSpec | HostSpec]) -> list[NodeSpec | HostSpec]:
    return [spec for spec in sorted(machines, key=lambda spec: spec.id) if has_reachable_metrics(spec)]


def _machine(pool: str, role: Daemon, spec: NodeSpec | HostSpec) -> Group:
    found = _group(pool, role, spec.id, spec.metrics)
    # Prometheus takes it for the scheme of this target, and no label of its series.
    return {**found, "labels": {**found["labels"], "__scheme__": "https"}} if spec.metrics_tls else found


def _group(pool: str, role: Daemon, name: str, address: str) -> Group:
    return {"targets": [address], "labels": {"pool": pool, "role": role.value, "node": name}}


def _endpoint(address: str) -> tuple[str, int] | None:
    try:
        return parse_endpoint(address, what="metrics")
    except InvalidInput:
        return None


def _is_unspecified(host: str) -> bool:
    ip = _ip(host)
    return ip is not None and ip.is_unspecified


def _is_loopback(host: str) -> bool:
    ip = _ip(host)
    return host == "localhost" or (ip is not None and ip.is_loopback)


def _ip(host: str) -> IPv4Address | None:
    """None: a name, which Prometheus looks up."""
    try:
        return IPv4Address(host)
    except AddressValueError:
        return None
