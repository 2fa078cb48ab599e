"""The command line where there is nothing of a node or a host: no libxtables, none of the programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.zk import PoolClient, ZooKeeperServer

TRACE = "time,load\n" + "".join(f"{minute * 60},{2 + minute % 7}\n" for minute in range(240))


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("--help", "status"),
        ("run --help", "controller"),
        ("status", "s1"),
        ("topology", "s1"),
        ("pair list", "p1"),
        ("explain s1", "s1"),
        ("history", ""),
        ("scale simulate trace.csv", "proxypool"),
    ],
)
def test_a_command_needs_no_iptables(
    words: str, shown: str, shared_server: ZooKeeperServer, operator: PoolClient, pool: str, tmp_path: Path
) -> None:
    """python-iptables cannot be imported, as where libxtables is missing, and PATH leads to no program."""
    (tmp_path / "iptc.py").write_text("raise ImportError('libxtables is not here')\n")
    (tmp_path / "trace.csv").write_text(TRACE)
    environment = {
        "PATH": "/nowhere",
        "PYTHONPATH": str(tmp_path),
        "PROXYPOOL_ZOOKEEPER": shared_server.address,
        "PROXYPOOL_POOL": pool,
        "PROXYPOOL_CONFIG": os.devnull,
    }
    done = subprocess.run(
        [sys.executable, "-m", "proxypool", *words.split()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert shown in done.stdout
