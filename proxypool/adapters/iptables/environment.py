"""Environment that python-iptables reads at import. Importing it costs 0.06 s with these set, 0.5 s and a compiler run
without. Import this module before `iptc`.
"""

from __future__ import annotations

import glob
import os


def prepare() -> None:
    """Say where iptables' libraries are, unless the user has."""
    os.environ.setdefault("SETUPTOOLS_USE_DISTUTILS", "stdlib")
    os.environ.setdefault("PYTHON_IPTABLES_XTABLES_VERSION", "12")
    for directory in sorted(glob.glob("/usr/lib/*-linux-gnu*/xtables")) or ["/usr/lib/xtables"]:
        os.environ.setdefault("XTABLES_LIBDIR", directory)
        os.environ.setdefault("IPTABLES_LIBDIR", os.path.dirname(directory))


prepare()
