"""What the tests of function hosts do to instances and see of them: attach, try to reach, watch what leaks."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from proxypool.core.addressing import tunnel_device_of
from proxypool.core.errors import TransientError
from proxypool.lab import agent
from proxypool.lab.agent import Attachment
from proxypool.lab.lab import Lab
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Flows
from proxypool.lab.topology import RESPONDER_PORT, Tunnel
from tests.lab.observe import PATIENCE, Frame, Sniffer, datagrams, inside, undone, wait_until

SILENCE_S = 1.5
"""How long to wait for an error: what takes longer is a silent hang."""
INSTANCES = IPv4Network("10.244.0.0/16")
REACHED, SILENCE = "reached", "silence"
INTERNET = "203.0.113.1"
"""What the default route of `Leaks` leads to."""
IP_RECVERR = 11
ICMP, UDP, GRE = 1, 17, 47
VXLAN_PORT = 4789


def api(lab: Lab, host: str = "host1") -> Path:
    """The socket of a host's agent."""
    return agent.socket_of(lab.machine(host))


def ip_of(lab: Lab, pod: str) -> str:
    """An instance's address."""
    return lab.topology.machines[pod].ip


def attached(lab: Lab, host: str = "host1") -> set[Attachment]:
    """What the agent says is attached."""
    return {(str(item["address"]), str(item["subnet"])) for item in agent.attachments(api(lab, host))}


def in_kernel(lab: Lab, host: str = "host1") -> dict[str, str]:
    """Entries of the set of attached instances: address -> mark."""
    text = lab.machine(host).run(["ipset", "save", "pp-attached"]).stdout
    return dict(re.findall(r"^add pp-attached (\S+) skbmark (\S+)", text, re.MULTILINE))


def wait_shared(lab: Lab, timeout_s: float = 20.0) -> None:
    """Until new connections of every host take every pair: one that has just begun to answer gets some soon after."""
    for host in sorted({instance.host for instance in lab.topology.instances}):
        for subnet in lab.topology.subnet_plans:
            if len(subnet.pairs) > 1:
                wait_until(
                    lambda pod=f"pod{host}", subnet=subnet: _is_shared(lab, pod, subnet),  # type: ignore[misc]
                    timeout_s,
                    f"pod{host} to reach {subnet.id} through each of its pairs",
                )


def _is_shared(lab: Lab, pod: str, subnet: SubnetPlan) -> bool:
    count = 10 * len(subnet.pairs)
    with Flows(lab, pod, subnet.database_ip, count=count) as flows:
        sources = flows.wait(60.0 * PATIENCE)["sources"]
    return {subnet.pair_with(source) for source in sources} == {pair.id for pair in subnet.pairs}


def restore_attachments(lab: Lab) -> None:
    """Attach what the topology says, and nothing else; agents that do not answer are left to `heal`."""
    wanted = lab.topology.attachments() if lab.topology.attach and not lab.topology.attach_all else {}
    for host in {f"host{instance.host}" for instance in lab.topology.instances}:
        agent.wait_api(api(lab, host), 15.0 * PATIENCE, f"the agent of {host}")
        surplus = attached(lab, host) - set(wanted.get(host, ()))
        if surplus:
            detach_soon(lab, host, *sorted(surplus))
        if wanted.get(host):
            agent.attach_soon(api(lab, host), wanted[host], 15.0 * PATIENCE, f"the agent of {host}")


def detach_soon(lab: Lab, host: str, *unwanted: Attachment) -> None:
    """Detach; an agent that has just been started has not heard of the pool yet."""

    def is_done() -> bool:
        with contextlib.suppress(TransientError):
            agent.detach(api(lab, host), *unwanted)
            return True
        return False

    wait_until(is_done, 15.0, f"the agent of {host} to detach")


@contextlib.contextmanager
def detached(lab: Lab, pod: str, *subnets: str) -> Iterator[None]:
    """An instance without some of its attachments (default: all), as long as this lasts; or until the lab is healed, if
    its agent is gone by then.
    """
    place = api(lab, host_of(lab, pod))
    address = ip_of(lab, pod)
    mine = {(one, name) for one, name in attached(lab, host_of(lab, pod)) if one == address}
    gone = sorted(item for item in mine if not subnets or item[1] in subnets)
    agent.detach(place, *gone)
    try:
        yield
    finally:
        with contextlib.suppress(TransientError):
            agent.attach(place, *gone)


def host_of(lab: Lab, pod: str) -> str:
    """The host that an instance runs on."""
    return next(f"host{instance.host}" for instance in lab.topology.instances if instance.name == pod)


def tracked(lab: Lab, host: str, source: str) -> list[str]:
    """The connections of an instance that its host remembers."""
    found = lab.machine(host).run(["conntrack", "-L", "-s", source], check=False).stdout
    return [line for line in found.splitlines() if line.strip()]


def tracked_tunnel_packets(lab: Lab, host: str) -> list[str]:
    """What a host's connection table knows of its tunnels' own packets."""
    which = {Tunnel.GRE: ["-p", "gre"], Tunnel.VXLAN: ["-p", "udp", "--dport", str(VXLAN_PORT)]}[lab.topology.tunnel]
    found = lab.machine(host).run(["conntrack", "-L", *which], check=False).stdout
    return [line for line in found.splitlines() if line.strip()]


# ---- trying to reach something ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt."""

    what: str
    """`reached`, `silence`, or the name of the error number."""
    after_s: float

    @property
    def is_refusal(self) -> bool:
        """Whether an error came, in time."""
        return self.what not in (REACHED, SILENCE)


def _attempt(act: Callable[[], object]) -> Outcome:
    began = time.monotonic()
    try:
        act()
        what = REACHED
    except TimeoutError:
        what = SILENCE
    except OSError as error:
        what = errno.errorcode.get(error.errno or 0, str(error))
    return Outcome(what, time.monotonic() - began)


def try_tcp(lab: Lab, pod: str, address: str, port: int = RESPONDER_PORT) -> Outcome:
    """Open a connection."""

    def act() -> None:
        socket.create_connection((address, port), timeout=SILENCE_S * PATIENCE).close()

    return inside(lab.machine(pod), None, lambda: _attempt(act))


def try_udp(lab: Lab, pod: str, address: str, port: int = RESPONDER_PORT) -> Outcome:
    """Send a datagram and wait for its echo."""

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            _ask(link, address, port, b"anybody there?")

    return inside(lab.machine(pod), None, lambda: _attempt(act))


def try_ping(lab: Lab, pod: str, address: str) -> Outcome:
    """Send an echo request and wait for the reply."""

    def act() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as link:
            blank = struct.pack("!BBHHH", 8, 0, 0, os.getpid() & 0xFFFF, 1)
            total = sum(struct.unpack("!4H", blank))
            checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
            _ask(link, address, 0, blank[:2] + checksum.to_bytes(2) + blank[4:])

    return inside(lab.machine(pod), None, lambda: _attempt(act))


def _ask(link: socket.socket, address: str, port: int, data: bytes) -> None:
    link.settimeout(SILENCE_S * PATIENCE)
    link.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    link.connect((address, port))
    link.send(data)
    link.recv(256)


def try_all(lab: Lab, pod: str, address: str) -> dict[str, Outcome]:
    """The three of them."""
    return {
        "tcp": try_tcp(lab, pod, address),
        "udp": try_udp(lab, pod, address),
        "icmp": try_ping(lab, pod, address),
    }


def shares(lab: Lab, pod: str, subnet: SubnetPlan, count: int, *, udp: bool = False) -> dict[str, int]:
    """Pair -> how many of so many new connections (or UDP flows) took it. All must be answered."""
    first_port = 10000 + int(time.monotonic() * 1000) % 40000
    with Flows(lab, pod, subnet.database_ip, count=count, udp=udp, first_port=first_port) as flows:
        result = flows.wait(60.0 * PATIENCE)
    assert result["failed"] == {}, result
    assert result["answered"] == count, result
    found: Counter[str] = Counter()
    for source, answered in result["sources"].items():
        found[subnet.pair_with(source)] += answered
    return dict(found)


def by_pair(subnet: SubnetPlan, result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The records of `Connections`, by the pair that carried them."""
    found: dict[str, list[dict[str, Any]]] = {pair.id: [] for pair in subnet.pairs}
    for record in result["connections"]:
        if record["source"] is not None:
            found[subnet.pair_with(record["source"])].append(record)
    return found


# ---- leaks -----------------------------------------------------------------------------------------------------------


def inner_source(frame: Frame) -> str:
    """The source of an IPv4 packet in a tunnel packet; empty if it is none."""
    if frame.protocol == UDP and int.from_bytes(frame.inner[2:4]) == VXLAN_PORT:
        inside_it = frame.inner[8 + 8 + 14 :]
    elif frame.protocol == GRE:
        inside_it = frame.inner[8:]
    else:
        return ""
    return socket.inet_ntoa(inside_it[12:16]) if len(inside_it) >= 20 else ""


class Leaks:
    """Sees every packet that leaves a host by its underlay card and should not: to a customer's address outside of a
    tunnel, or inside of one with an instance's own source.
    """

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab, self._host = lab, host
        self._customers = [IPv4Network(subnet.cidr) for subnet in lab.topology.subnet_plans]
        self._sniffer = Sniffer(lab, host, "eth0", is_wanted=self._is_wanted)

    def _is_wanted(self, frame: Frame) -> bool:
        if frame.kind != 0x0800:
            return False
        target = IPv4Address(frame.destination)
        hidden = inner_source(frame)
        return (
            frame.destination == INTERNET
            or any(target in cidr for cidr in self._customers)
            or (bool(hidden) and IPv4Address(hidden) in INSTANCES)
        )

    @property
    def frames(self) -> list[str]:
        """What was seen, without the control packet."""
        return [
            f"{frame} inner {inner_source(frame) or '-'}"
            for frame in self._sniffer.frames
            if frame.destination != INTERNET
        ]

    def prove(self, pod: str) -> None:
        """A packet of an instance to elsewhere does leave by this card: so would what must not."""
        with datagrams(self._lab, pod) as link:
            link.sendto(b"x", (INTERNET, 9))
            wait_until(
                lambda: any(frame.destination == INTERNET for frame in self._sniffer.frames), 3.0, "the control packet"
            )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look, as long as this lasts."""
        with self._sniffer:
            yield


@contextlib.contextmanager
def no_leak(lab: Lab, pod: str) -> Iterator[Leaks]:
    """The instance's host gets a default route to a machine of the underlay; nothing that is a customer's takes it."""
    host = host_of(lab, pod)
    route = ["default", "via", "192.168.2.1"]
    leaks = Leaks(lab, host)
    with (
        undone(lab, host, ["ip", "route", "replace", *route], ["ip", "route", "del", *route]),
        leaks.watching(),
    ):
        leaks.prove(pod)
        yield leaks
        time.sleep(0.1)  # the sniffer reads what it has got by now
        assert not leaks.frames, f"{len(leaks.frames)} frames, as {leaks.frames[:5]}"


def tunnel_of(subnet: SubnetPlan) -> str:
    """The name of a subnet's tunnel."""
    return tunnel_device_of(subnet.id)
