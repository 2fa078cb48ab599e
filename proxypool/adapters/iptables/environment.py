"""Imports python-iptables with what it looks for at import: 0.05 s instead of 0.5 s and a compiler run.

Import this module before any other imports `iptc`.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def prepare() -> None:
    """Say where iptables' libraries are, unless the user has."""
    os.environ.setdefault("PYTHON_IPTABLES_XTABLES_VERSION", "12")
    for directory in sorted(glob.glob("/usr/lib/*-linux-gnu*/xtables")) or ["/usr/lib/xtables"]:
        os.environ.setdefault("XTABLES_LIBDIR", directory)
        os.environ.setdefault("IPTABLES_LIBDIR", os.path.dirname(directory))


@contextmanager
def _no_distutils() -> Iterator[None]:
    """python-iptables needs one path of it, and knows where else to ask; setuptools' copy takes 0.25 s and warns."""
    if "distutils" in sys.modules:
        yield
        return
    sys.modules["distutils"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["distutils"]


prepare()
with _no_distutils():
    import iptc  # noqa: F401
