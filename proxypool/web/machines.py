"""The machines of the pool: proxy nodes, and function hosts that need a look. Pure."""

from __future__ import annotations

from proxypool.core.status import HostReport, NodeReport, PoolStatus
from proxypool.core.units import ago
from proxypool.web.markup import Child, Markup, join, tag
from proxypool.web.parts import badge, boxed_table, prose, section

MAX_NODES, MAX_HOSTS = 40, 30
_NODES = ("Node", "State", "Pairs", "Master of", "Underlay", "Labels", "Up", "Version", "Trouble")
_HOSTS = ("Host", "State", "Underlay", "Tunnel address", "Subnets", "Attached", "Up", "Trouble")


def machines(status: PoolStatus) -> Markup:
    """Nodes, those that need a look first, and of hosts only those."""
    nodes = sorted(status.nodes, key=lambda node: (node.is_alive and not node.problems, node.id))
    hosts = [host for host in status.hosts if not host.is_alive or host.problems]
    shown = boxed_table("Proxy nodes", _NODES, [_node(node, status.at) for node in nodes[:MAX_NODES]])
    more = (
        f"{len(nodes) - MAX_NODES} more nodes are left out, those that are well first."
        if len(nodes) > MAX_NODES
        else ""
    )
    return section(
        "machines",
        "Machines",
        shown if nodes else tag("p", "No node has registered yet.", class_="quiet"),
        tag("p", more, class_="note") if more else None,
        _of_hosts(status, hosts),
    )


def _node(node: NodeReport, now: float) -> tuple[Child, ...]:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(node.labels.items()))
    return (
        node.id,
        join(badge("ok", "alive") if node.is_alive else badge("critical", "not running"), _orders(node)),
        str(len(node.pairs)),
        str(len(node.master_of)),
        str(node.underlay),
        labels,
        ago(node.since, now) if node.is_alive else "",
        node.version,
        prose("; ".join(node.problems)) if node.problems else None,
    )


def _orders(node: NodeReport) -> Markup | None:
    if node.draining_since is not None:
        return badge("degraded", "draining")
    return badge("degraded", "cordoned") if node.cordoned_since is not None else None


def _of_hosts(status: PoolStatus, unwell: list[HostReport]) -> Markup | None:
    if not status.hosts:
        return None
    if not unwell:
        everybody = f"All {len(status.hosts)} function hosts are alive and have nothing to tell."
        return tag("p", everybody if len(status.hosts) > 1 else "The one function host is alive.", class_="quiet")
    rows = [_host(host, status.at) for host in unwell[:MAX_HOSTS]]
    caption = f"Function hosts that need a look: {len(unwell)} of {len(status.hosts)}"
    return boxed_table(caption, _HOSTS, rows)


def _host(host: HostReport, now: float) -> tuple[Child, ...]:
    return (
        host.id,
        badge("ok", "alive") if host.is_alive else badge("critical", "not running"),
        str(host.underlay),
        str(host.tunnel_address),
        str(len(host.subnets)),
        None if host.attachments is None else str(host.attachments),
        ago(host.since, now) if host.is_alive else "",
        prose("; ".join(host.problems)) if host.problems else None,
    )
