"""conntrackd's configuration and its words, as text."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from proxypool.core.state_sync import SyncConfig, SyncCounts, config_text, parse_counts, paths_of, subnet_of_config
from proxypool.core.sync_link import SyncLink

LINK = SyncLink("pptsabc", IPv4Address("169.254.77.1"), IPv4Address("169.254.77.2"), IPv4Address("192.168.4.2"))
CONFIG = SyncConfig(LINK, (IPv4Address("172.16.101.11"),), 65536)
PATHS = paths_of("/run/proxypool/conntrackd", "s1", "0123")

GOLDEN = """# Written by proxypool; changes are overwritten.
Sync {
    Mode FTFW {
        ResendQueueSize 131072
        DisableExternalCache On
    }
    UDP {
        IPv4_address 169.254.77.1
        IPv4_Destination_Address 169.254.77.2
        Port 3780
        Interface pptsabc
        SndSocketBuffer 8388608
        RcvSocketBuffer 8388608
        Checksum on
    }
}
General {
    Systemd off
    Scheduler {
        Type RR
        Priority 1
    }
    HashSize 32768
    HashLimit 131072
    LogFile off
    Syslog off
    LockFile /run/proxypool/conntrackd/s1.lock
    UNIX {
        Path /run/proxypool/conntrackd/s1.ctl
    }
    NetlinkBufferSize 8388608
    NetlinkBufferSizeMaxGrowth 67108864
    NetlinkOverrunResync off
    Filter From Kernelspace {
        Protocol Accept {
            TCP
            UDP
        }
        Address Ignore {
            IPv4_address 127.0.0.1
            IPv4_address 169.254.77.0/30
            IPv4_address 172.16.101.11
        }
        State Accept {
            ESTABLISHED CLOSED TIME_WAIT CLOSE_WAIT for TCP
        }
    }
}
"""

GENERAL = """cache internal:
current active connections:\t          17
connections created:\t\t          20\tfailed:\t           0
connections updated:\t\t           8\tfailed:\t           0
connections destroyed:\t\t           3\tfailed:\t           0

external inject:
connections created:\t\t           1\tfailed:\t           5
connections updated:\t\t           8\tfailed:\t           6
connections destroyed:\t\t           2\tfailed:\t           7

traffic processed:
                   0 Bytes                         0 Pckts

UDP traffic (active device=pptsabc):
                 676 Bytes sent                   80 Bytes recv
                  13 Pckts sent                    5 Pckts recv
                   4 Error send                    0 Error recv

message tracking:
                   0 Malformed msgs                    9 Lost msgs

"""
RUNTIME = """daemon uptime: 0 min

netlink stats:
\tevents received:\t                   0
\tnetlink overrun:\t\t                   2
\tcurrent buffer size (in bytes):\t     2097152

"""
QUEUE = """allocated queue nodes:\t\t           0

queue txqueue:
current elements:\t\t           0
maximum elements:\t\t  2147483647
not enough space errors:\t           1

queue rsqueue:
current elements:\t\t           0
maximum elements:\t\t      131072
not enough space errors:\t          11

"""


def test_the_configuration() -> None:
    assert config_text(CONFIG, PATHS) == GOLDEN


def test_its_name_changes_with_its_content() -> None:
    """So a process's command line says whether it runs with what is wanted."""
    assert CONFIG.fingerprint == replace(CONFIG).fingerprint
    others = (replace(CONFIG, limit=1000), replace(CONFIG, link=replace(LINK, peer=IPv4Address("169.254.77.3"))))
    assert len({CONFIG.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_a_configuration_file_is_known_by_its_name() -> None:
    directory = "/run/proxypool/conntrackd"
    assert subnet_of_config(PATHS.config, directory) == "s1"
    for stranger in (
        "/etc/conntrackd/conntrackd.conf",
        f"{directory}/s1.conf",
        f"{directory}/x/s1_1.conf",
        "s1_1.conf",
    ):
        assert subnet_of_config(stranger, directory) is None


def test_its_counts() -> None:
    assert parse_counts(GENERAL + RUNTIME + QUEUE) == SyncCounts(
        entries=17,
        messages_sent=13,
        messages_received=5,
        send_errors=4,
        entries_written=11,
        write_errors=18,
        lost=9,
        overruns=2,
        queue_drops=11,
    )


def test_words_of_another_version_count_for_nothing() -> None:
    assert parse_counts("conntrackd: what?") == SyncCounts()
