"""keepalived's configuration as text. We own `conf.d/proxypool.conf` and `conf.d/proxypool-<subnet>_<pair>.conf`.

VRRPv3 (RFC 5798), unicast because cloud fabrics drop multicast. Base priority and track-file weights: see the design.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from proxypool.core.addressing import ENI_DEVICE, namespace_of
from proxypool.core.detection import Detection
from proxypool.core.errors import InvalidInput
from proxypool.core.model import PairSpec, Snapshot
from proxypool.core.role import PRIORITY_ASIDE, Vrrp

BASE_PRIORITY = 1
"""All else comes from the track file. Where keepalived started before there was a directory for it, it goes on without
the file, and must not win against a member that serves.
"""
FILE_PREFIX = "proxypool"
GLOBAL_FILE = f"{FILE_PREFIX}.conf"
INSTANCE_PREFIX = "proxypool/"
SEPARATOR = "_"
"""Between a subnet's and a pair's name in names of files: neither can contain it, so no two pairs share a file."""
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
"""Of the namespace of the process that looks."""
STARTUP_DELAY_S = 1.5
"""How long a keepalived that has just started claims nothing. After a boot the master's advertisements arrive only when
the master's kernel has asked for our MAC again, and it asks a machine that was away once a second.
"""
STARTED_AFTER_S = STARTUP_DELAY_S + 0.5
"""Since its start; the delay begins when it has read its files. Until then a backup's priority is one of its own.

Within the delay keepalived 2.2 lengthens its master-down timer by what is left of the delay with every advertisement of
a lower priority than its own: by a minute and more in all. Only a change of its priority after the delay ends that. So
nothing is claimed meanwhile, and there is a change at the end.
"""
_VERSION = re.compile(r"(?:^|\s)v([0-9]{1,6}(?:\.[0-9]{1,6})*)")
MIN_VERSION = (2, 2, 3)
"""First with `down_timer_adverts`."""


@dataclass(frozen=True, slots=True)
class KeepalivedFacts:
    """Where things are on this machine, and how fast failures are detected."""

    node: str
    underlay_device: str
    underlay: IPv4Address
    run_dir: str
    detection: Detection
    flock: str = "/usr/bin/flock"
    shell: str = "/bin/sh"
    arping: str = "/usr/bin/arping"
    nsenter: str = "/usr/bin/nsenter"
    namespace_dir: str = "/run/netns"


def instance_name(subnet: str, pair: str) -> str:
    """Name of the VRRP instance; what the notify fifo reports."""
    return f"{INSTANCE_PREFIX}{subnet}/{pair}"


def file_name(subnet: str, pair: str) -> str:
    """Name of the pair's configuration file."""
    return f"{FILE_PREFIX}-{subnet}{SEPARATOR}{pair}.conf"


def track_file(run_dir: str, subnet: str, pair: str) -> str:
    """Path of the pair's track file."""
    return f"{run_dir}/track/{subnet}{SEPARATOR}{pair}"


def permit_file(run_dir: str, subnet: str, pair: str) -> str:
    """Path of the file that keeps the epoch in which a member was last permitted to serve, in mode strict."""
    return f"{run_dir}/permits/{subnet}{SEPARATOR}{pair}"


def gate_lock(run_dir: str, subnet: str) -> str:
    """Path of the file that is locked while a subnet's gate is written, by a notify line or by the daemon."""
    return f"{run_dir}/gates/{subnet}"


def fifo_path(run_dir: str) -> str:
    """Path of the notify fifo."""
    return f"{run_dir}/vrrp.fifo"


def global_text(facts: KeepalivedFacts) -> str:
    """The part common to all pairs.

    The users are named on every line: keepalived reads included files in the order of their names, and a `script_user`
    that it meets after the first script is an error that makes it drop all scripts at a reload.

    The VRRP process gets the highest ordinary priority. Its own real-time setting is not used: at a reload keepalived
    2.2 sets the limit of real-time CPU to 0 and, where it may not raise it again (no CAP_SYS_RESOURCE, as in
    containers and hardened units), the kernel kills the VRRP process. The daemon gives it real-time scheduling from
    outside.

    All instances share one socket. The system's buffer holds the adverts of a hundred pairs for 0.2 s; lost ones look
    like dead masters. 64 KiB for each instance hold its adverts for seconds.
    """
    return f"""# Written by proxypool; changes are overwritten.
global_defs {{
    enable_script_security
    vrrp_notify_fifo {fifo_path(facts.run_dir)} root root
    vrrp_priority -20
    vrrp_rx_bufs_policy 65536
    vrrp_startup_delay {STARTUP_DELAY_S:g}
}}
"""


def pair_text(facts: KeepalivedFacts, pair: PairSpec, peer: IPv4Address, pairs: int = 1) -> str:
    """The instance of one pair on this node, which has so many `pairs`.

    The notify lines move the gate even when the daemon is dead; the daemon does the same and repairs what they miss.
    The master announces itself every 2 s: after two masters that did not hear each other, hosts may remember the one
    that stood aside, and would find out by themselves only after 8 s. Its daemon does so at once (`daemons.defence`).
    """
    name = instance_name(pair.subnet, pair.id)
    tracker = f"proxypool_{pair.subnet}_{pair.id}"
    opening, closing = _gate_line(facts, pair, is_open=True), _gate_line(facts, pair, is_open=False)
    return f"""# Written by proxypool; changes are overwritten.
track_file {tracker} {{
    file {track_file(facts.run_dir, pair.subnet, pair.id)}
    weight 1
    init_file {PRIORITY_ASIDE}
}}
vrrp_instance {name} {{
    version 3
    state BACKUP
    interface {facts.underlay_device}
    virtual_router_id {pair.vrid}
    priority {BASE_PRIORITY}
    advert_int {facts.detection.interval_ms(pairs) / 1000:g}
    down_timer_adverts {facts.detection.missing}
    garp_master_refresh 2
    garp_master_refresh_repeat 1
    garp_lower_prio_repeat 1
    unicast_src_ip {facts.underlay}
    unicast_peer {{
        {peer}
    }}
    track_file {{
        {tracker}
    }}
    virtual_ipaddress {{
        {pair.havip}/32 dev {facts.underlay_device}
    }}
    notify_master "{opening}" root root
    notify_backup "{closing}" root root
    notify_fault "{closing}" root root
    notify_stop "{closing}" root root
}}
"""


def _gate_line(facts: KeepalivedFacts, pair: PairSpec, *, is_open: bool) -> str:
    """What moves the gate without the daemon.

    A hundred of these may start at once, on the processors that the daemon needs to do the same sooner. So where the
    gate is as it must be nothing is locked or written: two programs, some 2 ms. And nobody waits for the lock while
    another program is being started under it.
    """
    value = int(is_open)
    write = f"exec 9>{gate_lock(facts.run_dir, pair.subnet)}; {facts.flock} 9; echo {value} >{FORWARDING} && exec 9>&-"
    words = f"read is <{FORWARDING}; if [ $is != {value} ]; then {write}; fi"
    if is_open and pair.egress_address is not None:
        words = f"{words} && {_announcing(facts, pair.egress_address)}"
    inside = f"{facts.nsenter} --net={facts.namespace_dir}/{namespace_of(pair.subnet)}"
    return f"{inside} {facts.shell} -c '{words}'"


def _announcing(facts: KeepalivedFacts, address: IPv4Address) -> str:
    """Announce the egress address once the gate is open, and again if it still is after the second that arping takes.

    The daemon does the same, sooner and for as long as the gate is open; this is for one that is dead. Gratuitous ARP
    as iputils' arping sends it, which binds to the address although it is on no device (`ip_nonlocal_bind`).
    """
    announce = f"{facts.arping} -q -U -c 1 -w 1 -I {ENI_DEVICE} {address}"
    return f"{announce}; read is <{FORWARDING}; [ $is = 1 ] && {announce}"


def render(facts: KeepalivedFacts, snapshot: Snapshot) -> dict[str, str]:
    """All our files: name -> text. A pair whose other member has not registered yet waits: its address is unknown."""
    files = {GLOBAL_FILE: global_text(facts)}
    pairs = snapshot.pairs_on(facts.node)
    for pair in pairs:
        peer = pair.peer_of(facts.node)
        if peer is not None and peer.node in snapshot.nodes:
            address = snapshot.nodes[peer.node].underlay
            files[file_name(pair.subnet, pair.id)] = pair_text(facts, pair, address, len(pairs))
    return files


def unknown_files(node: str, snapshot: Snapshot, installed: Iterable[str]) -> frozenset[str]:
    """Those of our files that may be right, though `render` makes none: the documents they were made of cannot be read
    now. A predecessor, who could read them, left them; without them nobody would have the HaVip.
    """
    of_subnets = {name for name in installed if subnet_of_file(name) in snapshot.unread_subnets}
    pairs = [(pair, pair.peer_of(node)) for pair in snapshot.pairs_on(node)]
    of_peers = {
        file_name(pair.subnet, pair.id)
        for pair, peer in pairs
        if peer is not None and peer.node not in snapshot.nodes and peer.node in snapshot.unread_nodes
    }
    return frozenset(of_subnets | of_peers)


def subnet_of_file(name: str) -> str:
    """Of which subnet's pair a file of ours is; empty for the file of all."""
    subnet, separator, _ = name.removeprefix(f"{FILE_PREFIX}-").partition(SEPARATOR)
    return subnet if separator else ""


def parse_notification(line: str) -> tuple[str, str, Vrrp] | None:
    """Subnet, pair and state of a fifo line such as `INSTANCE "proxypool/s1/p1" MASTER 240`; None for others' lines."""
    words = line.split()
    match words:
        case ["INSTANCE", quoted, state, *_]:
            name = quoted.strip('"')
        case _:
            return None
    if not name.startswith(INSTANCE_PREFIX):
        return None
    subnet, _, pair = name.removeprefix(INSTANCE_PREFIX).partition("/")
    try:
        return subnet, pair, Vrrp(state.lower())
    except ValueError:
        return None


def parse_version(text: str) -> tuple[int, ...]:
    """Version from the first line of `keepalived --version`.

    Raises:
        InvalidInput: no version in it.
    """
    found = _VERSION.search(text)
    if found is None:
        raise InvalidInput(
            f"cannot read keepalived's version from {text[:200]!r}: is another program called keepalived?"
        )
    return tuple(int(part) for part in found[1].split("."))
