# ruff: noqa: INP001 - tools are no package
"""What dpkg reads of the Debian package. Used by `tools/build_deb.py`."""

from __future__ import annotations

import gzip
import hashlib
import os
from email.utils import formatdate
from pathlib import Path

from deb_wheels import ROOT, Target

SOURCES = ROOT / "packaging" / "deb"
MAINTAINER = ("proxypool", "proxypool@localhost")
"""Unless DEBFULLNAME and DEBEMAIL say who builds, as for Debian's own tools."""
DEPENDS = ("iproute2", "ipset", "iptables", "kmod", "procps")
RECOMMENDS = ("conntrack", "conntrackd", "iputils-arping", "keepalived (>= 1:2.2.3)", "systemd")
"""What a proxy node needs on top. apt installs it unless it is told not to, as on hosts and controllers."""
SUGGESTS = ("bash-completion", "grafana", "prometheus", "zookeeperd")
DESCRIPTION = """\
highly available pairs of proxy nodes between function hosts and subnets
 The node daemon, the host agent, the controller and the command line of
 proxypool: for every customer's subnet a pair of proxy nodes behind one
 floating address, elected by ZooKeeper and moved by keepalived, with a
 network namespace for each subnet.
 .
 Nothing is enabled or started by the installation. Upgrading or removing it
 stops neither keepalived nor packets that are being forwarded.
 .
 All Python packages that it needs are included, in /opt/proxypool."""


def put_control(target: Target, version: str, stage: Path) -> None:
    """DEBIAN/: control, conffiles, checksums and scripts; and Debian's changelog."""
    name, mail = (
        os.environ.get(key) or default for key, default in zip(("DEBFULLNAME", "DEBEMAIL"), MAINTAINER, strict=True)
    )
    history = (
        f"proxypool ({version}) unstable; urgency=medium\n\n  * See changelog.gz.\n\n"
        f" -- {name} <{mail}>  {formatdate(target.epoch)}\n"
    )
    put_packed(history.encode(), stage / "usr/share/doc/proxypool/changelog.Debian.gz")
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    own = stage / "DEBIAN"
    own.mkdir()
    fields = {
        "Package": "proxypool",
        "Version": version,
        "Architecture": target.architecture,
        "Maintainer": f"{name} <{mail}>",
        "Installed-Size": str(sum((path.stat().st_size + 1023) // 1024 for path in files)),
        "Depends": ", ".join((f"libc6 (>= {target.libc})", f"python{target.python}", *DEPENDS)),
        "Recommends": ", ".join(RECOMMENDS),
        "Suggests": ", ".join(SUGGESTS),
        "Section": "net",
        "Priority": "optional",
        "Description": DESCRIPTION,
    }
    (own / "control").write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    kept = [f"/{path.relative_to(stage)}\n" for path in files if path.is_relative_to(stage / "etc")]
    (own / "conffiles").write_text("".join(kept))
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  {path.relative_to(stage)}\n"
        for path in files
        if not path.is_relative_to(stage / "etc")
    )
    (own / "md5sums").write_text("".join(sums))
    units = " ".join(sorted(path.name for path in (ROOT / "systemd").glob("*.service")))
    for script in ("preinst", "postinst", "prerm", "postrm"):
        text = (SOURCES / script).read_text().replace("@UNITS@", units).replace("@USERS@", " ".join(users()))
        (own / script).write_text(text)
        (own / script).chmod(0o755)


def users() -> list[str]:
    """The users, and groups of their own, that systemd-sysusers makes for us; what a purge removes."""
    lines = (path.read_text().splitlines() for path in sorted((ROOT / "systemd/sysusers.d").glob("*.conf")))
    words = (line.split() for text in lines for line in text)
    return sorted({word[1] for word in words if word and word[0] in {"u", "u!", "g"}})


def put_packed(content: bytes, there: Path) -> None:
    """Write a file packed, without the time."""
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(gzip.compress(content, 9, mtime=0))
