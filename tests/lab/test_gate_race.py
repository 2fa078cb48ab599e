"""Two writers of one gate, as keepalived's notify lines and the daemon are, must leave it whole."""

import os
import re
import subprocess
import sys
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from proxypool.core.keepalived import gate_lock, pair_text
from proxypool.lab.lab import Lab
from tests.unit import builders as make

PAIR_TEXT = pair_text(make.keepalived_facts(), make.pair(), IPv4Address("192.168.4.2"))
LOCK = gate_lock("/run/proxypool", "s1")

RACE = """
import shlex, subprocess, sys, threading, time
from proxypool.adapters.gate import Gate
LOCK, LINES = sys.argv[1], [shlex.split(line) for line in sys.argv[2:]]
subprocess.run(["ip", "link", "add", "race0", "type", "veth", "peer", "name", "race1"], check=True)
busy = True
def hold_rtnl():
    while busy:
        subprocess.run(["ip", "link", "set", "race1", "up"], check=True)
        subprocess.run(["ip", "link", "set", "race1", "down"], check=True)
noise = [threading.Thread(target=hold_rtnl) for _ in range(2)]
for thread in noise:
    thread.start()
gate = Gate(("race0",), LOCK)
torn = 0
for number in range(60):
    value = number % 2
    line = subprocess.Popen(LINES[value])
    gate.write(is_open=bool(value))
    line.wait()
    torn += gate.read() is not bool(value)
busy = False
for thread in noise:
    thread.join()
subprocess.run(["ip", "link", "del", "race0"], check=True)
print(torn)
"""


@pytest.mark.root
def test_a_gate_written_by_two_is_never_torn(lab: Lab, tmp_path: Path) -> None:
    """Without the lock about a third of these writes leave devices that disagree with the switch."""
    lines = re.findall(r'^    notify_(?:backup|master) "(.*)" root root$', PAIR_TEXT, re.MULTILINE)
    lock = str(tmp_path / "gate.lock")
    # The line enters its namespace itself; here it is in the right one already.
    opening, closing = (line.partition(" --net=/run/netns/pp-s1 ")[2].replace(LOCK, lock) for line in lines)
    assert lock in opening
    assert lock in closing
    command = ["unshare", "--net", sys.executable, "-c", RACE, lock, closing, opening]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"
