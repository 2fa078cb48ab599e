"""The path from an instance to the customer's database, drawn with real addresses. Pure."""

from __future__ import annotations

from proxypool.lab.plans import MemberPlan, SubnetPlan
from proxypool.lab.topology import Topology

INDENT, LABEL, COLUMN = 4, 9, 34


def draw(topology: Topology, subnet: SubnetPlan, holder: str | None) -> str:
    """For people, 80 columns. `holder`: the node that has the HaVip now."""
    host = topology.machines["host1"]
    boxes = [_member(topology, member, holder) for member in subnet.members]
    sides = ["".join(cell.ljust(COLUMN) for cell in cells) for cells in zip(*boxes, strict=True)]
    egress = subnet.pairs[0].egress_address
    lines = [
        _line("pod1", topology.machines["pod1"].ip, "a function's instance"),
        "  │",
        _line(host.name, host.ip, "a function host"),
        "  ║",
        f"  ║ tunnel: {topology.tunnel.value}, key {subnet.key}",
        "  ▼",
        _line("HaVip", subnet.havip, f"held by {holder or 'nobody'}"),
        f"  ├{'─' * (COLUMN - 1)}┐",
        *sides,
        f"──┴─ {subnet.cidr} ".ljust(COLUMN + 2, "─") + f"┴──  customer's subnet {subnet.id}",
        "  │",
        *([_line("egress", egress, "the source that servers see"), "  │"] if egress else []),
        _line(subnet.database, subnet.database_ip, "the customer's Redis"),
    ]
    return "\n".join((" " * INDENT + line).rstrip() for line in lines)


def _line(name: str, address: str, what: str) -> str:
    return f"{name:<{LABEL}}{address:<{COLUMN - LABEL}}{what}"


def _member(topology: Topology, member: MemberPlan, holder: str | None) -> list[str]:
    address = member.address.partition("/")[0]
    return [
        f"{member.node:<{LABEL}}{topology.machines[member.node].ip}",
        f"{'':<{LABEL}}{'has the HaVip' if member.node == holder else 'stands by'}",
        f"{member.eni:<{LABEL}}{address}",
        "  │",
    ]
