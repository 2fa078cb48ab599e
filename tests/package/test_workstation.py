"""The wheel alone on a workstation: an ordinary user, no libxtables, no keepalived, no compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxypool import __version__
from tests.contract.zk import PoolClient, ZooKeeperServer, is_available, pool_request
from tests.package.clean_root import HOME, Machine
from tests.package.conftest import ROOT

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(900)]

FORGOTTEN = ("conntrack", "conntrackd", "ipset", "iptables", "keepalived", "libxtables12")
TOOLS = f"{HOME}/tools"
TRACE = "time,load\n" + "".join(f"{minute * 60},{2 + minute % 7}\n" for minute in range(240))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ZooKeeperServer]:
    """A pool with one subnet."""
    if not is_available():
        pytest.skip("needs ZooKeeper and Java: apt-get install zookeeper")
    made = ZooKeeperServer(tmp_path / "zookeeper")
    made.start()
    try:
        client = PoolClient(made, "default").start()
        client.store.apply(pool_request())
        client.end(close_session=True)
        yield made
    finally:
        made.stop()


def test_an_ordinary_user_installs_and_uses_it(clean: Machine, server: ZooKeeperServer, tmp_path: Path) -> None:
    """As pipx and uv do: an environment, the wheel, what it needs; then the commands that ask nothing of the machine."""
    clean.ok("dpkg", "--purge", "--force-depends", *FORGOTTEN)
    assert clean.run("sh", "-c", "ls /usr/lib/*/libxtables* /usr/sbin/iptables* /usr/sbin/keepalived").stdout == ""
    words = [sys.executable, "tools/build_deb.py", f"--wheels={tmp_path / 'wheels'}"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    clean.write(f"{HOME}/trace.csv", TRACE)
    for wheel in (tmp_path / "wheels").iterdir():
        clean.put(wheel)
    clean.ok("python3", "-m", "venv", TOOLS, user="nobody")
    clean.ok(f"{TOOLS}/bin/pip", "install", "--no-index", f"--find-links={HOME}", "proxypool", user="nobody")

    command = f"{TOOLS}/bin/proxypool"
    assert "status" in clean.ok(command, "--help", user="nobody")
    assert __version__ in clean.ok(command, "version", user="nobody")
    there = {"user": "nobody", "PROXYPOOL_ZOOKEEPER": server.address}
    status = clean.ok(command, "status", "-o", "json", network=False, **there)
    assert [subnet["id"] for subnet in json.loads(status)["subnets"]] == ["s1"]
    assert "s1" in clean.ok(command, "subnet", "list", network=False, **there)
    simulated = clean.ok(command, "scale", "simulate", f"{HOME}/trace.csv", user="nobody")
    assert "proxypool" in simulated
    refused = clean.run(command, "run", "host", user="nobody")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
