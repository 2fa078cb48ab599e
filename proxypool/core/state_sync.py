"""conntrackd's configuration as text, and what it says of itself. Pure.

conntrackd (conntrack-tools 1.4) tells the other member of a pair which connections this one carries, by FT-FW over UDP,
and writes what it hears straight into the kernel: nothing is left to do at a takeover. Facts that the supervision
(`sync_supervision`) rests on, from its source and seen in tests:
- What it has written into the kernel itself is not in its own list, and so is never told back.
- When it starts it takes all that is in the kernel for its own. On a backup that list must be emptied at once: an entry
  that runs out there would be told to the master as an end, and cut the connection there. `-f internal` tells nobody.
- `-R` takes all that is in the kernel into its list and tells nobody; `-B` tells the whole list to the other member;
  `-n` asks the other member for its list.
- When it lost events it would tell everything by itself some seconds later, also on a backup, where that is wrong: so
  this is off, and the supervision does it.
- Times to live are those of an entry's last event. A UDP entry is not renewed on the backup by the packets that the
  master sees: the master tells its list again from time to time.
- It asks for real-time scheduling by itself, and ends if it does not get it. A real-time process goes before keepalived
  where that has none, and a hundred of them take every processor: so it is taken away from it again, for a good place
  among ordinary processes (`adapters.conntrackd`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from proxypool.core.firewall import SYNC_PORT
from proxypool.core.sync_link import SYNC_NETWORK, SyncLink

RESEND_QUEUE = 131072
"""Messages kept until the other member has confirmed them, some 300 bytes each."""
HASH_BUCKETS = 32768
DEFAULT_LIMIT = 262144
"""Connections, where the kernel does not say how many it will track."""
SOCKET_BYTES = 8 << 20
EVENT_BYTES, MAX_EVENT_BYTES = 8 << 20, 64 << 20
"""Buffer for the kernel's events: it must hold those of a second, while conntrackd reads a whole table."""
PRIORITY = 1
"""Real-time, the lowest there is; for the moment until it is taken away."""


@dataclass(frozen=True, slots=True)
class SyncPaths:
    """Where one conntrackd has its files."""

    config: str
    lock: str
    socket: str


def paths_of(directory: str, subnet: str, text_id: str) -> SyncPaths:
    """The configuration's name has its content's fingerprint: a command line says what the process was started with."""
    stem = f"{directory}/{subnet}"
    return SyncPaths(f"{stem}{SEPARATOR}{text_id}.conf", f"{stem}.lock", f"{stem}.ctl")


SEPARATOR = "_"
"""Between a subnet's name, which cannot contain it, and a fingerprint."""


def subnet_of_config(path: str, directory: str) -> str | None:
    """The subnet of one of our configuration files; None for any other."""
    name = path.removeprefix(f"{directory}/")
    if name == path or "/" in name or not name.endswith(".conf") or SEPARATOR not in name:
        return None
    return name.partition(SEPARATOR)[0]


@dataclass(frozen=True, slots=True)
class SyncConfig:
    """What one conntrackd is to do."""

    link: SyncLink
    ignored: tuple[IPv4Address, ...]
    """The member's own addresses: only what passes through is of use to the other member."""
    limit: int
    """The most connections the kernel will track."""

    @property
    def fingerprint(self) -> str:
        """Of everything in the text that could change."""
        return hashlib.blake2s(config_text(self, SyncPaths("", "", "")).encode(), digest_size=6).hexdigest()


def config_text(config: SyncConfig, paths: SyncPaths) -> str:
    """conntrackd.conf(5).

    Half-open TCP connections are not told: their clients try again. Closing ones are, or the backup would keep them for
    days. The limit is twice the kernel's, as conntrackd keeps those that ended until that is confirmed.
    """
    link = config.link
    own = "\n".join(f"            IPv4_address {address}" for address in sorted({*config.ignored}))
    return f"""# Written by proxypool; changes are overwritten.
Sync {{
    Mode FTFW {{
        ResendQueueSize {RESEND_QUEUE}
        DisableExternalCache On
    }}
    UDP {{
        IPv4_address {link.own}
        IPv4_Destination_Address {link.peer}
        Port {SYNC_PORT}
        Interface {link.device}
        SndSocketBuffer {SOCKET_BYTES}
        RcvSocketBuffer {SOCKET_BYTES}
        Checksum on
    }}
}}
General {{
    Systemd off
    Scheduler {{
        Type RR
        Priority {PRIORITY}
    }}
    HashSize {HASH_BUCKETS}
    HashLimit {2 * config.limit}
    LogFile off
    Syslog off
    LockFile {paths.lock}
    UNIX {{
        Path {paths.socket}
    }}
    NetlinkBufferSize {EVENT_BYTES}
    NetlinkBufferSizeMaxGrowth {MAX_EVENT_BYTES}
    NetlinkOverrunResync off
    Filter From Kernelspace {{
        Protocol Accept {{
            TCP
            UDP
        }}
        Address Ignore {{
            IPv4_address 127.0.0.1
            IPv4_address {SYNC_NETWORK}
{own}
        }}
        State Accept {{
            ESTABLISHED CLOSED TIME_WAIT CLOSE_WAIT for TCP
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """What conntrackd has done since it started."""

    entries: int = 0
    """In its list: connections this member carries."""
    messages_sent: int = 0
    messages_received: int = 0
    """UDP packets; some arrive every second as long as the other member's conntrackd lives."""
    send_errors: int = 0
    entries_written: int = 0
    """Made, changed and removed in the kernel, at the other member's word."""
    write_errors: int = 0
    lost: int = 0
    """Messages that did not come at first, and were asked for again."""
    overruns: int = 0
    """Times the kernel's events came faster than they were read, so that some are missing."""
    queue_drops: int = 0
    """Messages that were no longer kept when they were asked for again."""


_NUMBER = r"\s*(\d+)"


def parse_counts(text: str) -> SyncCounts:
    """From `conntrackd -s`, `-s runtime` and `-s queue`, one after the other; what is not in there counts as 0."""
    _, _, injected = text.partition("external inject:")
    written = re.findall(rf"connections (?:created|updated|destroyed):{_NUMBER}\s+failed:{_NUMBER}", injected)
    return SyncCounts(
        entries=_first(rf"current active connections:{_NUMBER}", text),
        messages_sent=_first(r"(\d+) Pckts sent", text),
        messages_received=_first(r"(\d+) Pckts recv", text),
        send_errors=_first(r"(\d+) Error send", text),
        entries_written=sum(int(done) for done, _ in written[:3]),
        write_errors=sum(int(failed) for _, failed in written[:3]),
        lost=_first(r"(\d+) Lost msgs", text),
        overruns=_first(rf"netlink overrun:{_NUMBER}", text),
        queue_drops=_first(rf"queue rsqueue:.*?not enough space errors:{_NUMBER}", text),
    )


def _first(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.DOTALL)
    return int(found[1]) if found else 0
