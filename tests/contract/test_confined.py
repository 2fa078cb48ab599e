"""The DaemonSet gives the agent the capabilities that programming the kernel takes, and /proc/sys as containers have it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
READ_ONLY = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv: apt-get install util-linux"),
]


def capabilities() -> list[str]:
    """Those of the container that runs the agent."""
    documents = yaml.safe_load_all((ROOT / "kubernetes/proxypool-host.yaml").read_text())
    (daemon_set,) = (document for document in documents if document["kind"] == "DaemonSet")
    agent = next(item for item in daemon_set["spec"]["template"]["spec"]["containers"] if item["name"] == "agent")
    security = agent["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert not security.get("privileged")
    return [name.lower() for name in security["capabilities"]["add"]]


def confined(names: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the program in a network of its own with these capabilities."""
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    # What the init container "machine" sees to before the agent comes.
    script = f"""
        sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.conf.default.src_valid_mark=1 && ip link set lo up && {READ_ONLY} || exit 9
        exec setpriv --bounding-set {bounding} --inh-caps -all {sys.executable} -m tests.contract.confined
    """
    return subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_what_the_daemon_set_gives_is_enough() -> None:
    done = confined(capabilities())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("missing", ["net_admin", "net_raw"])
def test_and_none_of_it_is_too_much(missing: str) -> None:
    done = confined([name for name in capabilities() if name != missing])
    assert (done.returncode, "not permitted" in done.stderr) == (1, True), done.stderr


PROBE = """
import socket
from proxypool.adapters import netlink
from proxypool.core.model import TunnelKind
netlink.probe_tunnel(TunnelKind.VXLAN)
print([name for _, name in socket.if_nameindex() if "probe" in name])
"""


@pytest.mark.parametrize("leftover", ["", "ip link add pptprobe type dummy;"], ids=["clean", "after a crash"])
def test_whether_tunnels_can_be_made_is_tried_without_a_namespace_too(leftover: str) -> None:
    """A host agent may make none (CAP_SYS_ADMIN); what it tried is gone afterwards."""
    script = f"{leftover} exec setpriv --bounding-set -all,+net_admin --inh-caps -all {sys.executable} -c '{PROBE}'"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_who_may_make_no_tunnel_is_told_so() -> None:
    script = f"exec setpriv --bounding-set -all --inh-caps -all {sys.executable} -c '{PROBE}'"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "cannot make vxlan tunnels" in done.stderr
