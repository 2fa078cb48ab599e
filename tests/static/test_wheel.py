"""What an installation gets."""

import subprocess
import sys
import zipfile
from pathlib import Path

from proxypool import __version__

ROOT = Path(__file__).parents[2]


def test_the_wheel_holds_the_package_with_its_scripts_and_nothing_else(tmp_path: Path) -> None:
    """systemd/, keepalived/ and tests/ beside it would become importable."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    metadata = f"proxypool-{__version__}.dist-info"
    data = f"proxypool-{__version__}.data"
    assert {name.split("/")[0] for name in names} == {"proxypool", metadata, data}
    shared = {name.rpartition("/")[0] for name in names if name.startswith(data)}
    runbooks = f"{data}/data/share/proxypool/runbooks"
    kinds = {f"{runbooks}/checks", f"{runbooks}/doctor", f"{runbooks}/upgrade"}
    assert shared == {f"{data}/data/share/man/man1", *kinds}
    assert f"{data}/data/share/man/man1/proxypool.1" in names
    assert {f"{runbooks}/{page}.md" for page in ("checks/PP001", "doctor/PD001", "upgrade/PU001")} <= set(names)
    assert "proxypool/lab/guest/init.sh" in names
    assert f"{metadata}/entry_points.txt" in names


def test_the_command_of_this_environment_finds_the_package(tmp_path: Path) -> None:
    """Wherever it is called: a folder of the package's name beside the installation would hide it."""
    command = Path(sys.executable).with_name("proxypool")
    done = subprocess.run([command, "version"], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout
