"""The systemd units, as systemd reads them."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from proxypool.lab.configs import RUN_DIRECTORIES

TMPFILES = Path(__file__).parents[2] / "systemd" / "tmpfiles.d" / "proxypool.conf"
UNITS = sorted((Path(__file__).parents[2] / "systemd").glob("*.service"))


def _read(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their case
    parser.read_string(unit.read_text())
    return parser


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    """``systemd-analyze verify`` is silent about the unit, given that its program is installed."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/proxypool/bin/proxypool", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, about_it) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_stop_leaves_keepalived_and_the_run_directory_alone(unit: Path) -> None:
    """Nothing ties the unit to keepalived's life, and what keepalived reads in /run/proxypool survives a stop."""
    parsed = _read(unit)
    ties = {"BindsTo", "PartOf", "Requires", "Requisite", "PropagatesStopTo", "Conflicts"}
    assert not ties & set(parsed["Unit"])
    if unit.name == "proxypool-controller.service":
        # It may run beside a node, whose directory is none of its business.
        assert "RuntimeDirectory" not in parsed["Service"]
    else:
        assert parsed["Service"]["RuntimeDirectory"] == "proxypool"
        assert parsed["Service"]["RuntimeDirectoryPreserve"] == "yes"


def test_the_controller_is_exposed_to_little() -> None:
    """As systemd itself counts: 2.0 of 10 at the most."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    unit = next(unit for unit in UNITS if unit.name == "proxypool-controller.service")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_node_daemon_shares_the_machines_mounts() -> None:
    """A namespace named by a mount that only the daemon sees could not be used by keepalived's notify lines."""
    node = next(unit for unit in UNITS if unit.name == "proxypool-node.service")
    own_view = {"PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ReadOnlyPaths"}
    assert not own_view & set(_read(node)["Service"])


def test_conntrackd_lives_on_when_the_node_daemon_stops() -> None:
    """It is in the same control group, and carries connections over a failover while no daemon runs."""
    node = next(unit for unit in UNITS if unit.name == "proxypool-node.service")
    assert _read(node)["Service"]["KillMode"] == "process"


def test_a_labs_nodes_have_what_systemd_makes_at_boot() -> None:
    """And no more than that."""
    lines = [line.split() for line in TMPFILES.read_text().splitlines() if line.startswith("d ")]
    assert tuple(line[1] for line in lines) == RUN_DIRECTORIES
