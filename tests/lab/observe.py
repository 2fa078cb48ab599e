"""What the tests of a running pool look at: the kernel of the lab's machines.

Most of it goes through sockets and files opened in a machine's namespaces by a thread of the test, not through programs
started there: looking must be quick, also in a guest where starting one takes 20 ms. What daemons say of themselves is
read from their `/metrics`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar

from proxypool.core.addressing import ENI_DEVICE, namespace_of, tunnel_device_of
from proxypool.core.keepalived import STARTED_AFTER_S
from proxypool.lab import processes
from proxypool.lab.lab import Lab
from proxypool.lab.machine import Machine
from proxypool.lab.namespaces import has_address, in_network_of
from proxypool.lab.plans import MemberPlan, PairPlan, SubnetPlan
from proxypool.lab.preflight import choose_tunnel
from proxypool.lab.topology import FABRIC, PAIR, Kind, Tunnel, mac_of

T = TypeVar("T")

IN_GUEST = "User Mode Linux" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
PATIENCE = 6.0 if IN_GUEST else 1.0
"""Deadlines are as long as this: a guest has one CPU, and each system call costs ten times as much."""
INNER_MTU = {Tunnel.GRE: 1472, Tunnel.VXLAN: 1450}
"""With 1500 on the underlay: 20 + 8 bytes of GRE with a key, 20 + 8 + 8 + 14 of VXLAN."""
METRICS_PORT = {Kind.NODE: 9477, Kind.HOST: 9478, Kind.CONTROLLER: 9479}
PROBE_MS = 10.0 if IN_GUEST else 1.0
GATE_LOOK_S = 0.02 if IN_GUEST else 0.001
"""As often as the one CPU of a guest can stand it: looking must not be what starves keepalived."""
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def tunnel_kind() -> Tunnel:
    """What PROXYPOOL_LAB_TUNNEL says; by default the best this kernel has."""
    return choose_tunnel(os.environ.get("PROXYPOOL_LAB_TUNNEL", "auto"))[0]


def wait_until(
    look: Callable[[], T], timeout_s: float, what: str | Callable[[], str], *, interval_s: float = 0.02
) -> T:
    """Look until something true is seen, and return it; the deadline is longer in a guest.

    Raises:
        AssertionError: it was not seen in time; the text says what was waited for.
    """
    deadline = time.monotonic() + timeout_s * PATIENCE
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(
                f"not within {timeout_s * PATIENCE:g} s: {what if isinstance(what, str) else what()}; seen: {seen!r}"
            )
        time.sleep(interval_s)


def stays(look: Callable[[], bool], duration_s: float, what: str, *, interval_s: float = 0.05) -> None:
    """Look for as long: it must be so each time. Not longer in a guest: there is nothing to wait for."""
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        assert look(), f"no longer so: {what}"
        time.sleep(interval_s)


# ---- namespaces ------------------------------------------------------------------------------------------------------


def inside(machine: Machine, namespace: str | None, act: Callable[[], T]) -> T:
    """Call `act` in a thread that is in a machine's network namespace, or in one that the machine has under a name.

    A socket made there stays there; /proc/sys/net is that namespace's.

    Raises:
        FileNotFoundError: the machine has no such namespace.
    """
    if namespace is None:
        return in_network_of(machine.pid, act)
    path = f"/proc/{machine.pid}/root/run/netns/{namespace}"
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            with open(path, "rb") as file:
                if _libc.setns(file.fileno(), CLONE_NEWNET):
                    # A plain file: its namespace was never mounted on it, or was removed.
                    raise FileNotFoundError(  # noqa: TRY301 - handed to the caller's thread like any other
                        ctypes.get_errno(), os.strerror(ctypes.get_errno()), path
                    )
            results.put((act(), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            results.put((None, error))

    thread = threading.Thread(target=run, name=f"in {namespace} of {machine.name}")
    thread.start()
    thread.join()
    value, failure = results.get()
    if failure is not None:
        raise failure
    return value  # type: ignore[return-value]


def sysctl(machine: Machine, namespace: str | None, path: str) -> str:
    """A value below /proc/sys/net."""
    return inside(machine, namespace, lambda: Path(f"/proc/sys/net/{path}").read_text(encoding="ascii").strip())


def set_sysctl(machine: Machine, namespace: str | None, path: str, value: str) -> None:
    """Change a value below /proc/sys/net."""
    inside(machine, namespace, lambda: Path(f"/proc/sys/net/{path}").write_text(value, encoding="ascii"))


def masters(lab: Lab, subnet: SubnetPlan) -> set[str]:
    """The nodes that have the HaVip of a subnet's pair on a card, as their kernels say."""
    return {
        member.node
        for member in subnet.members
        if (init := lab.machine(member.node).init()) and has_address(init.pid, subnet.havip)
    }


def gate(lab: Lab, node: str, subnet: SubnetPlan) -> bool | None:
    """`ip_forward` of the subnet's namespace on a node; None without such a namespace, and when the node is off."""
    machine = lab.machine(node)
    if not machine.is_on:
        return None
    with contextlib.suppress(FileNotFoundError):
        return sysctl(machine, namespace_of(subnet.id), "ipv4/ip_forward") == "1"
    return None


def open_gates(lab: Lab, subnet: SubnetPlan) -> set[str]:
    """The nodes that forward for a subnet."""
    return {member.node for member in subnet.members if gate(lab, member.node, subnet)}


def master_of(lab: Lab, subnet: SubnetPlan) -> str:
    """The one node that has the HaVip and the open gate."""

    def look() -> str:
        holders = masters(lab, subnet)
        return next(iter(holders)) if len(holders) == 1 and open_gates(lab, subnet) == holders else ""

    return wait_until(
        look,
        5.0,
        lambda: f"one master of {subnet.id}; HaVip on {masters(lab, subnet)}, gate open on {open_gates(lab, subnet)}",
    )


def other_of(subnet: SubnetPlan, node: str) -> str:
    """The pair's other node."""
    return next(member.node for member in subnet.members if member.node != node)


def address_of(subnet: SubnetPlan, node: str) -> str:
    """The ENI's address on a node."""
    return next(member.address.partition("/")[0] for member in subnet.all_members if member.node == node)


# ---- what daemons say ------------------------------------------------------------------------------------------------


def metrics(lab: Lab, name: str) -> dict[str, float]:
    """Series -> value of a machine's daemon; empty while it does not answer."""
    machine = lab.machine(name)
    place = (machine.spec.ip, METRICS_PORT[machine.spec.kind])
    try:
        with inside(machine, None, lambda: socket.create_connection(place, timeout=2.0 * PATIENCE)) as link:
            link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = b"".join(iter(lambda: link.recv(65536), b"")).decode()
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.startswith(("proxypool_", "process_")):
            found[series] = float(value)
    return found


def repairs(lab: Lab, name: str) -> float:
    """How often a daemon has put something right."""
    return sum(
        value for series, value in metrics(lab, name).items() if series.startswith("proxypool_drift_repairs_total")
    )


@dataclass(frozen=True, slots=True)
class Said:
    """What a node's daemon says of itself as a member of a pair."""

    role: str
    elected: bool
    fit: bool
    epoch: int


def said(lab: Lab, node: str, subnet: SubnetPlan) -> Said | None:
    """None when the daemon does not answer, or is no member of such a pair (yet: its history it tells before)."""
    if not lab.machine(node).is_on:
        return None
    found = metrics(lab, node)
    pair = subnet.pairs[0].id
    by_name: dict[str, float] = {}
    role = ""
    for series, value in found.items():
        name, _, rest = series.partition("{")
        given = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if (given.get("subnet"), given.get("pair")) != (subnet.id, pair):
            continue
        if name == "proxypool_member_role":
            role = given["role"] if value else role
        else:
            by_name[name.removeprefix("proxypool_member_")] = value
    if "elected" not in by_name:
        return None
    return Said(role, bool(by_name["elected"]), bool(by_name["fit"]), int(by_name["epoch"]))


def settled_said(lab: Lab) -> dict[str, Said | None]:
    """What every member of every pair says of itself."""
    return {
        f"{subnet.id}/{member.node}": said(lab, member.node, subnet.through(pair.id))
        for subnet in lab.topology.subnet_plans
        for pair in subnet.pairs
        for member in pair.members
    }


def epoch_of(lab: Lab, subnet: SubnetPlan) -> int:
    """The highest epoch that a living member knows."""
    return max((seen.epoch for member in subnet.members if (seen := said(lab, member.node, subnet))), default=0)


def status(lab: Lab, on: str = "node-a") -> dict[str, Any]:
    """The document of `proxypool status -o json`."""
    document: dict[str, Any] = json.loads(lab.proxypool("status", "-o", "json", on=on, timeout=30 * PATIENCE).stdout)
    return document


def unsettled(lab: Lab, subnet: SubnetPlan) -> str:
    """What is not as it is when all is well; nothing when it is: one master with the gate, elected; one fit backup."""
    holders, gates = masters(lab, subnet), open_gates(lab, subnet)
    if len(holders) != 1 or gates != holders:
        return f"{subnet.id}: HaVip on {sorted(holders)}, gate open on {sorted(gates)}"
    master = next(iter(holders))
    for member in subnet.members:
        seen = said(lab, member.node, subnet)
        is_master = member.node == master
        wanted_role = "master" if is_master else "backup"
        if seen is None or not seen.fit or seen.role != wanted_role or seen.elected is not is_master:
            return f"{subnet.id}: {member.node} should be {wanted_role}, says {seen}"
        if not is_master and not may_claim(lab, member.node):
            return f"{subnet.id}: keepalived of {member.node} has just started, and claims nothing yet"
    return ""


def may_claim(lab: Lab, node: str) -> bool:
    """Whether a node's keepalived runs for longer than its startup delay, which is that of its VRRP process: the youngest
    of its processes, started when it has an instance.

    Its daemon lets it claim nothing until then.
    """
    started = [one.start for one in lab.machine(node).processes() if one.name.startswith("keepalived")]
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    return bool(started) and now - max(started) / os.sysconf("SC_CLK_TCK") > STARTED_AFTER_S


def wait_settled(lab: Lab, timeout_s: float = 20.0) -> None:
    """Until every pair has one master, which is elected, and a backup that could take over."""
    for subnet in lab.topology.subnet_plans:
        wait_subnet_settled(lab, subnet, timeout_s)


def wait_subnet_settled(lab: Lab, subnet: SubnetPlan, timeout_s: float) -> None:
    """The same for one subnet."""
    for pair in subnet.pairs:
        look = partial(unsettled, lab, subnet.through(pair.id))
        wait_until(lambda look=look: not look(), timeout_s, look)  # type: ignore[misc]


# ---- fingerprints ----------------------------------------------------------------------------------------------------

_SAVE = """
readlink /proc/self/ns/net
ip -o -d link | sed 's/ numtxqueues .*//'
ip -o addr
ip route show table all
ip rule
ip neigh show nud permanent
bridge fdb show 2>/dev/null | grep -v 'dev eth0' || true
iptables-legacy-save | sed -e 's/\\[[0-9]*:[0-9]*\\]//' -e '/^#/d'
"""
_SETS = "ipset save 2>/dev/null | sort"
_SYSCTLS = """
cd /proc/sys/net
grep -s . ipv4/conf/eni0/rp_filter ipv4/conf/eni0/send_redirects ipv4/conf/eni0/accept_source_route \\
  ipv4/conf/eni0/arp_ignore ipv4/conf/eni0/arp_announce netfilter/nf_conntrack_tcp_loose || true
"""


def _lines(machine: Machine, namespace: str | None, script: str) -> tuple[str, ...]:
    where = ["ip", "netns", "exec", namespace] if namespace else []
    done = machine.run([*where, "sh", "-c", script], check=False, timeout=30 * PATIENCE)
    return tuple(line.strip() for line in done.stdout.splitlines())


def picture(machine: Machine, namespace: str | None, *, with_identity: bool = True) -> tuple[str, ...]:
    """A namespace as text: links with their indexes, addresses, routes, rules, neighbours, tables; counters left out.

    Without `with_identity` also the namespace's inode and the links' indexes are: what was made anew looks the same.
    """
    found = _lines(machine, namespace, _SAVE + (_SETS if namespace is None else _SYSCTLS))
    if with_identity:
        return found
    found = tuple(re.sub(r"^\d+: ", "", line) for line in found if not line.startswith("net:["))
    found = tuple(re.sub(r"@if\d+|link-netnsid \d+|link-netns \S+|group default.*alias", "", line) for line in found)
    return tuple(sorted(found))


def fingerprint(lab: Lab, node: str) -> dict[str, tuple[str, ...]]:
    """Everything of a machine's network: its own namespace and every one that it has under a name."""
    machine = lab.machine(node)
    names = machine.run(["ls", "/run/netns"], check=False).stdout.split()
    return {"": picture(machine, None), **{name: picture(machine, name) for name in names}}


def difference(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> list[str]:
    """Lines that came or went, by namespace: for the message of a failed assertion."""
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = Counter(before.get(name, ())), Counter(after.get(name, ()))
        found += [f"{name or 'root'} - {line}" for line in (old - new).elements()]
        found += [f"{name or 'root'} + {line}" for line in (new - old).elements()]
    return found


# ---- sampling and sniffing -------------------------------------------------------------------------------------------


class GateSampler:
    """Reads the gates of a pair all the time: how long were two open at once, how long all closed?

    A file of a namespace that is gone reads as closed. `only`: the one node to look at, if another is off.
    """

    def __init__(
        self, lab: Lab, subnet: SubnetPlan, *, only: str | None = None, interval_s: float = GATE_LOOK_S
    ) -> None:
        self._interval_s = interval_s
        self._files = [
            inside(
                lab.machine(member.node),
                namespace_of(subnet.id),
                lambda: os.open("/proc/sys/net/ipv4/ip_forward", os.O_RDONLY | os.O_CLOEXEC),
            )
            for member in subnet.members
            if only in (None, member.node)
        ]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gates", daemon=True)
        self.longest_overlap_s = self.longest_closed_s = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for fd in self._files:
            os.close(fd)

    def _run(self) -> None:
        count, since = 1, time.monotonic()
        while not self._stop.wait(self._interval_s):
            now_open, now = sum(self._read(fd) for fd in self._files), time.monotonic()
            if now_open != count:
                count, since = now_open, now
            elif count == 0:
                self.longest_closed_s = max(self.longest_closed_s, now - since)
            elif count > 1:
                self.longest_overlap_s = max(self.longest_overlap_s, now - since)

    @staticmethod
    def _read(fd: int) -> bool:
        try:
            return os.pread(fd, 8, 0).strip() == b"1"
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Frame:
    """What was seen on a wire."""

    source_mac: str
    kind: int
    """EtherType."""
    payload: bytes
    """After the Ethernet header."""

    @property
    def source(self) -> str:
        """IPv4 source, or ARP sender; empty for other protocols."""
        if self.kind == 0x0800:
            return socket.inet_ntoa(self.payload[12:16])
        return socket.inet_ntoa(self.payload[14:18]) if self.kind == 0x0806 else ""

    @property
    def destination(self) -> str:
        """IPv4 destination, or ARP target."""
        if self.kind == 0x0800:
            return socket.inet_ntoa(self.payload[16:20])
        return socket.inet_ntoa(self.payload[24:28]) if self.kind == 0x0806 else ""

    @property
    def protocol(self) -> int:
        """IP protocol number; 0 if it is no IPv4."""
        return self.payload[9] if self.kind == 0x0800 else 0

    @property
    def is_fragment(self) -> bool:
        """More fragments follow, or it is not the first."""
        return self.kind == 0x0800 and bool(int.from_bytes(self.payload[6:8], "big") & 0x3FFF)

    @property
    def inner(self) -> bytes:
        """What is behind the IPv4 header."""
        return self.payload[(self.payload[0] & 15) * 4 :] if self.kind == 0x0800 else b""

    @property
    def mss(self) -> int | None:
        """The MSS that a SYN offers."""
        segment = self.inner
        if self.protocol != 6 or not segment[13] & 2:
            return None
        options = segment[20 : (segment[12] >> 4) * 4]
        while options and options[0]:
            if options[0] == 1:
                options = options[1:]
            elif options[0] == 2:
                return int.from_bytes(options[2:4], "big")
            else:
                options = options[options[1] :]
        return None

    def __str__(self) -> str:
        return f"{self.source_mac} {self.kind:#06x} {self.source} > {self.destination} proto {self.protocol}"


class Sniffer:
    """Frames on an interface of a machine, or on a bridge of the fabric, where it sees what the ports send.

    `is_wanted` sifts in this process; `program` in the kernel, where there may be much traffic.
    """

    def __init__(
        self,
        lab: Lab,
        machine: str,
        device: str,
        *,
        is_wanted: Callable[[Frame], bool] = lambda _: True,
        program: list[tuple[int, int, int, int]] | None = None,
    ) -> None:
        self.frames: list[Frame] = []
        self._is_wanted = is_wanted
        pid = fabric_pid(lab) if machine == FABRIC else lab.machine(machine).pid
        self._link = in_network_of(pid, lambda: _packet_socket(device, program))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sniffer {device}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._link.close()

    def _run(self) -> None:
        self._link.settimeout(0.1)
        while not self._stop.is_set():
            try:
                data = self._link.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                # The device went down or away; a bridge stays.
                time.sleep(0.05)
                continue
            frame = Frame(data[6:12].hex(":"), int.from_bytes(data[12:14], "big"), data[14:])
            if self._is_wanted(frame):
                self.frames.append(frame)


def fabric_pid(lab: Lab) -> int:
    """The fabric's init."""
    return next(p.pid for p in processes.find(lab.name) if p.machine == FABRIC and p.service == processes.INIT)


def _packet_socket(device: str, program: list[tuple[int, int, int, int]] | None) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    if program:
        code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
        buffer = ctypes.create_string_buffer(code)
        link.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(program), ctypes.addressof(buffer)))
    index = socket.if_nametoindex(device)
    link.bind((device, 0x0003))
    # PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC: a bridge then shows all frames that pass it.
    link.setsockopt(263, 1, struct.pack("iHH8s", index, 1, 0, b""))
    return link


def strangers_program(cards: dict[str, tuple[str, str]]) -> list[tuple[int, int, int, int]]:
    """A filter for `Sniffer` (classic BPF): frames from these MACs whose IPv4 source, or ARP sender, is neither address
    that belongs to the MAC: its own and the egress address of its pair (the same again if there is none). Of the latter
    ARP may only speak in answers and announcements. Anything else from these MACs passes too, and nothing from others.
    """
    word, half, equal, end = 0x20, 0x28, 0x15, 0x06
    program: list[tuple[int, int, int, int]] = []
    strange, fine, following = 17, 18, 19
    for mac, addresses in cards.items():
        raw = bytes.fromhex(mac.replace(":", ""))
        own, egress = (int.from_bytes(socket.inet_aton(address), "big") for address in addresses)
        block = [
            (word, 1, 1, 6),
            (equal, 2, following, int.from_bytes(raw[:4], "big")),
            (half, 3, 3, 10),
            (equal, 4, following, int.from_bytes(raw[4:], "big")),
            (half, 5, 5, 12),
            (equal, 6, 9, 0x0800),
            (word, 7, 7, 26),
            (equal, fine, 8, own),
            (equal, fine, strange, egress),
            (equal, 10, strange, 0x0806),
            (word, 11, 11, 28),
            (equal, fine, 12, own),
            (equal, 13, strange, egress),
            (half, 14, 14, 20),
            (equal, fine, 15, 2),
            (word, 16, 16, 38),
            (equal, fine, strange, egress),
            (end, following, following, 0xFFFF),
            (end, following, following, 0),
        ]
        for at, (code, if_so, if_not, value) in enumerate(block, 1):
            jumps = (if_so - at, if_not - at) if code == equal else (0, 0)
            program.append((code, *jumps, value))
    return [*program, (end, 0, 0, 0)]


@dataclass
class EniWatch:
    """Sees every frame that leaves an ENI with a source that is neither that ENI's own nor its pair's egress address, for
    as long as the lab is up.
    """

    lab: Lab
    _sniffers: dict[str, Sniffer] = field(default_factory=dict)

    def start(self) -> None:
        """One socket per customer's bridge; a bridge stays when machines are switched off."""
        for subnet in self.lab.topology.subnet_plans:
            cards = {}
            for pair in subnet.pairs:
                for member in pair.members:
                    own = member.address.partition("/")[0]
                    cards[mac_of(member.node, member.eni)] = (own, pair.egress_address or own)
            sniffer = Sniffer(self.lab, FABRIC, subnet.bridge, program=strangers_program(cards))
            sniffer.__enter__()
            self._sniffers[subnet.id] = sniffer

    def seen(self) -> list[str]:
        """What was seen since the last call."""
        found = []
        for name, sniffer in self._sniffers.items():
            count = len(sniffer.frames)
            found += [f"{name}: {frame}" for frame in sniffer.frames[:count]]
            del sniffer.frames[:count]
        return found

    def stop(self) -> None:
        """Close the sockets."""
        for sniffer in self._sniffers.values():
            sniffer.__exit__()
        self._sniffers.clear()


# ---- talking ---------------------------------------------------------------------------------------------------------


def connect(lab: Lab, machine: str, place: tuple[str, int], timeout_s: float = 5.0) -> socket.socket:
    """A TCP connection from a machine."""
    return inside(lab.machine(machine), None, lambda: socket.create_connection(place, timeout=timeout_s * PATIENCE))


def listen(lab: Lab, machine: str, port: int) -> socket.socket:
    """A TCP server on a machine."""

    def make() -> socket.socket:
        server = socket.create_server(("0.0.0.0", port))
        server.settimeout(5.0 * PATIENCE)
        return server

    return inside(lab.machine(machine), None, make)


def datagrams(lab: Lab, machine: str, port: int = 0, timeout_s: float = 5.0) -> socket.socket:
    """A UDP socket on a machine."""

    def make() -> socket.socket:
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.bind(("0.0.0.0", port))
        link.settimeout(timeout_s * PATIENCE)
        return link

    return inside(lab.machine(machine), None, make)


def snmp(lab: Lab, machine: str, namespace: str | None = None) -> dict[str, int]:
    """The counters of /proc/net/snmp: `Ip.FragCreates` and so on."""

    def read() -> str:
        return Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")

    lines = inside(lab.machine(machine), namespace, read).splitlines()
    found = {}
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        kind, *keys = names.split()
        found.update(
            {f"{kind}{key}".replace(":", "."): int(value) for key, value in zip(keys, values.split()[1:], strict=True)}
        )
    return found


def in_namespace(lab: Lab, node: str, subnet: SubnetPlan, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a subnet's namespace on a node."""
    words = ["ip", "netns", "exec", namespace_of(subnet.id), *command]
    return lab.machine(node).run(words, timeout=30 * PATIENCE)


def kill_daemon(lab: Lab, name: str) -> None:
    """SIGKILL, and wait for a program that it may just have started: that one would pass for the daemon."""
    lab.fault("kill-daemon", name)
    machine = lab.machine(name)
    wait_until(lambda: not any(p.service == "daemon" for p in machine.processes()), 10.0, f"{name} to have no daemon")


@contextlib.contextmanager
def spare_cards(lab: Lab, *names: str) -> Iterator[None]:
    """More ENIs on each node. The far ends stay in the node itself, up: nobody answers there."""
    for node in lab.topology.node_names:
        for name in names:
            lab.machine(node).run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-far"])
            lab.machine(node).run(["ip", "link", "set", f"{name}-far", "up"])
    try:
        yield
    finally:
        for node in lab.topology.node_names:
            for name in names:
                lab.machine(node).run(["ip", "link", "del", f"{name}-far"], check=False)


ACCEPT_ALL = ("--accept-risk=drop-connections", "--accept-risk=stop-new-connections")
CLIENT_CONFIG = 'pool = "lab"\n\n[zookeeper]\nhosts = ["192.168.2.1:2181"]\n'


@contextlib.contextmanager
def another_subnet(lab: Lab, name: str, *, enis: tuple[str, str], havip: str = "192.168.4.200") -> Iterator[SubnetPlan]:
    """A subnet with a pair, added with the product's commands and removed at the end."""
    nodes = lab.topology.node_names[:2]
    members = tuple(
        MemberPlan(node, eni, f"172.20.0.{last}/24") for node, eni, last in zip(nodes, enis, (11, 12), strict=True)
    )
    first, second = members
    plan = SubnetPlan(
        number=90,
        id=name,
        tenant=name,
        cidr="172.20.0.0/24",
        key=0,
        database="",
        database_ip="172.20.0.4",
        pairs=(PairPlan(PAIR, havip, (first, second)),),
    )
    lab.proxypool("subnet", "add", name, "--cidr", plan.cidr, "--tenant", name, timeout=60 * PATIENCE)
    try:
        options = [f"--member={m.node},eni={m.eni},address={m.address}" for m in members]
        lab.proxypool("pair", "add", name, PAIR, "--havip", havip, *options, timeout=60 * PATIENCE)
        yield plan
    finally:
        lab.proxypool("pair", "remove", name, PAIR, "--yes", *ACCEPT_ALL, check=False, timeout=60 * PATIENCE)
        lab.proxypool("subnet", "remove", name, "--yes", timeout=60 * PATIENCE)


def wait_gone(lab: Lab, name: str, timeout_s: float = 10.0) -> None:
    """Until nothing of a removed subnet is left on any node."""

    def leftovers() -> list[str]:
        script = "ip netns list; ip -br link; iptables-legacy-save; ls /etc/keepalived/conf.d /run/proxypool/track"
        words = (namespace_of(name), tunnel_device_of(name), f"-{name}")
        texts = {
            node: lab.machine(node).run(["sh", "-c", script], check=False).stdout for node in lab.topology.node_names
        }
        return [f"{node}: {word}" for node, text in texts.items() for word in words if word in text]

    wait_until(lambda: not leftovers(), timeout_s, lambda: f"nothing of {name} to be left: {leftovers()}")


@contextlib.contextmanager
def undone(lab: Lab, machine: str, do: list[str], undo: list[str]) -> Iterator[None]:
    """Run a command, and another one at the end."""
    lab.machine(machine).run(do)
    try:
        yield
    finally:
        lab.machine(machine).run(undo, check=False)


def python(lab: Lab, machine: str, program: str, *arguments: str) -> str:
    """Run a Python program on a machine, with the product's packages."""
    return lab.machine(machine).run([sys.executable, "-c", program, *arguments], timeout=60 * PATIENCE).stdout


TUNNEL_DEVICE = tunnel_device_of
ENI = ENI_DEVICE
