"""What is on the disk of such a machine before it is switched on for the first time."""

from __future__ import annotations

import shutil
import sys
import sysconfig
import uuid
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
LIBRARIES = "LD_LIBRARY_PATH=/opt/proxypool-python/lib"
INSTALLED = {
    "sysusers.d": "usr/lib/sysusers.d",
    "tmpfiles.d": "usr/lib/tmpfiles.d",
    "sysctl.d": "usr/lib/sysctl.d",
    "modules-load.d": "usr/lib/modules-load.d",
    "keepalived.service.d": "usr/lib/systemd/system/keepalived.service.d",
}
BASE = ("systemd-journald.service", "systemd-tmpfiles-setup.service", "systemd-sysusers.service")
"""Of what a boot brings up, all that these machines need; the rest of it would change this computer."""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_system(root: Path, name: str, units: tuple[str, ...]) -> None:
    """What a boot of it brings up."""
    write(root / "etc/hostname", f"{name}\n")
    # Without one it would be a first boot, which enables whatever is installed.
    write(root / "etc/machine-id", f"{uuid.uuid4().hex}\n")
    write(root / "etc/systemd/journald.conf.d/test.conf", "[Journal]\nStorage=volatile\nRateLimitBurst=0\n")
    system = root / "etc/systemd/system"
    wants = {"sysinit.target": BASE, "multi-user.target": units, "sockets.target": ("systemd-journald.socket",)}
    for target, wanted in wants.items():
        directory = system / f"{target}.wants"
        directory.mkdir(parents=True)
        for unit in wanted:
            own = (TREE / "systemd" / unit).exists() or unit.startswith("test-")
            (directory / unit).symlink_to(f"/etc/systemd/system/{unit}" if own else f"/lib/systemd/system/{unit}")
    (system / "default.target").symlink_to("/lib/systemd/system/multi-user.target")


def write_program(root: Path) -> None:
    """Our files at the places where an administrator puts them, and an environment as pip makes it."""
    # A Python whose library is in a home, which the units do not see.
    write(root / "etc/systemd/system.conf.d/test.conf", f"[Manager]\nDefaultEnvironment={LIBRARIES}\n")
    for file in (TREE / "systemd").glob("*.service"):
        shutil.copy(file, root / "etc/systemd/system" / file.name)
    for source, target in INSTALLED.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        for file in (TREE / "systemd" / source).iterdir():
            shutil.copy(file, root / target / file.name)
    _write_environment(root / "opt/proxypool")


def _write_environment(root: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = root / "lib" / version / "site-packages"
    site.mkdir(parents=True)
    (root / "bin").mkdir()
    write(root / "pyvenv.cfg", "home = /opt/proxypool-python/bin\ninclude-system-site-packages = false\n")
    (root / "bin/python").symlink_to(f"/opt/proxypool-python/bin/{version}")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        is_hook = entry.suffix == ".pth" or entry.name.startswith("_editable_impl")
        if entry.name != "proxypool" and not is_hook:
            (site / entry.name).symlink_to(f"/opt/proxypool-site/{entry.name}")
    (site / "proxypool").symlink_to("/opt/proxypool-src/proxypool")
    command = root / "bin/proxypool"
    write(command, "#!/opt/proxypool/bin/python -I\nfrom proxypool.cli.start import main\nmain()\n")
    command.chmod(0o755)
