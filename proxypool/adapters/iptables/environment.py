"""Imports python-iptables with what it looks for at import: 0.05 s instead of 0.5 s and a compiler run.

The package imports this module before any other of its own.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def prepare() -> None:
    """Say where iptables' libraries are, and python-iptables' own, unless the user has."""
    os.environ.setdefault("PYTHON_IPTABLES_XTABLES_VERSION", "12")
    spec = importlib.util.find_spec("iptc")
    own = [os.path.dirname(os.path.dirname(spec.origin))] if spec is not None and spec.origin else []
    for directory in sorted(glob.glob("/usr/lib/*-linux-gnu*/xtables")) or ["/usr/lib/xtables"]:
        os.environ.setdefault("XTABLES_LIBDIR", directory)
        os.environ.setdefault("IPTABLES_LIBDIR", ":".join((os.path.dirname(directory), *own)))


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
with _no_distutils(), warnings.catch_warnings():
    # Where the kernel has modules it leaves the pipe of each modprobe to the collector.
    warnings.simplefilter("ignore", ResourceWarning)
    import iptc  # noqa: F401
