"""Who is who in a closed lab: secrets of the roles and certificates, made once, and what of them a machine is given.

As `docs/how-to/secure-the-control-plane.md` has it: a daemon's machine has the secret of its role and no other, the
operator's machine has all of them.
"""

from __future__ import annotations

from pathlib import Path

from proxypool.adapters.secret_file import make_secret
from proxypool.core.access import ADMIN, CONTROLLER, HOST, NODE, AccessRole
from proxypool.lab.authority import Authority
from proxypool.lab.topology import Kind, MachineSpec, Topology

SECRET = "/etc/proxypool/zookeeper.secret"  # noqa: S105 - where it is
AUTHORITIES = "/etc/proxypool/zookeeper-ca.pem"
CERTIFICATE = "/etc/proxypool/zookeeper.crt"
KEY = "/etc/proxypool/zookeeper.key"
ALL_SECRETS = "/etc/proxypool/pool-secrets"
"""On the operator's machine: what `pool secure` is given."""
SERVER_IDENTITY = "/etc/zookeeper/conf/server-and-key.pem"
SERVER_AUTHORITIES = "/etc/zookeeper/conf/ca.pem"
USERS = {Kind.NODE: NODE, Kind.HOST: HOST, Kind.CONTROLLER: CONTROLLER, Kind.OPERATOR: ADMIN}
"""Who a machine says that it is."""


def make(folder: Path, topology: Topology) -> None:
    """Make all of them, in an empty folder that only we can read. `LabError` when openssl cannot."""
    folder.mkdir(mode=0o700)
    for role in AccessRole:
        make_secret(folder / f"{role}.secret")
    authority = Authority(folder)
    for machine in topology.machines.values():
        if machine.kind in USERS:
            authority.issue(machine.name)
        elif machine.kind is Kind.ZOOKEEPER:
            authority.issue(machine.name, f"DNS:{machine.name}", f"IP:{machine.ip}")


def files(folder: Path, machine: MachineSpec) -> dict[str, str]:
    """Absolute path → content of what a machine is given; nobody but its root may read any of it."""

    def read(name: str) -> str:
        return (folder / name).read_text()

    if machine.kind is Kind.ZOOKEEPER:
        return {
            SERVER_IDENTITY: read(f"{machine.name}.pem") + read(f"{machine.name}.key"),
            SERVER_AUTHORITIES: read("ca.pem"),
        }
    if machine.kind not in USERS:
        return {}
    given = {
        SECRET: read(f"{USERS[machine.kind]}.secret"),
        AUTHORITIES: read("ca.pem"),
        CERTIFICATE: read(f"{machine.name}.pem"),
        KEY: read(f"{machine.name}.key"),
    }
    if machine.kind is Kind.OPERATOR:
        given |= {f"{ALL_SECRETS}/{role}.secret": read(f"{role}.secret") for role in AccessRole}
    return given
