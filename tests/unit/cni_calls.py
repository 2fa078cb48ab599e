"""Calls as container runtimes make them, and attachments that are a dictionary."""

from __future__ import annotations

import json
from ipaddress import IPv4Address
from typing import Any

from proxypool.core.cni import Environment
from proxypool.core.cni_config import ANNOTATION, ANNOTATIONS_CAPABILITY
from proxypool.core.errors import InvalidInput, ProxypoolError

CONTAINER = "b0a3e1c4"
OWNER = f"cni:cbr0:{CONTAINER}:eth0"
ADDRESS = IPv4Address("10.244.1.2")
RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [
        {"name": "cni0", "mac": "00:11:22:33:44:55"},
        {"name": "eth0", "mac": "99:88:77:66:55:44", "sandbox": "/var/run/netns/blue"},
    ],
    "ips": [{"address": "10.244.1.2/24", "gateway": "10.244.1.1", "interface": 1}],
    "routes": [{"dst": "10.244.0.0/16"}, {"dst": "0.0.0.0/0", "gw": "10.244.1.1"}],
    "dns": {},
}
"""What flannel's bridge answers."""


def environment(command: str = "ADD", **others: str) -> Environment:
    """The variables of a call."""
    values = {"container_id": CONTAINER, "netns": "/var/run/netns/blue", "ifname": "eth0", **others}
    return Environment(command=command, **values)


def variables(call: Environment) -> dict[str, str]:
    """The same as CNI_* variables."""
    return {
        "CNI_COMMAND": call.command,
        "CNI_CONTAINERID": call.container_id,
        "CNI_NETNS": call.netns,
        "CNI_IFNAME": call.ifname,
        "CNI_ARGS": call.args,
        "CNI_PATH": "/opt/cni/bin",
    }


def headers(call: Environment) -> dict[str, str]:
    """The same as the server hands them on: names in lower case."""
    return {
        "cni-command": call.command,
        "cni-containerid": call.container_id,
        "cni-netns": call.netns,
        "cni-ifname": call.ifname,
        "cni-args": call.args,
    }


def config(**members: Any) -> dict[str, Any]:
    """A chained network configuration, as a runtime writes it to standard input."""
    return {"cniVersion": "1.0.0", "name": "cbr0", "type": "proxypool", "prevResult": RESULT, **members}


def body(**members: Any) -> bytes:
    """The same as bytes; members that are `...` are left out."""
    return json.dumps({key: value for key, value in config(**members).items() if value is not ...}).encode()


def annotated(text: object, key: str = ANNOTATION) -> dict[str, Any]:
    """`runtimeConfig` for a pod with our annotation and somebody else's."""
    return {ANNOTATIONS_CAPABILITY: {"kubernetes.io/config.seen": "2026-11-24", key: text}}


class FakeAttachments:
    """Knows the subnets s1 and s2 and can be told to fail."""

    def __init__(self) -> None:
        self.of: dict[str, frozenset[tuple[IPv4Address, str]]] = {}
        self.fail_next: ProxypoolError | None = None

    def own(self, owner: str, addresses: tuple[IPv4Address, ...], subnets: tuple[str, ...]) -> None:
        self._fail()
        for subnet in subnets:
            if subnet not in ("s1", "s2"):
                raise InvalidInput(f"the pool has no subnet {subnet}")
        others = {
            name: frozenset(item for item in items if item[0] not in addresses) for name, items in self.of.items()
        }
        mine = frozenset((address, subnet) for address in addresses for subnet in subnets)
        self.of = {name: items for name, items in {**others, owner: mine}.items() if items}

    def release(self, owner: str) -> None:
        self._fail()
        self.of.pop(owner, None)

    def owned(self, owner: str) -> frozenset[tuple[IPv4Address, str]]:
        self._fail()
        return self.of.get(owner, frozenset())

    def owners(self) -> frozenset[str]:
        self._fail()
        return frozenset(self.of)

    def _fail(self) -> None:
        failure, self.fail_next = self.fail_next, None
        if failure is not None:
            raise failure
