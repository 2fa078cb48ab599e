"""Function hosts that are not there: registers and joins them as their agents would, straight in ZooKeeper.

python -m bench.joins SERVER:PORT POOL SUBNET PAIR; one command a line on stdin, one JSON document each on stdout:

fill FIRST COUNT   hosts with documents, in the subnet's list → {"done": …}
register N         a host's document only → {"done": …}
join N             into the subnet's list → {"sent": …, "committed": …, "seen": …} (seen: null if not within 5 s)
leave N            out of the list → {"done": …}

Times are of CLOCK_MONOTONIC, which all machines of a lab share.
"""

from __future__ import annotations

import json
import sys
import time
from ipaddress import IPv4Address

from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.layout import host_suffix, subnet_host_suffix
from proxypool.adapters.zookeeper.subnet_hosts import join_subnet, leave_subnet, wait_until_seen
from proxypool.adapters.zookeeper.writing import Create, write_all
from proxypool.core.config import ZooKeeperConfig
from proxypool.core.documents import encode
from proxypool.core.model import HostSpec

CONNECT_S = 10.0
SEEN_S = 5.0
CHUNK = 500
_TUNNEL, _UNDERLAY = int(IPv4Address("100.64.0.0")), int(IPv4Address("10.200.0.0"))


def host(number: int) -> HostSpec:
    """The document of a simulated host; nothing answers at its addresses."""
    return HostSpec(
        id=f"host-{number:05}",
        underlay=IPv4Address(_UNDERLAY + number),
        tunnel_address=IPv4Address(_TUNNEL + number),
        metrics=f"{IPv4Address(_UNDERLAY + number)}:9478",
        version="0.0.0",
    )


class Hosts:
    """All of them, through one session."""

    def __init__(self, server: str, pool: str, subnet: str, pair: str) -> None:
        self._subnet, self._pair = subnet, pair
        self._session = PoolSession(ZooKeeperConfig(hosts=(server,), session_timeout_s=30.0), pool)
        self._session.connect(CONNECT_S)

    def run(self, command: str, *numbers: int) -> dict[str, float | None]:
        """One command."""
        match command:
            case "fill":
                first, count = numbers
                for start in range(first, first + count, CHUNK):
                    chunk = range(start, min(start + CHUNK, first + count))
                    self._write(*(self._document(number) for number in chunk))
                    self._write(*(self._membership(number) for number in chunk))
            case "register":
                self._write(self._document(*numbers))
            case "join":
                return self._join(host(*numbers).id)
            case "leave":
                leave_subnet(self._session, host(*numbers).id, self._subnet)
        return {"done": time.monotonic()}

    def _join(self, name: str) -> dict[str, float | None]:
        sent = time.monotonic()
        zxid = join_subnet(self._session, name, self._subnet)
        committed = time.monotonic()
        is_seen = zxid is not None and wait_until_seen(self._session, self._subnet, (self._pair,), zxid, SEEN_S)
        return {"sent": sent, "committed": committed, "seen": time.monotonic() if is_seen else None}

    def _document(self, number: int) -> Create:
        spec = host(number)
        return Create(self._session.layout.path(host_suffix(spec.id)), encode(spec))

    def _membership(self, number: int) -> Create:
        return Create(self._session.layout.path(subnet_host_suffix(self._subnet, host(number).id)))

    def _write(self, *writes: Create) -> None:
        for outcome in write_all(self._session, writes):
            if isinstance(outcome, Exception):
                raise outcome


def main() -> None:
    """Until stdin ends."""
    hosts = Hosts(*sys.argv[1:])
    print(json.dumps({"done": time.monotonic()}), flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        print(json.dumps(hosts.run(command, *map(int, numbers))), flush=True)


if __name__ == "__main__":
    main()
