"""The installer of the CNI plug-in, on lists as flannel, Calico and Cilium write them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "kubernetes"
INSTALLER = ROOT / "install-cni"
ENTRY = json.loads((ROOT / "cni/entry.json").read_text())
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}

FLANNEL = """{
  "name": "cbr0",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "flannel",
      "delegate": {
        "hairpinMode": true,
        "isDefaultGateway": true
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"""
CALICO = """{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico", "datastore_type": "kubernetes", "mtu": 0, "nodename_file_optional": false, "log_level": "Info",
      "log_file_path": "/var/log/calico/cni/cni.log",
      "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "false"},
      "container_settings": {"allow_ip_forwarding": false},
      "policy": {"type": "k8s"},
      "kubernetes": {"k8s_api_root": "https://10.96.0.1:443", "kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}
    },
    {"type": "bandwidth", "capabilities": {"bandwidth": true}},
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}"""
CILIUM = """
{
  "cniVersion": "0.3.1",
  "name": "cilium",
  "plugins": [
    {
       "type": "cilium-cni",
       "enable-debug": false,
       "log-file": "/var/run/cilium/cilium-cni.log"
    }
  ]
}
"""
SAMPLES = {"10-flannel.conflist": FLANNEL, "10-calico.conflist": CALICO, "05-cilium.conflist": CILIUM}

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq: apt-get install jq")


class Machine:
    """A machine's two folders, and the installer run on them."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.bin, self.conf = root / "bin", root / "net.d"
        self.bin.mkdir()
        self.conf.mkdir()
        self.command = [*shell, str(INSTALLER)]
        self.environment = {**os.environ, "CNI_BIN_DIR": str(self.bin), "CNI_CONF_DIR": str(self.conf)}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, *words], env=self.environment, capture_output=True, text=True, timeout=20, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen([*self.command, *words], env=self.environment, stderr=subprocess.PIPE, text=True)

    def plugins(self, name: str) -> list[dict[str, Any]]:
        plugins: list[dict[str, Any]] = json.loads((self.conf / name).read_text())["plugins"]
        return plugins


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    return Machine(tmp_path, shell)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Until it holds, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.02)


@pytest.mark.parametrize("name", SAMPLES)
def test_added_once_twice_is_once_and_removed_again(machine: Machine, name: str) -> None:
    path = machine.conf / name
    path.write_text(SAMPLES[name])
    path.chmod(0o600)
    before = json.loads(SAMPLES[name])
    done = machine("present")
    assert (done.returncode, done.stderr) == (0, "")
    assert "proxypool is chained" in done.stdout
    assert json.loads(path.read_text()) == {**before, "plugins": [*before["plugins"], ENTRY]}
    assert list(json.loads(path.read_text())) == list(before), "members keep their order"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (machine.conf / f"{name}.before-proxypool").read_text() == SAMPLES[name]
    assert os.access(machine.bin / "proxypool", os.X_OK)

    first = path.stat()
    again = machine("present")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns), "nothing was written"

    assert machine("absent").returncode == 0
    assert json.loads(path.read_text()) == before
    assert (machine.bin / "proxypool").exists(), "pods that run still end with it"
    assert machine("absent").stdout == ""
    assert sorted(os.listdir(machine.conf)) == [name, f"{name}.before-proxypool"]


def test_the_first_list_is_the_one_that_runtimes_use(machine: Machine) -> None:
    for name in ("10-flannel.conflist", "20-calico.conflist"):
        (machine.conf / name).write_text(FLANNEL)
    (machine.conf / "00-notes.txt").write_text("none")
    (machine.conf / "05-cilium.conflist.before-proxypool").write_text(CILIUM)
    assert machine("present").returncode == 0
    assert machine.plugins("10-flannel.conflist")[-1] == ENTRY
    assert (machine.conf / "20-calico.conflist").read_text() == FLANNEL


def test_it_is_removed_from_every_list(machine: Machine) -> None:
    """Another network may have come first in the meantime."""
    (machine.conf / "10-flannel.conflist").write_text(FLANNEL)
    assert machine("present").returncode == 0
    (machine.conf / "05-cilium.conflist").write_text(CILIUM)
    assert machine("present").returncode == 0
    assert machine("absent").returncode == 0
    for name in ("10-flannel.conflist", "05-cilium.conflist"):
        assert ENTRY["type"] not in [plugin["type"] for plugin in machine.plugins(name)]


def test_a_changed_entry_takes_the_place_of_the_old_one(machine: Machine, tmp_path: Path) -> None:
    """Where another plug-in was chained after ours, neither of the two moves."""
    path = machine.conf / "10-flannel.conflist"
    path.write_text(FLANNEL)
    assert machine("present").returncode == 0
    config = json.loads(path.read_text())
    config["plugins"].append({"type": "istio-cni"})
    path.write_text(json.dumps(config))
    changed = {**ENTRY, "subnets": ["s1"]}
    (tmp_path / "entry.json").write_text(json.dumps(changed))
    machine.environment["CNI_ENTRY"] = str(tmp_path / "entry.json")
    assert machine("present").returncode == 0
    assert machine.plugins(path.name)[-2:] == [changed, {"type": "istio-cni"}]


def test_an_old_plug_in_is_replaced(machine: Machine) -> None:
    (machine.conf / "10-flannel.conflist").write_text(FLANNEL)
    (machine.bin / "proxypool").write_text("#!/bin/false\n")
    assert machine("present").returncode == 0
    assert (machine.bin / "proxypool").read_bytes() == (ROOT / "cni/proxypool").read_bytes()
    assert os.listdir(machine.bin) == ["proxypool"]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("10-a.conflist", "{", "is not JSON"),
        ("10-a.conflist", '{"cniVersion": "1.0.0", "plugins": []}', "it has no plug-ins"),
        ("10-a.conflist", '{"cniVersion": "1.0.0"}', "it has no plug-ins"),
        ("10-a.conflist", '{"plugins": [{"type": "a"}]}', "its cniVersion is null"),
        ("10-a.conflist", '{"cniVersion": "0.2.0", "plugins": [{"type": "a"}]}', "its cniVersion is 0.2.0"),
        ("10-a.conf", '{"cniVersion": "1.0.0", "type": "a"}', "it is no list"),
        ("README", "", "there is no network configuration"),
    ],
)
def test_what_cannot_be_chained_to_stays_as_it_is(machine: Machine, name: str, text: str, why: str) -> None:
    (machine.conf / name).write_text(text)
    done = machine("present")
    assert done.returncode == 1
    assert why in done.stderr
    assert (machine.conf / name).read_text() == text
    assert os.listdir(machine.conf) == [name]


def test_nothing_to_remove_is_removed(machine: Machine) -> None:
    assert machine("absent").returncode == 0


@pytest.mark.parametrize("words", [(), ("install",), ("present", "--once"), ("--keep",)])
def test_other_words_are_a_mistake(machine: Machine, words: tuple[str, ...]) -> None:
    done = machine(*words)
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_on_a_new_machine_it_waits_for_the_networks_list(machine: Machine) -> None:
    process = machine.start("present", "--wait")
    try:
        assert process.stderr is not None
        before = next(line for line in process.stderr if "there is no network configuration" in line)
        assert (machine.bin / "proxypool").exists()
        (machine.conf / "10-flannel.conflist").write_text(FLANNEL)
        _, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert process.returncode == 0
    assert (before + err).count("there is no network configuration") == 1
    assert machine.plugins("10-flannel.conflist")[-1] == ENTRY


@pytest.mark.parametrize("machine", ["dash"], indirect=True)
def test_a_list_that_is_written_again_gets_the_entry_again(machine: Machine) -> None:
    path = machine.conf / "10-flannel.conflist"
    path.write_text(FLANNEL)
    process = machine.start("present", "--keep")
    try:
        for text in (FLANNEL, FLANNEL.replace("true", "false")):
            wait_for(lambda: machine.plugins(path.name)[-1] == ENTRY, "the entry")
            path.write_text(text)
        wait_for(lambda: machine.plugins(path.name)[-1] == ENTRY, "the entry")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=5)
    finally:
        process.kill()
    assert process.returncode == 143
    assert (machine.conf / f"{path.name}.before-proxypool").read_text() == FLANNEL.replace("true", "false")
