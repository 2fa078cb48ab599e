"""How python-iptables is imported: a daemon's start must not wait for a compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

WATCHED = """
import sys
programs = []
sys.addaudithook(lambda event, args: programs.append(str(args[0])) if event == "subprocess.Popen" else None)
import {module}
print(*sorted({{name.rpartition("/")[2] for name in programs}}), "distutils" in sys.modules)
"""


@pytest.mark.parametrize(
    "module", ["proxypool.daemons.node", "proxypool.daemons.host", "proxypool.adapters.iptables.rules"]
)
def test_no_compiler_is_asked_where_the_libraries_are(module: str) -> None:
    """Whichever module comes first. The search of last resort runs gcc and ld, and takes as long as all else together."""
    script = WATCHED.format(module=module)
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert found.stdout.split() in (["ldconfig", "False"], ["False"])
