# ruff: noqa: INP001 - tools are no package
"""Make a Debian package of this tree: `make deb`. Why it is made like this: docs/adr/0025-debian-package.md.

It holds the program and all Python packages of requirements/runtime.txt in /opt/proxypool, an environment on top of the
distribution's interpreter, and what is installed beside it. Made with pip and dpkg-deb alone; the same tree makes the
same bytes (SOURCE_DATE_EPOCH, otherwise the time of the last commit). Downloaded and compiled wheels are kept in the
user's cache, so that the second time takes seconds and no network.

What goes where is in the tables below; the scripts that dpkg runs are in packaging/deb/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from deb_control import SOURCES, put_control, put_packed  # noqa: E402 - the checkout must be found first
from deb_wheels import (  # noqa: E402
    PREFIX,
    PYTHON,
    Failed,
    Target,
    debian_version,
    examine,
    locked_wheels,
    own_wheel,
    pip,
    run,
    say,
)

from proxypool import __version__  # noqa: E402

FILES = {
    "systemd/*.service": "usr/lib/systemd/system",
    "systemd/keepalived.service.d/*.conf": "usr/lib/systemd/system/keepalived.service.d",
    "systemd/modules-load.d/*.conf": "usr/lib/modules-load.d",
    "systemd/tmpfiles.d/*.conf": "usr/lib/tmpfiles.d",
    "systemd/sysctl.d/*.conf": "usr/lib/sysctl.d",
    "systemd/sysusers.d/*.conf": "usr/lib/sysusers.d",
    "packaging/deb/proxypool.toml": "etc/proxypool",
    "packaging/deb/copyright": "usr/share/doc/proxypool",
    "README.md": "usr/share/doc/proxypool",
    "docs/reference/config.md": "usr/share/doc/proxypool",
    "docs/examples/*": "usr/share/doc/proxypool/examples",
    "keepalived/*": "usr/share/proxypool/keepalived",
    "prometheus/README.md": "usr/share/proxypool/prometheus",
    "prometheus/prometheus.yml": "usr/share/proxypool/prometheus",
    "prometheus/rules/*.yml": "usr/share/proxypool/prometheus/rules",
    "grafana/README.md": "usr/share/proxypool/grafana",
    "grafana/*.json": "usr/share/proxypool/grafana",
    "grafana/provisioning/dashboards/*": "usr/share/proxypool/grafana/provisioning/dashboards",
    "grafana/provisioning/datasources/*": "usr/share/proxypool/grafana/provisioning/datasources",
}
"""Pattern in the tree -> directory on the machine."""
COMPLETIONS = {
    "bash": "usr/share/bash-completion/completions/proxypool",
    "zsh": "usr/share/zsh/vendor-completions/_proxypool",
    "fish": "usr/share/fish/vendor_completions.d/proxypool.fish",
}
LOCAL_PACKAGES = "/usr/local/lib/proxypool"
"""Where others' providers, and what only one provider needs, are put: the interpreter looks there last."""


def put_program(target: Target, version: str, stage: Path) -> None:
    """The environment in /opt/proxypool, as `python3 -m venv` would make it there, without pip."""
    top = stage / PREFIX
    (top / "bin").mkdir(parents=True)
    interpreter = f"/usr/bin/python{target.python}"
    (top / "bin" / "python3").symlink_to(interpreter)
    (top / "bin" / "python").symlink_to("python3")
    (top / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {target.python}\n"
    )
    with tempfile.TemporaryDirectory(prefix="proxypool-deb-") as folder:
        own_wheel(version, Path(folder))
        wheels = [*sorted(locked_wheels(target).glob("*.whl")), *Path(folder).glob("*.whl")]
        pip(top / "bin" / "python3", "install", "--no-index", "--no-deps", "--no-compile", *wheels)
    for script in (top / "bin").iterdir():
        if script.name not in {"proxypool", "python", "python3"}:
            script.unlink()
    command = top / "bin" / "proxypool"
    # -I: what PYTHONPATH and the like say to root's shell is not meant for it.
    lines = command.read_text().split("\n", 1)
    command.write_text(f"#!/{PREFIX}/bin/python3 -I\n{lines[1]}")
    libraries = stage / target.libraries
    for record in (*libraries.glob("*.dist-info/RECORD"), *libraries.glob("*.dist-info/direct_url.json")):
        # dpkg knows what it has installed; and they name where the package was made.
        record.unlink()
    (libraries / "local.pth").write_text(f"{LOCAL_PACKAGES}\n")
    link = stage / "usr/bin/proxypool"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/{PREFIX}/bin/proxypool")


def compile_program(target: Target, stage: Path) -> None:
    """Byte code, so that the first start is as quick as the second and root writes nothing there."""
    for path in (stage / PREFIX).rglob("*.py"):
        os.utime(path, (target.epoch, target.epoch))
    words = ("-m", "compileall", "-q", "--invalidation-mode", "timestamp", "-s", stage, "-p", "/")
    run(PYTHON, *words, stage / PREFIX / "lib", PYTHONHASHSEED="0")


def put_files(stage: Path) -> None:
    """Everything beside the program."""
    for pattern, directory in FILES.items():
        for source in sorted(ROOT.glob(pattern)):
            if source.is_file():
                put(source, stage / directory / source.name)
    top = stage / PREFIX
    for page in sorted((top / "share/man/man1").iterdir()):
        put_packed(page.read_bytes(), stage / "usr/share/man/man1" / f"{page.name}.gz")
    shutil.rmtree(top / "share/man")
    for shell, path in COMPLETIONS.items():
        script = run(top / "bin" / "python3", "-I", "-B", "-m", "proxypool", "completion", shell)
        (stage / path).parent.mkdir(parents=True, exist_ok=True)
        (stage / path).write_text(script)
    put(SOURCES / "lintian-overrides", stage / "usr/share/lintian/overrides/proxypool")
    put_packed((ROOT / "CHANGELOG.md").read_bytes(), stage / "usr/share/doc/proxypool/changelog.gz")


def put(source: Path, there: Path) -> None:
    """Copy a file with its right to be executed."""
    there.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, there)


def seal(target: Target, stage: Path) -> None:
    """The same owner's rights and the same time on everything, whoever made it and when."""
    for path in (stage, *stage.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    for path in (*stage.rglob("*"), stage):
        os.utime(path, (target.epoch, target.epoch), follow_symlinks=False)


def build(version: str, output: Path, compression: str) -> Path:
    """Make the package of a version.

    Returns:
        Where it is.
    """
    target = examine()
    debian = debian_version(version)
    output.mkdir(parents=True, exist_ok=True)
    package = output.resolve() / f"proxypool_{debian}_{target.architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="proxypool-deb-") as folder:
        stage = Path(folder, "proxypool")
        stage.mkdir()
        say(f"proxypool {debian} for {target.architecture} with Python {target.python}")
        put_program(target, version, stage)
        put_files(stage)
        compile_program(target, stage)
        put_control(target, debian, stage)
        seal(target, stage)
        packing = ("--root-owner-group", f"-Z{compression}", "--build", stage, package)
        run("dpkg-deb", *packing, SOURCE_DATE_EPOCH=str(target.epoch))
    return package


def put_wheels(version: str, output: Path) -> None:
    """The wheel of this tree and those of all that it needs."""
    output.mkdir(parents=True, exist_ok=True)
    for wheel in locked_wheels(examine()).glob("*.whl"):
        put(wheel, output / wheel.name)
    own_wheel(version, output.resolve())


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Make a Debian package of this tree.")
    parser.add_argument("--version", default=__version__, help=f"instead of {__version__}")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="directory (default: dist/)")
    parser.add_argument("--compression", default="xz", choices=("gzip", "none", "xz", "zstd"), help="default: xz")
    parser.add_argument(
        "--wheels", type=Path, help="put only the wheels there: for machines that reach no package index"
    )
    arguments = parser.parse_args()
    try:
        if arguments.wheels:
            put_wheels(arguments.version, arguments.wheels)
            return 0
        package = build(arguments.version, arguments.output, arguments.compression)
    except Failed as error:
        sys.stderr.write(f"tools/build_deb.py: {error}\n")
        return 1
    sys.stdout.write(f"{os.path.relpath(package)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
