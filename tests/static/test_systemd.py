"""The systemd units, as systemd reads them."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxypool.core.config import ZooKeeperConfig
from proxypool.core.config_file import parse
from proxypool.core.discovery import Daemon
from proxypool.daemons import reload_request
from proxypool.daemons.pulse import DEAD_S
from proxypool.daemons.service import CALLS
from proxypool.lab.configs import RUN_DIRECTORIES

TMPFILES = Path(__file__).parents[2] / "systemd" / "tmpfiles.d" / "proxypool.conf"
NODE = Path(__file__).parents[2] / "systemd" / "proxypool-node.service"
SESSION_S = ZooKeeperConfig(hosts=("a:1",)).session_timeout_s
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
    text = unit.read_text()
    for program in ("proxypool", "python"):
        text = text.replace(f"/opt/proxypool/bin/{program}", "/bin/true")
    copy.write_text(text)
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
    if unit.name == "proxypool-outside.service":
        assert parsed["Service"]["RuntimeDirectory"] == "proxypool-outside"
    elif unit.name == "proxypool-controller.service":
        # It may run beside a node, whose directory is none of its business.
        assert parsed["Service"]["RuntimeDirectory"] == "proxypool-controller"
    else:
        assert parsed["Service"]["RuntimeDirectory"] == "proxypool"
        assert parsed["Service"]["RuntimeDirectoryPreserve"] == "yes"


HOW_TO = TMPFILES.parents[2] / "docs" / "how-to" / "secure-the-control-plane.md"


def _example(mark: str) -> str:
    """The code below a mark of the page."""
    found = re.search(rf"<!-- {mark} -->\n```[a-z]+\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_of_credentials_is_whole() -> None:
    """Each that the configuration names is loaded, and the other way round."""
    loaded = re.findall(r"^LoadCredential=([a-z-]+):/etc/proxypool/", _example("drop-in"), re.MULTILINE)
    text = _example("drop-in's configuration")
    assert parse(text, what="the example").node is not None
    assert sorted(set(re.findall(r'"credential:([^"]+)"', text))) == sorted(loaded)


@pytest.mark.parametrize("unit", ["proxypool-node", "proxypool-host", "proxypool-controller"])
def test_systemd_reads_the_drop_in_of_credentials(unit: str, tmp_path: Path) -> None:
    """In each unit that a configuration with secrets is for; and what the unit's user may do stays enough for it."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / f"{unit}.service"
    text = NODE.with_name(copy.name).read_text().replace("/opt/proxypool/bin/proxypool", "/bin/true")
    copy.write_text(text)
    (tmp_path / f"{copy.name}.d").mkdir()
    (tmp_path / f"{copy.name}.d" / "credentials.conf").write_text(_example("drop-in") + "LoadCredentials=typo:/x\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    about_it = [line for line in done.stderr.splitlines() if "credentials.conf" in line]
    assert ["'LoadCredentials'" in line for line in about_it] == [True], done.stderr


EXPOSURE = {
    "proxypool-controller": 2.0,
    "proxypool-host": 2.0,
    "proxypool-node": 2.8,
    # It must not have mounts of its own, and that is what it is for; it has no network instead.
    "proxypool-outside": 3.6,
}
"""At the most, as systemd itself counts, of 10."""


def test_every_unit_has_a_limit_of_exposure() -> None:
    """A new one must say how little it may do."""
    assert {unit.stem for unit in UNITS} == EXPOSURE.keys()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_unit_is_exposed_to_little(unit: Path) -> None:
    """``systemd-analyze security`` counts no more than its limit."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    threshold = f"--threshold={round(EXPOSURE[unit.stem] * 10)}"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", threshold, str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]


def _words(unit: str, key: str) -> set[str]:
    """All words of a setting that may be given several times; those that are taken away again have a ``~`` before."""
    found: set[str] = set()
    for line in (TMPFILES.parents[1] / f"{unit}.service").read_text().splitlines():
        if line.startswith(f"{key}="):
            first, *others = line.removeprefix(f"{key}=").split()
            sign = "~" if first.startswith("~") else ""
            found |= {first, *(sign + other for other in others)}
    return found


def test_the_node_daemon_can_make_network_namespaces_and_no_mounts() -> None:
    """CAP_SYS_ADMIN is for setns(2) and unshare(2) of these; the rest of what it allows is not to be called."""
    assert _words("proxypool-node", "RestrictNamespaces") == {"net"}
    assert "~@mount" in _words("proxypool-node", "SystemCallFilter")
    assert not _words("proxypool-node", "SystemCallFilter") & {"mount", "umount2", "@mount", "pivot_root", "chroot"}


def test_what_stands_outside_has_mounts_and_no_network() -> None:
    """A namespace that it names in mounts of its own would be seen by nobody."""
    outside = next(unit for unit in UNITS if unit.stem == "proxypool-outside")
    own_view = {"PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome", "ReadOnlyPaths"}
    own_view |= {
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ProtectControlGroups",
        "ProtectProc",
    }
    own_view |= {
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "BindPaths",
        "RootDirectory",
        "PrivateIPC",
    }
    assert not own_view & set(_read(outside)["Service"])
    assert _words("proxypool-outside", "RestrictAddressFamilies") == {"AF_UNIX"}


def test_the_node_daemon_asks_where_the_other_listens() -> None:
    node, outside = (_words(unit, "Environment") for unit in ("proxypool-node", "proxypool-outside"))
    assert node == outside == {"PROXYPOOL_OUTSIDE=/run/proxypool-outside/socket"}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_system_call_that_is_not_allowed_is_refused_and_kills_nobody(unit: Path) -> None:
    """The HTTP ports ask for a lower priority, libraries for what they can do without."""
    assert _read(unit)["Service"]["SystemCallErrorNumber"] == "EPERM"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_hang_is_seen_and_nothing_gives_up(unit: Path) -> None:
    """Readiness is told, a watchdog waits for signs of life, and it is restarted for ever."""
    parsed = _read(unit)
    service = parsed["Service"]
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "always")
    assert int(service["WatchdogSec"]) >= DEAD_S + CALLS * SESSION_S
    assert parsed["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize(
    "unit", [unit for unit in UNITS if unit.stem != "proxypool-outside"], ids=lambda unit: unit.name
)
def test_a_reload_asks_the_units_own_daemon_and_has_time_for_its_answer(unit: Path) -> None:
    """There is a directory for the answer, and systemd, whose limit is that of a start, does not give up before we do."""
    service = _read(unit)["Service"]
    role = Daemon(unit.stem.removeprefix("proxypool-")).value
    assert service["ExecReload"] == f"/opt/proxypool/bin/python -I -m {reload_request.__name__} {role}"
    assert service["ExecStart"] == f"/opt/proxypool/bin/proxypool run {role}"
    assert service["RuntimeDirectory"]
    assert int(service["TimeoutStartSec"]) > reload_request.ANSWER_S > CALLS * SESSION_S


def test_keepalived_and_the_daemon_do_not_wait_for_each_other() -> None:
    """The daemon is ready when it knows what keepalived does, and keepalived when it has a pair."""
    lines = NODE.read_text().splitlines()
    assert "Wants=keepalived.service" in lines
    ordering = [line for line in lines if line.startswith(("Before=", "After="))]
    assert ordering
    assert not any("keepalived" in line for line in ordering)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_processes_are_hidden_from_who_is_said_not_to_see_them(unit: Path) -> None:
    """The kernel shows all of them to a member of root's group (hidepid= in proc(5))."""
    service = _read(unit)["Service"]
    assert ("ProtectProc" in service) == (service.get("Group", "root") != "root")


def test_keepalived_is_not_given_up() -> None:
    """Neither while it has no pair nor while its card is not there; and what it runs is the distribution's business."""
    parsed = _read(TMPFILES.parents[1] / "keepalived.service.d" / "proxypool.conf")
    assert dict(parsed["Unit"]) == {"StartLimitIntervalSec": "0"}
    assert dict(parsed["Service"]) == {"Type": "exec", "Restart": "on-failure", "RestartSec": "1"}


def test_conntrackd_lives_on_when_the_node_daemon_stops() -> None:
    """It is in the same control group, and carries connections over a failover while no daemon runs."""
    node = next(unit for unit in UNITS if unit.name == "proxypool-node.service")
    assert _read(node)["Service"]["KillMode"] == "process"


def test_a_labs_nodes_have_what_systemd_makes_at_boot() -> None:
    """And no more than that."""
    lines = [line.split() for line in TMPFILES.read_text().splitlines() if line.startswith("d ")]
    assert tuple(line[1] for line in lines) == RUN_DIRECTORIES
