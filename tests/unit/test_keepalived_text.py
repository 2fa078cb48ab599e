"""keepalived's configuration as text, and the words it sends back."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from itertools import combinations

import pytest

from proxypool.core.errors import InvalidInput
from proxypool.core.keepalived import (
    BASE_PRIORITY,
    GLOBAL_FILE,
    MIN_VERSION,
    file_name,
    global_text,
    instance_name,
    pair_text,
    parse_notification,
    parse_version,
    render,
    track_file,
)
from proxypool.core.role import PRIORITY_ASIDE, PRIORITY_ELECTED, PRIORITY_NORMAL, PRIORITY_UNFIT, Vrrp
from tests.unit import builders as make

PEER = IPv4Address("192.168.4.2")
INSIDE = "/usr/bin/nsenter --net=/run/netns/pp-s1 /bin/sh -c"


def gate(value: int, more: str = "") -> str:
    """The line that moves the gate. Looks first; the lock is not held while the egress address is announced."""
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    write = f"exec 9>/run/proxypool/gates/s1; /usr/bin/flock 9; echo {value} >{forwarding} && exec 9>&-"
    return f"{INSIDE} 'read is <{forwarding}; if [ $is != {value} ]; then {write}; fi{more}'"


GOLDEN = f"""# Written by proxypool; changes are overwritten.
track_file proxypool_s1_p1 {{
    file /run/proxypool/track/s1_p1
    weight 1
    init_file -254
}}
vrrp_instance proxypool/s1/p1 {{
    version 3
    state BACKUP
    interface eth0
    virtual_router_id 1
    priority 1
    advert_int 0.01
    down_timer_adverts 5
    garp_master_refresh 2
    garp_master_refresh_repeat 1
    garp_lower_prio_repeat 1
    unicast_src_ip 192.168.4.1
    unicast_peer {{
        192.168.4.2
    }}
    track_file {{
        proxypool_s1_p1
    }}
    virtual_ipaddress {{
        192.168.4.100/32 dev eth0
    }}
    notify_master "{gate(1)}" root root
    notify_backup "{gate(0)}" root root
    notify_fault "{gate(0)}" root root
    notify_stop "{gate(0)}" root root
}}
"""


def text(name: str = "n1", peer: IPv4Address = PEER) -> str:
    return pair_text(make.keepalived_facts(name), make.pair(), peer)


def block(name: str, of: str) -> list[str]:
    """Lines of an inner block."""
    match = re.search(rf"^    {name} \{{\n(.*?)^    \}}", of, re.MULTILINE | re.DOTALL)
    assert match is not None, f"no block {name}"
    return [line.strip() for line in match.group(1).splitlines()]


def test_the_text_of_a_pair() -> None:
    assert text() == GOLDEN


def test_the_common_part_names_the_fifo_and_keeps_the_vrrp_process_on_time() -> None:
    common = global_text(make.keepalived_facts())
    assert "vrrp_notify_fifo /run/proxypool/vrrp.fifo" in common
    assert "enable_script_security" in common
    assert "vrrp_priority -20" in common
    assert "vrrp_rx_bufs_policy 65536" in common, "a hundred pairs share one socket"
    assert "vrrp_startup_delay 1.5" in common, "the master asks once a second for the MAC of a machine that was off"
    assert "vrrp_rt_priority" not in common, "keepalived 2.2 is killed for it at a reload"


def test_adverts_are_unicast_version_3_to_the_peer_and_nobody_else() -> None:
    """Cloud fabrics drop multicast."""
    assert "    version 3\n" in text()
    assert "    unicast_src_ip 192.168.4.1\n" in text()
    assert block("unicast_peer", text()) == ["192.168.4.2"]


def test_the_havip_is_the_only_address_and_is_on_the_underlay() -> None:
    assert block("virtual_ipaddress", text()) == ["192.168.4.100/32 dev eth0"]


def test_every_state_moves_the_gate_even_without_the_daemon() -> None:
    notify = dict(re.findall(r'^    notify_(\w+) ".* echo (\d) >/proc/sys/net/ipv4/ip_forward', text(), re.MULTILINE))
    assert notify == {"master": "1", "backup": "0", "fault": "0", "stop": "0"}


def test_the_notify_lines_stay_in_the_subnets_namespace() -> None:
    assert text().count("--net=/run/netns/pp-s1 ") == 4


def test_a_master_announces_its_egress_address_after_the_gate_is_open() -> None:
    """Once, and once more if the gate is still open a second later. The words stay within quotes of keepalived's kind."""
    egress = pair_text(make.keepalived_facts(), make.pair(egress="172.16.101.20"), PEER)
    announce = "/usr/bin/arping -q -U -c 1 -w 1 -I eni0 172.16.101.20"
    more = f" && {announce}; read is </proc/sys/net/ipv4/ip_forward; [ $is = 1 ] && {announce}"
    line = f"""    notify_master "{gate(1, more)}" root root\n"""
    assert line in egress
    assert egress.replace(line, f'    notify_master "{gate(1)}" root root\n') == text()


def test_the_track_files_value_is_the_priority() -> None:
    assert "    weight 1\n" in text()


def test_a_member_that_starts_stands_aside_and_a_restart_of_keepalived_resets_nothing() -> None:
    """The line ends after the value: `overwrite` would forget who is elected."""
    assert f"    init_file {PRIORITY_ASIDE}\n" in text()


def test_nothing_but_the_track_file_decides_who_is_preferred() -> None:
    """The same base priority and state on both members; `nopreempt` would keep the elected one waiting."""
    other = pair_text(make.keepalived_facts("n2"), make.pair(), IPv4Address("192.168.4.1"))
    for line in ("    state BACKUP\n", f"    priority {BASE_PRIORITY}\n"):
        assert line in text()
        assert line in other
    assert "nopreempt" not in text()


def test_priorities_stay_in_vrrps_range_and_in_their_order() -> None:
    effective = [BASE_PRIORITY + value for value in (PRIORITY_UNFIT, PRIORITY_NORMAL, PRIORITY_ELECTED)]
    assert effective == sorted(effective)
    assert effective[0] >= 1
    assert effective[-1] <= 254, "255 is the owner of the address (RFC 5798 section 5.2.4)"
    assert PRIORITY_ASIDE == -254, "what keepalived takes for a fault"


def test_keepalived_without_the_track_file_comes_last() -> None:
    """It is started before the daemon made its directory, and drops the tracker: it must not win against who serves."""
    assert BASE_PRIORITY < BASE_PRIORITY + PRIORITY_UNFIT


@pytest.mark.parametrize(("interval_ms", "written"), [(10, "0.01"), (50, "0.05"), (1000, "1"), (40950, "40.95")])
def test_the_interval_is_written_in_seconds(interval_ms: int, written: str) -> None:
    facts = make.keepalived_facts(advert_ms=interval_ms)
    assert f"    advert_int {written}\n" in pair_text(facts, make.pair(), PEER)


def test_a_node_of_many_pairs_has_one_interval_for_all() -> None:
    """Stretched: the files of pairs that were there before change too."""
    pairs = [make.pair(subnet=f"s{n}", vrid=n, havip=f"192.168.5.{n}") for n in range(1, 31)]
    pool = make.snapshot(pairs=pairs, subnets=[make.subnet(pair.subnet) for pair in pairs])
    files = render(make.keepalived_facts(), pool)
    assert sum("    advert_int 0.02\n" in text for text in files.values()) == 30


def test_each_member_lists_the_other_as_its_peer() -> None:
    pool = make.snapshot(pairs=[make.pair()])
    mine = render(make.keepalived_facts("n1"), pool)
    theirs = render(make.keepalived_facts("n2"), pool)
    assert set(mine) == set(theirs) == {GLOBAL_FILE, "proxypool-s1_p1.conf"}
    assert block("unicast_peer", mine["proxypool-s1_p1.conf"]) == ["192.168.4.2"]
    assert block("unicast_peer", theirs["proxypool-s1_p1.conf"]) == ["192.168.4.1"]


def test_a_pair_whose_other_member_is_not_registered_waits() -> None:
    pool = make.snapshot(pairs=[make.pair()], nodes=[make.node("n1", "192.168.4.1")])
    assert set(render(make.keepalived_facts("n1"), pool)) == {GLOBAL_FILE}


def test_a_node_without_pairs_has_only_the_common_part() -> None:
    assert set(render(make.keepalived_facts("n9"), make.snapshot(pairs=[make.pair()]))) == {GLOBAL_FILE}


def test_no_two_pairs_share_a_file_whatever_their_names() -> None:
    """Names may contain '-' and '.': s1-a/p1 and s1/a-p1 once had the same track file."""
    names = [("s1-a", "p1"), ("s1", "a-p1"), ("s1-a-p1", "p1"), ("s1", "a.p1"), ("s1.a", "p1")]
    for one, other in combinations(names, 2):
        assert file_name(*one) != file_name(*other)
        assert track_file("/run/proxypool", *one) != track_file("/run/proxypool", *other)
        assert instance_name(*one) != instance_name(*other)


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ('INSTANCE "proxypool/s1/p1" MASTER 240', ("s1", "p1", Vrrp.MASTER)),
        ('INSTANCE "proxypool/s1/p1" BACKUP 200', ("s1", "p1", Vrrp.BACKUP)),
        ('INSTANCE "proxypool/s1/p1" FAULT 1\n', ("s1", "p1", Vrrp.FAULT)),
        ('INSTANCE "proxypool/a.b-c/p-1" STOP 200', ("a.b-c", "p-1", Vrrp.STOP)),
        ('INSTANCE "proxypool/s1/p1" MASTER_RX_LOWER_PRI 240', None),
        ('INSTANCE "VI_1" MASTER 240', None),
        ('GROUP "proxypool/s1/p1" MASTER 240', None),
        ('INSTANCE "proxypool/s1/p1"', None),
        ("", None),
        ("VS [10.0.0.1]:tcp:80 UP", None),
    ],
)
def test_lines_of_the_fifo(line: str, meaning: tuple[str, str, Vrrp] | None) -> None:
    assert parse_notification(line) == meaning


def test_what_is_written_is_what_is_read_back() -> None:
    line = f'INSTANCE "{instance_name("s1", "p1")}" MASTER 240'
    assert parse_notification(line) == ("s1", "p1", Vrrp.MASTER)


def test_the_version_is_read_from_the_programs_own_words() -> None:
    assert parse_version("Keepalived v2.2.7 (01/16,2022)\n\nCopyright(C) 2001-2022") == (2, 2, 7)
    assert parse_version("Keepalived v2.0.20 (01/22,2020)") < MIN_VERSION


def test_a_version_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot read keepalived's version from 'very new'"):
        parse_version("very new")
