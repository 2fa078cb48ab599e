"""Who is given which secret in a closed lab; certificates are real ones, by openssl."""

import stat
from pathlib import Path

from proxypool.core.access import AccessRole
from proxypool.lab import identities
from proxypool.lab.topology import Topology

CLOSED = Topology(nodes=2, hosts=1, subnets=1, controllers=1, secure=True)


def test_machines_of_a_closed_lab_have_the_secrets_of_their_role_alone(tmp_path: Path) -> None:
    """The operator has all of them; instances and servers of customers none."""
    identities.make(tmp_path / "made", CLOSED)
    given = {name: identities.files(tmp_path / "made", spec) for name, spec in CLOSED.machines.items()}
    secrets = {role: (tmp_path / "made" / f"{role}.secret").read_text() for role in AccessRole}
    known = {
        name: {role for role, secret in secrets.items() if secret in given[name].values()} for name in CLOSED.machines
    }
    assert known == {
        "zk1": set(),
        "node-a": {AccessRole.NODE},
        "node-b": {AccessRole.NODE},
        "host1": {AccessRole.HOST},
        "ctl1": {AccessRole.CONTROLLER},
        "ops": set(AccessRole),
        "pod1": set(),
        "db1": set(),
    }
    assert given["node-a"][identities.KEY] != given["node-b"][identities.KEY]
    assert (given["pod1"], given["db1"]) == ({}, {})
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
