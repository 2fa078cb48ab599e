"""What is in sysctl.d and modules-load.d: names that exist, as the programs read them that apply them at boot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from proxypool.core.doctor.codes import FEATURES, SYSCTLS

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "systemd/sysctl.d/60-proxypool.conf"
LOADED = ROOT / "systemd/modules-load.d/proxypool.conf"
LINE = re.compile(r"(?P<may_lack>#?-?)(?P<key>[a-z][a-z0-9_.]+) = (?P<value>[0-9]+)")
"""A setting, or one that is there for whoever takes the comment sign away."""
VALUES = {match["key"]: match["value"] for match in map(LINE.fullmatch, SETTINGS.read_text().splitlines()) if match}
SET = {match["key"] for match in map(LINE.fullmatch, SETTINGS.read_text().splitlines()) if match and match[1] != "#"}
MODULES = [line for line in LOADED.read_text().splitlines() if not line.startswith("#")]
KNOWN_MODULES = {module for feature in FEATURES for module in feature.modules}
OF_ALL_NAMESPACES = "net.netfilter.nf_conntrack_max"
"""Can be set in the machine's own network namespace only, and no test does that."""
PROGRAMS = {"systemd": ("/lib/systemd/systemd-sysctl",), "procps": ("sysctl", "--load")}


def path_of(key: str) -> str:
    """Below /proc/sys."""
    return key.replace(".", "/")


def test_every_line_is_a_setting_or_a_comment() -> None:
    for line in SETTINGS.read_text().splitlines():
        assert not line or line.startswith("# ") or LINE.fullmatch(line), line
    assert {OF_ALL_NAMESPACES} <= SET < VALUES.keys()


@pytest.mark.parametrize("key", VALUES)
def test_a_key_is_one_that_the_program_uses(key: str) -> None:
    """A key that is misspelt is passed over at boot, as what the kernel has not must not fail there; so is one that only
    this file knows.
    """
    whole = re.compile(rf"\b{path_of(key).removeprefix('net/')}\b")
    assert any(whole.search(source.read_text()) for source in (ROOT / "proxypool").rglob("*.py")), key


def test_the_doctor_is_content_with_what_is_set() -> None:
    """And with what is there to be set, on hosts."""
    judged = {need.path: need.at_least for need in SYSCTLS}
    values = {path_of(key): int(value) for key, value in VALUES.items() if path_of(key) in judged}
    assert values.keys() == {"net/netfilter/nf_conntrack_max", "net/ipv4/ip_forward"}
    assert all(value >= judged[path] for path, value in values.items())


@pytest.mark.root
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_programs_that_apply_it_find_every_key(program: str, tmp_path: Path) -> None:
    """In a network namespace, with a value for each that can be set in one; none is passed over here."""
    command = PROGRAMS[program]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    if not Path("/proc/sys/net/netfilter/nf_conntrack_max").exists():
        pytest.skip("connection tracking is not loaded")
    strict = tmp_path / "strict.conf"
    strict.write_text(re.sub(r"^#?-?(?=net\.)", "", SETTINGS.read_text(), flags=re.MULTILINE))
    free = [f"/proc/sys/{path_of(key)}" for key in VALUES if key != OF_ALL_NAMESPACES]
    script = (
        f'for path in {" ".join(free)}; do echo 0 > $path; done; "$@" > /dev/null || true; tail -qn 1 {" ".join(free)}'
    )
    words = ["unshare", "--net", "sh", "-ec", script, "sh", *command, str(strict)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [value for key, value in VALUES.items() if key != OF_ALL_NAMESPACES]
    assert [line for line in done.stderr.splitlines() if OF_ALL_NAMESPACES not in line.replace("/", ".")] == []
    assert Path("/proc/sys", path_of(OF_ALL_NAMESPACES)).exists()


def test_modules_are_those_that_the_doctor_looks_for() -> None:
    """Here, in the units, and in what runbooks say to type."""
    assert MODULES
    assert set(MODULES) <= KNOWN_MODULES
    in_units = {name for unit in (ROOT / "systemd").glob("*.service") for name in modules_in(unit, r"modprobe@(\w+)\.")}
    in_docs = {name for page in (ROOT / "docs").rglob("*.md") for name in modules_in(page, r"modprobe (?:-\w+ )*(\w+)")}
    assert in_units == {"ip_tables"}
    assert {"ip_gre", "vxlan"} <= in_docs
    assert in_units | in_docs <= KNOWN_MODULES


def modules_in(file: Path, form: str) -> set[str]:
    """Names of modules in a text."""
    return set(re.findall(form, file.read_text()))


@pytest.mark.parametrize("module", sorted({*MODULES, *KNOWN_MODULES}))
def test_a_module_exists_by_this_name(module: str) -> None:
    """Loaded, built in, or on the disk."""
    if Path("/sys/module", module).is_dir():
        return
    if not Path("/lib/modules", os.uname().release, "modules.dep").exists() or shutil.which("modprobe") is None:
        pytest.skip("this kernel has no list of its modules, and does not have this one")
    words = ["modprobe", "--dry-run", "--quiet", module]
    assert subprocess.run(words, check=False).returncode == 0, module
