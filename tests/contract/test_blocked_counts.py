"""What was blocked is read from the kernel's own counters."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from proxypool.adapters import iptables
from proxypool.adapters.iptables import BlockedCounts, tables
from proxypool.core.blocking import Blocked, blocked_chains, chain_of_blocked
from proxypool.core.scene import Chain, Match, Rule, Table
from tests.contract.netns import own_namespace, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces")

_CHAIN = Chain(
    "PP-INPUT",
    "INPUT",
    tuple(
        Rule(chain_of_blocked(why), protocol="udp", matches=(Match("udp", (("dport", str(port)),)),))
        for why, port in ((Blocked.STRANGER, 4001), (Blocked.HOST, 4002), (Blocked.STRANGER, 4003))
    ),
)
TABLE = Table("filter", (_CHAIN, *blocked_chains((_CHAIN,))))


@pytest.fixture(autouse=True)
def namespace() -> Iterator[None]:
    """With a loopback device, over which the packets go."""
    tables._proven.clear()
    with own_namespace():
        run("ip", "link", "set", "lo", "up")
        yield
    tables._proven.clear()


def send(*ports: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for port in ports:
            with suppress(OSError):
                link.sendto(b"x", ("127.0.0.1", port))


def test_packets_are_counted_by_reason_whatever_rule_led_to_it() -> None:
    iptables.apply_table(TABLE)
    tables._proven.clear()
    assert iptables.observe_table(TABLE) == TABLE
    with closing(BlockedCounts(("filter",))) as counts:
        assert counts.read() == {Blocked.STRANGER: 0, Blocked.HOST: 0}
        send(4001, 4002, 4003, 4003, 4004)
        assert counts.read() == {Blocked.STRANGER: 3, Blocked.HOST: 1}


def test_what_was_read_stays_counted_when_the_table_is_made_anew() -> None:
    """Somebody flushed it: a counter that falls would be a reset to whoever reads it, and lose what was between."""
    iptables.apply_table(TABLE)
    with closing(BlockedCounts(("filter",))) as counts:
        send(4001, 4001, 4002)
        assert counts.read() == {Blocked.STRANGER: 2, Blocked.HOST: 1}
        run("iptables-legacy", "-F")
        run("iptables-legacy", "-X")
        assert counts.read() == {Blocked.STRANGER: 2, Blocked.HOST: 1}
        iptables.apply_table(TABLE)
        send(4002)
        assert counts.read() == {Blocked.STRANGER: 2, Blocked.HOST: 2}


def test_errors_that_a_host_gives_are_counted_as_refused() -> None:
    chain = Chain(
        "PP-INPUT", "INPUT", (Rule("PP-DEAD", protocol="udp", matches=(Match("udp", (("dport", "4001"),)),)),)
    )
    reject = (("reject-with", "icmp-host-unreachable"),)
    iptables.apply_table(Table("filter", (chain, Chain("PP-DEAD", None, (Rule("REJECT", reject),)))))
    with closing(BlockedCounts(("filter",))) as counts:
        send(4001)
        assert counts.read() == {Blocked.REFUSED: 1}


def test_chains_of_others_are_none_of_it() -> None:
    run("iptables-legacy", "-N", "OTHERS")
    run("iptables-legacy", "-A", "OTHERS", "-j", "DROP")
    run("iptables-legacy", "-A", "INPUT", "-p", "udp", "-j", "OTHERS")
    with closing(BlockedCounts(("filter",))) as counts:
        send(4001)
        assert counts.read() == {}
