"""Copies of the package that are another version of it: for daemons of several versions in one lab."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from proxypool import __version__
from proxypool.core.versions import release_of
from proxypool.lab.configs import PACKAGE_ROOT

LATER_FIELD = "later_field"
LATER_VALUE = "what only the later version knows"
_KINDS = {
    "core/model.py": ("SubnetSpec", "MemberSpec", "PairSpec", "NodeSpec", "HostSpec", "Alive", "MemberStatus"),
    "core/scaling/documents.py": ("Action", "ControllerAlive", "Report"),
}


def later_version() -> str:
    """One minor step after this one."""
    found = release_of(__version__)
    assert found is not None
    return f"{found.major}.{found.minor + 1}.0"


def later_tree(directory: Path) -> Path:
    """A copy with the next minor version, which writes one more field into every document, at every level."""
    package = directory / "proxypool"
    shutil.copytree(Path(PACKAGE_ROOT) / "proxypool", package, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(package / "__init__.py", re.escape(f'"{__version__}"'), f'"{later_version()}"')
    for file, kinds in _KINDS.items():
        for kind in kinds:
            docstring = r'"""(?:[^"]|"(?!""))*"""\n'
            _edit(
                package / file,
                rf"(class {kind}\([^\n]*\):\n    {docstring})",
                rf"\g<1>\n    {LATER_FIELD}: str = {LATER_VALUE!r}\n",
            )
    return directory


def _edit(file: Path, pattern: str, replacement: str) -> None:
    text, count = re.subn(pattern, replacement, file.read_text())
    assert count == 1, f"{file}: {pattern} found {count} times"
    file.write_text(text)
