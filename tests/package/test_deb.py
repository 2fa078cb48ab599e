"""The Debian package in a clean root: installed, upgraded, removed, purged."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from proxypool import __version__
from proxypool.core import config, config_file
from proxypool.core.doctor.codes import PROGRAMS, Severity
from tests.package.clean_root import Machine
from tests.package.conftest import NEXT, ROOT, build

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

CONFIG = "/etc/proxypool/proxypool.toml"
UNITS = sorted(path.name for path in (ROOT / "systemd").glob("*.service"))
CALLS = "/root/systemctl-calls"
SYSTEMCTL = f"""#!/bin/sh
case $1 in is-enabled) echo disabled ;; is-active) ;; *) echo "$@" >> {CALLS} ;; esac
"""


def with_systemd(machine: Machine) -> Machine:
    """As if systemd ran: what is asked of it is written down instead of done."""
    machine.write("/run/systemd/system/.here", "")
    machine.write("/usr/bin/systemctl", SYSTEMCTL, 0o755)
    return machine


def calls(machine: Machine) -> list[str]:
    """What systemd was asked for since the last time."""
    told = machine.run("sh", "-c", f"cat {CALLS}; rm -f {CALLS}").stdout.splitlines()
    return [line.replace("--system ", "").replace("--quiet ", "") for line in told]


def install(machine: Machine, package: Path) -> str:
    """Install or upgrade; what dpkg says on standard error."""
    done = machine.run("dpkg", "--force-unsafe-io", "--install", machine.put(package))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def look_at_the_installation(machine: Machine) -> None:
    """Commands, pages and completion are there, libxtables is found, and nothing is enabled."""
    assert f"proxypool {__version__}" in machine.ok("proxypool", "version", user="nobody")
    assert "ok" in machine.ok("proxypool", "config", "check")
    assert "proxypool" in machine.ok("man", "-w", "proxypool-pair")
    assert "proxypool" in machine.ok(
        "bash", "-c", ". /usr/share/bash-completion/completions/proxypool; complete -p proxypool"
    )
    table = "from proxypool.adapters.iptables import observe_table; import iptc; print(iptc.Table.FILTER)"
    assert machine.ok("/opt/proxypool/bin/python3", "-I", "-c", table) == "filter\n"
    for unit in UNITS:
        assert machine.has(f"/usr/lib/systemd/system/{unit}")
    assert machine.run("find", "/etc/systemd/system", "-name", "proxypool*").stdout == ""


def what_daemons_and_owners_write(machine: Machine) -> None:
    """Configuration, state, track files, keepalived's files, an enabled unit."""
    machine.write("/etc/proxypool/token", "secret\n", 0o600)
    machine.write("/var/lib/proxypool/attachments", "")
    machine.write("/run/proxypool/track/s1_p1", "0\n")
    for name in ("proxypool.conf", "proxypool-s1_p1.conf"):
        machine.write(f"/etc/keepalived/conf.d/{name}", "")
    machine.ok(
        "ln", "-s", "/usr/lib/systemd/system/proxypool-node.service", "/etc/systemd/system/multi-user.target.wants/"
    )


def test_the_life_of_a_package(clean: Machine, deb: Path) -> None:
    """Installed, it can be used and nothing is started; an upgrade restarts what runs, and keeps what was edited; a removal
    stops our daemons only; a purge leaves neither files, nor users, nor what the daemons have written, and what is not ours.
    """
    with_systemd(clean)
    clean.write("/etc/keepalived/conf.d/own.conf", "# somebody else's\n")
    before = clean.changes()

    install(clean, deb)
    assert calls(clean) == ["daemon-reload"]
    look_at_the_installation(clean)

    edited = clean.read(CONFIG) + '\n[log]\nlevel = "debug"\n'
    clean.write(CONFIG, edited)
    assert install(clean, deb) == ""
    assert calls(clean) == ["daemon-reload", f"try-restart {' '.join(UNITS)}"]
    assert clean.read(CONFIG) == edited

    what_daemons_and_owners_write(clean)
    clean.ok("dpkg", "--remove", "proxypool")
    assert calls(clean) == [f"stop {' '.join(UNITS)}", "daemon-reload"]
    assert not clean.has("/opt/proxypool")
    assert not clean.has("/usr/bin/proxypool")
    for kept in (CONFIG, "/etc/proxypool/token", "/run/proxypool/track/s1_p1", "/etc/keepalived/conf.d/proxypool.conf"):
        assert clean.has(kept), "a removal is no purge"

    clean.ok("dpkg", "--purge", "proxypool")
    assert calls(clean) == ["daemon-reload"]
    assert clean.changes() - {"run/xtables.lock"} == before, "but for the lock that all iptables programs share"
    for file in ("passwd", "group"):
        assert "proxypool" not in clean.read(f"/etc/{file}")


@pytest.mark.long
def test_its_units_are_what_systemd_reads_without_complaint(clean: Machine, deb: Path) -> None:
    """In place, with the program that they start."""
    install(clean, deb)
    done = clean.run("systemd-analyze", "verify", "--man=no", *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS))
    assert [line for line in done.stderr.splitlines() if "proxypool" in line] == []
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_another_version_takes_the_place_of_the_one_before(clean: Machine, deb: Path, next_deb: Path) -> None:
    """There and back, with apt; packages that the owner has put beside stay."""
    apt = "apt-get", "-q", "-y", "--allow-downgrades", "install"
    clean.ok(*apt, clean.put(deb))
    clean.write("/usr/local/lib/proxypool/acme_provider.py", "")
    versions = "/opt/proxypool", "-path", "*/proxypool-*.dist-info/METADATA"
    for package, version in ((next_deb, NEXT), (deb, __version__)):
        clean.ok(*apt, clean.put(package))
        assert f"proxypool {version}" in clean.ok("proxypool", "version")
        assert len(clean.ok("find", *versions).split()) == 1, "one version is there at a time"
    assert clean.ok("/opt/proxypool/bin/python3", "-I", "-c", "import acme_provider") == ""


@pytest.mark.long
def test_a_configuration_as_it_is_shipped_starts_no_daemon(clean: Machine, deb: Path) -> None:
    """Which says what is missing."""
    install(clean, deb)
    for role in ("node", "host", "controller"):
        done = clean.run("proxypool", "run", role)
        assert done.returncode != 0
        assert f"[{role}]" in done.stderr


@pytest.mark.long
def test_a_purge_takes_nothing_from_a_keepalived_that_runs(clean: Machine, deb: Path) -> None:
    """Its priorities are in files there: without them it would give its addresses away at once."""
    install(clean, deb)
    clean.write("/run/proxypool/track/s1_p1", "240\n")
    clean.ok("sh", "-c", "cp /bin/sleep /tmp/keepalived; exec > /dev/null 2>&1; /tmp/keepalived 600 &")
    done = clean.run("dpkg", "--purge", "proxypool")
    assert done.returncode == 0
    assert "/run/proxypool stays until the next boot" in done.stderr
    assert clean.read("/run/proxypool/track/s1_p1") == "240\n"
    assert not clean.has("/etc/proxypool")
    assert clean.run("pidof", "keepalived").returncode == 0


@pytest.mark.long
def test_a_removal_says_what_stays_in_the_kernel(clean: Machine, deb: Path) -> None:
    """Where subnets are served."""
    install(clean, deb)
    clean.write("/run/netns/pp-s1", "")
    done = clean.run("dpkg", "--remove", "proxypool")
    assert done.returncode == 0
    assert "no connection breaks" in done.stderr
    assert clean.has("/run/netns/pp-s1")


@pytest.mark.long
def test_an_environment_that_was_made_by_hand_is_not_mixed_with_the_package(clean: Machine, deb: Path) -> None:
    """The installation is refused with what to type, and nothing is changed."""
    clean.write("/opt/proxypool/pyvenv.cfg", "home = /usr/bin\n")
    package = clean.put(deb)
    done = clean.run("dpkg", "--install", package)
    assert done.returncode != 0
    assert "mv /opt/proxypool /opt/proxypool.by-hand" in done.stderr
    assert clean.ok("ls", "/opt/proxypool") == "pyvenv.cfg\n"
    clean.ok("mv", "/opt/proxypool", "/opt/proxypool.by-hand")
    clean.write("/etc/systemd/system/proxypool-node.service", "")
    assert "hides the unit of the package" in install(clean, deb)


def test_nothing_in_it_names_where_it_was_made(deb: Path, tmp_path: Path) -> None:
    """Directories of the build would differ each time, and tell of the machine."""
    subprocess.run(["dpkg-deb", "--raw-extract", str(deb), str(tmp_path)], check=True)
    traces = [str(ROOT), "proxypool-deb-", "/pip-", *({sys.prefix, sys.base_prefix} - {"/usr"})]
    found = subprocess.run(
        ["grep", "-rlF", *(f"--regexp={trace}" for trace in traces), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
    links = [path for path in tmp_path.rglob("*") if path.is_symlink()]
    assert {str(path.readlink()).partition("3.")[0] for path in links} == {
        "/usr/bin/python",
        "python3",
        "/opt/proxypool/bin/proxypool",
    }
    loose = [path for path in tmp_path.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o022]
    assert loose == []


def test_whatever_is_in_systemd_is_in_it(deb: Path) -> None:
    """Units, and the directories that systemd's programs read."""
    told = subprocess.run(["dpkg-deb", "--contents", str(deb)], capture_output=True, text=True, check=True).stdout
    there = {line.split()[5].removeprefix("./usr/lib/").removeprefix("systemd/system/") for line in told.splitlines()}
    files = {str(path.relative_to(ROOT / "systemd")) for path in (ROOT / "systemd").rglob("*") if path.is_file()}
    assert files - there == set()


def test_it_depends_on_what_the_doctor_looks_for(deb: Path) -> None:
    """A program that both roles cannot do without is a dependency; others are recommended."""
    words = ["dpkg-deb", "--show", "--showformat", "${Depends}\n${Recommends}", str(deb)]
    depends, recommends = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
    for need in PROGRAMS:
        wanted = depends if need.severity is Severity.CRITICAL and len(need.roles) > 1 else f"{depends}, {recommends}"
        essential = need.package == "util-linux"
        assert essential or need.package in {name.split()[0] for name in wanted.split(", ")}, need


def test_the_configuration_that_it_ships_is_valid_with_and_without_its_comments() -> None:
    """Somebody takes the comment signs away."""
    text = (ROOT / "packaging/deb/proxypool.toml").read_text()
    assert config_file.parse(text, what="as shipped") == config.Config()
    active = "\n".join(
        line[1:] if line[:1] == "#" and line[1:2] not in {" ", ""} else line for line in text.splitlines()
    )
    assert len(tomllib.loads(active)) == 5
    parsed = config_file.parse(active, what="without comment signs")
    assert parsed.node is not None
    assert parsed.host is not None
    assert parsed.controller is not None


@pytest.mark.parametrize("script", ["preinst", "postinst", "prerm", "postrm"])
def test_shellcheck_finds_nothing_in_its_scripts(script: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck: apt-get install shellcheck")
    done = subprocess.run(
        ["shellcheck", str(ROOT / "packaging/deb" / script)], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@pytest.mark.long
def test_the_same_tree_makes_the_same_bytes(deb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing is in the cache and everything is compiled again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    again = build(tmp_path / "again")
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (deb, again)]
    assert sums[0] == sums[1]


@pytest.mark.long
def test_lintian_finds_no_error(deb: Path) -> None:
    """But for what we have decided, which packaging/deb/lintian-overrides tells."""
    if shutil.which("lintian") is None:
        pytest.skip("needs lintian: apt-get install lintian")
    ours = "bogus-mail-host,bogus-mail-host-in-debian-changelog"  # who builds says DEBEMAIL
    here = "uses-no-compression-for-data-tarball,uses-no-compression-for-control-tarball"
    words = ["lintian", "--no-cfg", "--allow-root", f"--suppress-tags={ours},{here}", str(deb)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if line.startswith("E:")] == []
