"""How python-iptables is imported: a daemon's start must not wait for a compiler, and nothing is left open."""

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

WITH_MODULES = """
import os, subprocess
there = os.path.exists
os.path.exists = lambda path: path == "/proc/modules" or there(path)

class Started(subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__(["true"] if command[1:] in (["ip_tables"], ["ip6_tables"]) else command, **options)

subprocess.Popen = Started
import proxypool.adapters.iptables
"""


@pytest.mark.parametrize(
    "module", ["proxypool.daemons.node", "proxypool.daemons.host", "proxypool.adapters.iptables.rules"]
)
def test_no_compiler_is_asked_where_the_libraries_are(module: str) -> None:
    """Whichever module comes first. The search of last resort runs gcc and ld, and takes as long as all else together."""
    script = WATCHED.format(module=module)
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60)
    assert found.stdout.split() in (["ldconfig", "False"], ["False"])


def test_where_the_kernel_has_modules_nobody_is_warned_of_an_open_pipe() -> None:
    """python-iptables runs modprobe there, and leaves the pipe to the collector: in tests a warning is an error."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", WITH_MODULES]
    assert subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr == ""
