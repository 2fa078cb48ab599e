"""What the kernel can do. As root it is tried, in a namespace that goes with the attempt; else lists of modules tell.

A try may have the kernel load a module, as the daemon would.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from proxypool.adapters.machine.programs import Said, run
from proxypool.core.doctor.codes import FEATURES, Feature
from proxypool.core.doctor.facts import KernelFacts, Tri
from proxypool.core.errors import TransientError

TRY_WITHIN_S = 5.0
_TRIES = {
    "gre": ("ip", "link", "add", "probe0", "type", "gre", "local", "127.0.0.1", "key", "1"),
    "vxlan": ("ip", "link", "add", "probe0", "type", "vxlan", "id", "1", "dstport", "4789"),
    "ip_set": ("ipset", "create", "probe", "hash:ip"),
    "ip_tables": ("iptables-legacy", "-w", "2", "-t", "filter", "-S"),
    "nf_nat": ("iptables-legacy", "-w", "2", "-t", "nat", "-S"),
    "nf_conntrack": ("iptables-legacy", "-w", "2", "-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW"),
    "notrack": ("iptables-legacy", "-w", "2", "-t", "raw", "-A", "OUTPUT", "-j", "CT", "--notrack"),
    "namespaces": ("true",),
}
"""Feature -> what works in a namespace of its own only with it."""


def kernel_facts() -> KernelFacts:
    """Release and features."""
    states, remarks = {}, {}
    may_try, why_not = _may_try()
    for feature in FEATURES:
        state, remark = _look(feature, may_try=may_try, why_not=why_not)
        states[feature.name] = state
        if remark:
            remarks[feature.name] = remark
    return KernelFacts(release=os.uname().release, features=states, remarks=remarks)


def _may_try() -> tuple[bool, str]:
    if os.geteuid() != 0:
        return False, "only root can try it"
    said = _unshared(("true",))
    return (True, "") if said.code == 0 else (False, " ".join(said.err.split()))


def _unshared(words: Iterable[str]) -> Said:
    try:
        return run(["unshare", "--net", "--", *words], TRY_WITHIN_S)
    except TransientError as error:
        return Said(127, "", str(error))


def _look(feature: Feature, *, may_try: bool, why_not: str) -> tuple[Tri, str]:
    if feature.name == "bpf":
        return _look_bpf()
    if may_try:
        said = _unshared(_TRIES[feature.name])
        if said.code == 0:
            return Tri.THERE, ""
        if said.code != 127:  # noqa: PLR2004 - the program is not there
            return Tri.MISSING, " ".join(said.err.split())[:200]
        why_not = " ".join(said.err.split())
    elif feature.name == "namespaces" and os.geteuid() == 0:
        return Tri.MISSING, why_not
    if feature.name == "namespaces":
        # Whether the daemon may make some is a question of its capabilities.
        return (Tri.THERE if os.path.exists("/proc/self/ns/net") else Tri.MISSING), ""
    state = modules_state(feature.modules, _read_loaded, _read_lists)
    return state, why_not if state is Tri.UNKNOWN else ""


def _look_bpf() -> tuple[Tri, str]:
    from proxypool.adapters.vrrp_ear import VrrpEar  # noqa: PLC0415 - only nodes have it

    if os.geteuid() != 0:
        return Tri.UNKNOWN, "only root can try it"
    try:
        VrrpEar().close()
    except Exception as error:  # noqa: BLE001 - whatever keeps it from working
        return Tri.MISSING, str(error)
    return Tri.THERE, ""


def modules_state(
    modules: Iterable[str], loaded: Callable[[], frozenset[str]], known: Callable[[], frozenset[str] | None]
) -> Tri:
    """Whether any of the modules is loaded, or can be; unknown if there is no list of those that can."""
    wanted = frozenset(modules)
    if wanted & loaded():
        return Tri.THERE
    available = known()
    if available is None or not wanted:
        return Tri.UNKNOWN
    return Tri.THERE if wanted & available else Tri.MISSING


def _read_loaded() -> frozenset[str]:
    try:
        return frozenset(line.split()[0] for line in Path("/proc/modules").read_text().splitlines())
    except OSError:
        return frozenset()


def _read_lists() -> frozenset[str] | None:
    """Modules that are built in or on the disk; None: there are no lists for this kernel."""
    directory = Path("/lib/modules", os.uname().release)
    found: set[str] = set()
    for name in ("modules.builtin", "modules.dep"):
        try:
            lines = (directory / name).read_text().splitlines()
        except OSError:
            continue
        found |= {Path(line.partition(":")[0]).name.partition(".ko")[0].replace("-", "_") for line in lines}
    return frozenset(found) if found else None


def read_sysctls(paths: Iterable[str]) -> dict[str, str | None]:
    """Path below /proc/sys -> value; None: there is no such entry, or it cannot be read."""
    found: dict[str, str | None] = {}
    for path in paths:
        try:
            found[path] = Path("/proc/sys", path).read_text().strip()
        except OSError:
            found[path] = None
    return found
