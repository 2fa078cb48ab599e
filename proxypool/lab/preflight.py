"""Can this computer run a lab? `LabError` with one sentence that names what is missing and the package that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from proxypool.core.detection import Profile
from proxypool.lab.errors import LabError
from proxypool.lab.namespaces import PATH
from proxypool.lab.services import TLS_JARS, ZOOKEEPER_JAR
from proxypool.lab.topology import Tunnel

PROGRAMS = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "java": "default-jre-headless",
    "keepalived": "keepalived",
    "iptables-legacy": "iptables",
    "ipset": "ipset",
}
"""Program → the Debian and Ubuntu package that has it."""


def require(programs: dict[str, str] | None = None) -> None:
    """Root, programs, a kernel with namespaces, overlayfs and bridges."""
    require_root()
    wanted = PROGRAMS if programs is None else programs
    packages = sorted({package for program, package in wanted.items() if not shutil.which(program, path=PATH)})
    if not Path(ZOOKEEPER_JAR).exists():
        packages.append("zookeeper")
    if packages:
        raise LabError(f"the lab needs programs that are not installed: apt-get install {' '.join(packages)}")
    _require_kernel()


def require_tls() -> None:
    """What a closed lab needs besides."""
    packages = [] if shutil.which("openssl", path=PATH) else ["openssl"]
    if not Path(TLS_JARS[0]).exists():
        packages.append("libnetty-java")
    if packages:
        raise LabError(f"TLS to ZooKeeper needs what is not installed: apt-get install {' '.join(packages)}")


def require_root() -> None:
    """Without it not even the processes of a lab can be seen."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes network namespaces; run it with sudo")


def has_gre() -> bool:
    """Whether the kernel makes GRE tunnels, tried in a throw-away namespace."""
    command = ["unshare", "--net", "ip", "link", "add", "name", "probe0", "type", "gre", "local", "127.0.0.1"]
    return _try(command) is None


def choose_detection() -> str:
    """The detection profile for this computer: machines that share a single CPU are often late."""
    return Profile.BALANCED if len(os.sched_getaffinity(0)) > 1 else Profile.CONSERVATIVE


def choose_tunnel(wanted: str) -> tuple[Tunnel, str]:
    """The tunnel kind for `gre`, `vxlan` or `auto`, and a sentence about the choice (empty when it was the user's)."""
    if wanted == "vxlan":
        return Tunnel.VXLAN, ""
    if has_gre():
        return Tunnel.GRE, ""
    if wanted == "gre":
        raise LabError("this kernel has no GRE (module ip_gre); use `--tunnel vxlan`, or `make demo TUNNEL=gre`")
    return Tunnel.VXLAN, "this kernel has no GRE (module ip_gre): the lab uses VXLAN"


def _require_kernel() -> None:
    flags = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork"]
    if problem := _try(["unshare", *flags, "true"]):
        raise LabError(f"this kernel or container does not allow network namespaces ({problem})")
    script = (
        "ip link add name probe0 type bridge && ip link add name probe1 type veth peer name probe2 && "
        "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && "
        "mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w o /etc"
    )
    if problem := _try(["unshare", "--net", "--mount", "sh", "-c", script]):
        raise LabError(f"this kernel or container lacks bridges, veth or overlayfs ({problem})")


def _try(command: list[str]) -> str | None:
    """None if it worked, else what it said."""
    program = shutil.which(command[0], path=PATH) or command[0]
    done = subprocess.run(
        [program, *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": PATH},
    )
    if done.returncode == 0:
        return None
    return " ".join(done.stderr.split()) or f"{command[0]} ended with {done.returncode}"
