"""keepalived and conntrackd set up by hand, as their documentation has it, on the nodes of `by_hand`.

A second floating address in the customer's network is the source of all connections. conntrackd in its usual mode
(FT-FW, external cache, over the underlay) and its own script `primary-backup.sh`, told apart into its four cases.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.by_hand import IPTABLES, ByHand
from bench.labs import HAND_NODES
from proxypool.lab.processes import wait_until

DIRECTORY = "/etc/conntrackd"
_SCRIPT = """#!/bin/sh
C="/usr/sbin/conntrackd -C /etc/conntrackd/conntrackd.conf"
case "$1" in
    primary) $C -c; $C -f; $C -R; $C -B ;;
    backup) $C -t; $C -n ;;
esac
"""


@dataclass(frozen=True)
class ByHandSynced(ByHand):
    """The same path; connections are told to the other node."""

    @property
    def egress(self) -> str:
        """The floating address in the customer's network."""
        address = self.subnet.pairs[0].egress_address
        assert address is not None
        return address

    def lay_node(self, node: str) -> None:
        """conntrackd first: keepalived calls it."""
        machine = self.lab.machine(node)
        machine.run(["mkdir", "-p", DIRECTORY])
        for name, text in (("primary-backup.sh", _SCRIPT), ("conntrackd.conf", self._conntrackd_text(node))):
            machine.run(["sh", "-c", f"cat >{DIRECTORY}/{name} && chmod 700 {DIRECTORY}/{name}"], input=text)
        machine.run(["conntrackd", "-C", f"{DIRECTORY}/conntrackd.conf", "-d"])
        wait_until(lambda: self._says(node), 10.0, f"conntrackd on {node}")
        super().lay_node(node)

    def remove(self) -> None:
        """conntrackd as well."""
        for node in HAND_NODES:
            stop = f"conntrackd -C {DIRECTORY}/conntrackd.conf -k; rm -rf {DIRECTORY} /run/by-hand-ct*"
            self.lab.machine(node).run(["sh", "-c", stop], check=False)
        super().remove()

    def _says(self, node: str) -> bool:
        command = ["conntrackd", "-C", f"{DIRECTORY}/conntrackd.conf", "-s"]
        return self.lab.machine(node).run(command, check=False).returncode == 0

    def node_script(self, node: str) -> str:
        """SNAT instead of MASQUERADE."""
        eni, _ = self._card(node)
        masquerade = f"{IPTABLES} -t nat -A POSTROUTING -o {eni} -j MASQUERADE\n"
        snat = f"{IPTABLES} -t nat -A POSTROUTING -o {eni} -j SNAT --to-source {self.egress}\n"
        return super().node_script(node).replace(masquerade, snat)

    def keepalived_text(self) -> str:
        """All defaults, two addresses, and conntrackd's script."""
        eni = self.subnet.members[0].eni
        script = f"{DIRECTORY}/primary-backup.sh"
        return (
            "global_defs {\n    script_user root\n}\n"
            "vrrp_instance by_hand {\n    interface eth0\n    virtual_router_id 251\n"
            f"    virtual_ipaddress {{\n        {self.subnet.havip}/32 dev eth0\n"
            f"        {self.egress}/32 dev {eni}\n    }}\n"
            f'    notify_master "{script} primary"\n    notify_backup "{script} backup"\n}}\n'
        )

    def _conntrackd_text(self, node: str) -> str:
        own = self.lab.topology.machines[node].ip
        (peer,) = (self.lab.topology.machines[name].ip for name in HAND_NODES if name != node)
        _, address = self._card(node)
        addresses = ("127.0.0.1", own, peer, self.subnet.havip, address.partition("/")[0])
        ignored = "\n".join(f"            IPv4_address {each}" for each in addresses)
        return f"""Sync {{
    Mode FTFW {{
    }}
    UDP {{
        IPv4_address {own}
        IPv4_Destination_Address {peer}
        Port 3780
        Interface eth0
        SndSocketBuffer 1249280
        RcvSocketBuffer 1249280
        Checksum on
    }}
}}
General {{
    Systemd off
    HashSize 32768
    HashLimit 524288
    LogFile off
    Syslog off
    LockFile /run/by-hand-ct.lock
    UNIX {{
        Path /run/by-hand-ct.ctl
    }}
    NetlinkBufferSize 2097152
    NetlinkBufferSizeMaxGrowth 8388608
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
        }}
        Address Ignore {{
{ignored}
        }}
    }}
}}
"""
