"""Two writers of one gate, as keepalived's notify lines and the daemon are, must leave it whole."""

import os
import subprocess
import sys

import pytest

from proxypool.lab.lab import Lab

RACE = """
import subprocess, sys, threading, time
from proxypool.adapters.gate import Gate
LOCK = "/run/gate-race.lock"
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
    line = subprocess.Popen(["flock", LOCK, "sysctl", "-q", "-w", f"net.ipv4.ip_forward={value}"])
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
def test_a_gate_written_by_two_is_never_torn(lab: Lab) -> None:
    """Without the lock about a third of these writes leave devices that disagree with the switch."""
    command = ["unshare", "--net", sys.executable, "-c", RACE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0"
