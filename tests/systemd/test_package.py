"""The Debian package under a real systemd and under traffic: installed, upgraded, taken back, removed, purged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool import __version__
from tests.package.clean_root import BACKUPS, DPKGS, CannotMake, clean_root, packages_of
from tests.package.conftest import NEXT, build
from tests.systemd.machines import Machine, running_fabric
from tests.systemd.pool import (
    CONFIG,
    NODES,
    ZOOKEEPER_FILES,
    Pings,
    Pool,
    configuration,
    kernel_state,
    missing_here,
)

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

ZOOKEEPER = "192.168.50.31"
NODE_UNITS = ("proxypool-node.service",)
HOST_UNITS = ("proxypool-host.service", "proxypool-controller.service")
BOOTS = ("etc/.updated", "var/.updated", "var/lib/systemd/")
"""What systemd itself writes."""
OWNERS = ("etc/keepalived d ", "etc/keepalived/keepalived.conf ")
"""What `configure` made there, and no package."""
TREE = (
    "find / -xdev -printf '%P %y %m %u %g %l\\n'; find /etc /usr /opt /var/lib -xdev -type f -exec sha256sum {} + |"
    r" sed 's,^\([^ ]*\)  /\(.*\)$,\2 \1,'"
)
"""All files and directories, whose they are, and what is in those that matter."""


@pytest.fixture(scope="module")
def debs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version -> package of this tree."""
    return {version: build(tmp_path_factory.mktemp("deb"), version) for version in (__version__, NEXT)}


@pytest.fixture
def machines(debs: dict[str, Path], tmp_path: Path) -> Iterator[Pool]:
    """Two nodes and a host with nothing but Debian, and a ZooKeeper on a fourth machine."""
    why = missing_here()
    if why is not None:
        pytest.skip(why)
    try:
        base = clean_root(packages_of(debs[__version__]))
    except CannotMake as error:
        pytest.skip(str(error))
    with running_fabric(tmp_path / "disks") as fabric:
        nodes = {name: fabric.machine(name, {}, (), base) for name in NODES}
        pool = Pool(fabric, nodes, fabric.machine("host1", {}, (), base))
        zookeeper = fabric.machine("zk1", ZOOKEEPER_FILES, ("test-zookeeper.service",))
        for machine in fabric.machines:
            machine.boot()
        zookeeper.plug("eth0", "underlay", f"{ZOOKEEPER}/24")
        for name in NODES:
            pool.plug(name)
        pool.plug_host()
        yield pool


def dpkg(machine: Machine, *words: str) -> None:
    """Have it do something, and wait for it."""
    machine.run("dpkg", "--force-unsafe-io", *words, within_s=240)


def install(machine: Machine, package: Path) -> None:
    """Install it, or upgrade to it, or go back to it."""
    shutil.copy(package, machine.path("/root"))
    dpkg(machine, "--install", f"/root/{package.name}")


def configure(machine: Machine, name: str) -> None:
    """As its owner does: files, and the units that it needs."""
    for path, text in configuration(name, ZOOKEEPER).items():
        machine.run("sh", "-ec", 'mkdir -p "$(dirname "$1")"; printf %s "$2" > "$1"', "sh", path, text)
    units = NODE_UNITS if name in NODES else HOST_UNITS
    machine.run("systemctl", "enable", "--quiet", *units)
    machine.run("systemctl", "start", "--no-block", *units)


def tree(machine: Machine) -> set[str]:
    """A line for each file, but for the books of dpkg and systemd, and for what is in memory."""
    lines = machine.run("sh", "-c", TREE, within_s=120).replace("\n/", "\n").splitlines()
    passed_over = (*DPKGS, *BOOTS)
    return {line for line in lines if not line.startswith(passed_over) and not BACKUPS.match(line)}


def versions(pool: Pool) -> set[str]:
    """Of all daemons, as they say themselves."""
    texts = (pool.cli(kind, "list", "-o", "json") for kind in ("node", "host"))
    return {one["version"] for text in texts for one in json.loads(text)["items"]}


def units_of(pool: Pool, machine: Machine) -> tuple[str, ...]:
    """Those that run on it."""
    return HOST_UNITS if machine is pool.host else (*NODE_UNITS, "proxypool-outside.service")


def install_first(pool: Pool, package: Path) -> None:
    """On each machine, where nothing is started or enabled by it; then begin the pool."""
    machines = {**pool.nodes, "host1": pool.host}
    for machine in machines.values():
        install(machine, package)
        for unit in (*NODE_UNITS, *HOST_UNITS, "proxypool-outside.service"):
            shown = machine.show(unit, "LoadState", "ActiveState", "UnitFileState")
            is_enabled = shown.pop("UnitFileState") not in {"disabled", "static"}
            assert (shown, is_enabled) == ({"LoadState": "loaded", "ActiveState": "inactive"}, False)
    for name, machine in machines.items():
        configure(machine, name)
    pool.begin()


def upgrade(pool: Pool, machine: Machine, package: Path) -> None:
    """To another version, which runs when dpkg is done."""
    pids = {unit: machine.main_pid(unit) for unit in units_of(pool, machine)}
    install(machine, package)
    for unit, before in pids.items():
        assert machine.show(unit, "ActiveState")["ActiveState"] == "active"
        assert machine.main_pid(unit) not in {0, before}, "the other version runs"


def take_away(pool: Pool, machine: Machine) -> None:
    """Remove it, and purge it; traffic goes on."""
    for verb in ("--remove", "--purge"):
        dpkg(machine, verb, "proxypool")
        assert pool.is_served()
        for unit in units_of(pool, machine):
            assert machine.show(unit, "LoadState", "MainPID") == {"LoadState": "not-found", "MainPID": "0"}
        assert machine.path(CONFIG).exists() == (verb == "--remove")


def test_a_package_comes_changes_and_goes_under_traffic(machines: Pool, debs: dict[str, Path]) -> None:
    """Installing starts nothing. An upgrade, the way back, a removal and a purge lose no packet and leave keepalived
    and what is in the kernel as they are. A purge leaves nothing of ours but what keepalived reads, which is in memory.
    """
    pool = machines
    files = {machine: tree(machine) for machine in (*pool.nodes.values(), pool.host)}
    install_first(pool, debs[__version__])
    assert versions(pool) == {__version__}
    name = pool.master()
    master, backup = pool.nodes[name], pool.nodes[next(other for other in NODES if other != name)]
    kernel, keepalived = kernel_state(master), master.main_pid("keepalived.service")

    def is_as_it_was() -> bool:
        shown = master.show("keepalived.service", "ActiveState", "MainPID")
        return shown == {"ActiveState": "active", "MainPID": str(keepalived)} and kernel_state(master) == kernel

    pings = Pings(pool)
    for version in (NEXT, __version__):
        for machine in (pool.host, backup, master):
            upgrade(pool, machine, debs[version])
        pool.host.wait(lambda version=version: versions(pool) == {version}, f"all say {version}")  # type: ignore[misc]
        assert is_as_it_was()
    for machine in (master, pool.host):
        take_away(pool, machine)
        assert is_as_it_was()
        owners = {line for line in tree(machine) - files[machine] if line.startswith(OWNERS)}
        assert tree(machine) ^ files[machine] == owners
    sent, lost = pings.lost()
    assert (sent > 500, lost) == (True, 0)
    assert master.path("/run/proxypool/track").exists(), "keepalived reads its priorities there"
    assert not pool.host.path("/run/proxypool").exists(), "nobody reads anything there"
