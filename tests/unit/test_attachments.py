"""Attachments: what is refused and why, what is written when, and who waits for what. The kernel's set is a fake here;
tests/contract has the real one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.core.attachments import (
    AttachmentRefused,
    AttachRequest,
    DetachRequest,
    Rules,
    Unwanted,
    Wanted,
    parse_request,
)
from proxypool.core.errors import TransientError
from proxypool.core.steering import Group, MarkLayout
from proxypool.daemons.attachments import Attachments, NotReady
from proxypool.daemons.cutting import LetGo
from tests.unit.builders import subnet

ONE, TWO = IPv4Address("10.244.1.2"), IPv4Address("10.244.1.3")
HOME = (IPv4Network("10.244.1.0/24"),)
SUBNETS = {
    "s1": subnet("s1", "172.16.101.0/24", key=1, tenant="t1"),
    "s2": subnet("s2", "172.16.102.0/24", key=2, tenant="t1"),
    "twin": subnet("twin", "172.16.101.0/24", key=3, tenant="t2"),
    "inside": subnet("inside", "10.244.0.0/16", key=4, tenant="t3"),
}
RULES = Rules(HOME, SUBNETS)
MARKS = MarkLayout(16)
ENTRIES: dict[Group, int] = {("s1",): 0x10, ("s2",): 0x20, ("s1", "s2"): 0x30, ("twin",): 0x40}


class FakeSet:
    """A set in memory that can be told to refuse."""

    def __init__(self) -> None:
        self.entries: dict[IPv4Network, int] = {}
        self.refuses = False
        self.writes = 0

    def put(self, entries: Mapping[IPv4Network, int]) -> None:
        if entries and self.refuses:
            raise TransientError("the set is full")
        self.writes += bool(entries)
        self.entries |= entries

    def remove(self, networks: Iterable[IPv4Network]) -> None:
        for network in networks:
            self.entries.pop(network, None)

    def read(self) -> dict[IPv4Network, int]:
        return dict(self.entries)

    def count(self) -> int:
        return len(self.entries)

    def marks(self) -> dict[str, int]:
        return {str(network): mark >> MARKS.shift for network, mark in self.entries.items()}


class FakeCutter:
    """Remembers what it was told to end; can be told to fail."""

    def __init__(self) -> None:
        self.told: list[dict[IPv4Address, LetGo]] = []
        self.works = True

    def cut(self, let_go: Mapping[IPv4Address, LetGo]) -> bool:
        self.told.append(dict(let_go))
        return self.works

    def last(self) -> dict[str, tuple[list[str], int | None]]:
        """And forget it."""
        told, self.told = self.told, []
        return {str(address): ([str(cidr) for cidr in one.cidrs], one.group) for address, one in told[-1].items()}


class Agent:
    """Attachments with a fake set, and the file they are kept in."""

    def __init__(self, path: Path, entries: Mapping[Group, int] = ENTRIES, rules: Rules = RULES) -> None:
        self.wanted = threading.Event()
        self.set = FakeSet()
        self.cutter = FakeCutter()
        self.path = path
        self.log = AttachmentLog(path)
        self.all = Attachments(self.log, MARKS, self.wanted.set)
        self.problems = self.all.load(HOME)
        self.all.use(self.set)
        self.all.cut_with(self.cutter)
        self.all.publish(rules, entries, None, "")

    def attach(self, *pairs: tuple[IPv4Address, str], replace: bool = False, timeout_s: float = 0.0) -> list[str]:
        wanted = tuple(Wanted(address=address, subnet=name) for address, name in pairs)
        done = self.all.attach(AttachRequest(attachments=wanted, replace=replace), timeout_s)
        return [one.state for one in done]

    def detach(self, *pairs: tuple[IPv4Address, str | None]) -> list[tuple[str, str]]:
        unwanted = tuple(Unwanted(address=address, subnet=name) for address, name in pairs)
        done = self.all.detach(DetachRequest(attachments=unwanted), 0.0)
        return [(one.attachment.subnet, one.state) for one in done]

    def names(self) -> list[tuple[str, str]]:
        return [(str(item.address), item.subnet) for item in self.all.all()]


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path / "state" / "attachments.jsonl")


def refusal(agent: Agent, *pairs: tuple[IPv4Address, str], timeout_s: float = 0.0) -> tuple[str, str]:
    before = (agent.names(), agent.set.marks())
    with pytest.raises(AttachmentRefused) as caught:
        agent.attach(*pairs, timeout_s=timeout_s)
    assert (agent.names(), agent.set.marks()) == before
    return caught.value.code, str(caught.value)


class TestAttach:
    def test_the_set_gets_the_groups_entry(self, agent: Agent) -> None:
        assert agent.attach((ONE, "s1")) == ["attached"]
        assert agent.set.marks() == {"10.244.1.2/32": 0x10}
        assert agent.names() == [("10.244.1.2", "s1")]

    def test_twice_is_once(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        size, writes = agent.path.stat().st_size, agent.set.writes
        assert agent.attach((ONE, "s1")) == ["unchanged"]
        assert (agent.path.stat().st_size, agent.set.writes) == (size, writes)

    def test_several_subnets_of_one_customer_are_one_group(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.attach((ONE, "s2"))
        assert agent.set.marks() == {"10.244.1.2/32": 0x30}

    def test_a_batch_is_all_or_nothing(self, agent: Agent) -> None:
        code, text = refusal(agent, (ONE, "s1"), (TWO, "twins"))
        assert code == "unknown-subnet"
        assert "did you mean twin?" in text

    @pytest.mark.parametrize(
        ("address", "name", "code", "says"),
        [
            ("10.9.9.9", "s1", "not-an-instance", "10.244.1.0/24"),
            ("10.244.1.0", "s1", "not-an-instance", "first or last"),
            ("10.244.1.255", "s1", "not-an-instance", "first or last"),
            ("10.244.1.2", "nosuch", "unknown-subnet", "nosuch"),
            ("10.244.1.2", "inside", "overlap", "instances' own addresses"),
        ],
    )
    def test_what_cannot_be_is_refused(self, agent: Agent, address: str, name: str, code: str, says: str) -> None:
        found, text = refusal(agent, (IPv4Address(address), name))
        assert found == code
        assert says in text

    def test_another_customers_subnet_is_refused_even_without_overlap(self, agent: Agent) -> None:
        agent.attach((ONE, "s2"))
        code, text = refusal(agent, (ONE, "twin"))
        assert code == "attached-elsewhere"
        assert "proxypool host detach --address 10.244.1.2" in text

    def test_overlapping_subnets_are_refused(self, tmp_path: Path) -> None:
        twins = {name: subnet(name, "172.16.101.0/24", key=key) for key, name in enumerate(("a", "b"), 1)}
        agent = Agent(tmp_path / "f", {("a",): 1}, Rules(HOME, twins))
        agent.attach((ONE, "a"))
        assert refusal(agent, (ONE, "b"))[0] == "attached-elsewhere"

    def test_replace_moves_an_address_at_once(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        assert agent.attach((ONE, "twin"), replace=True) == ["attached"]
        assert agent.names() == [("10.244.1.2", "twin")]
        assert agent.set.marks() == {"10.244.1.2/32": 0x40}

    def test_replace_cuts_what_was_before_and_not_what_comes_now(self, agent: Agent) -> None:
        """Before the answer, and once more for packets that were under way. The CIDRs are the same."""
        agent.attach((ONE, "s1"))
        assert agent.cutter.told == []
        agent.attach((ONE, "twin"), replace=True)
        assert agent.cutter.last() == {"10.244.1.2": (["172.16.101.0/24"], 0x4)}
        agent.all.cut_again()
        assert agent.cutter.last() == {"10.244.1.2": (["172.16.101.0/24"], 0x4)}
        agent.all.cut_again()
        assert agent.cutter.told == []

    def test_what_is_attached_again_at_once_is_not_cut_later(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.detach((ONE, "s1"))
        agent.attach((ONE, "s1"))
        assert len(agent.cutter.told) == 1
        agent.all.cut_again()
        assert len(agent.cutter.told) == 1

    def test_what_could_not_be_cut_is_tried_again(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.cutter.works = False
        agent.detach((ONE, "s1"))
        agent.all.cut_again()
        agent.cutter.works = True
        agent.all.cut_again()
        assert agent.cutter.last() == {"10.244.1.2": (["172.16.101.0/24"], None)}
        agent.all.cut_again()
        assert agent.cutter.told == []

    def test_a_host_serves_what_it_is_configured_for(self, tmp_path: Path) -> None:
        agent = Agent(tmp_path / "f", rules=Rules(HOME, SUBNETS, ("s2",)))
        assert refusal(agent, (ONE, "s1"))[0] == "not-served"
        assert agent.attach((ONE, "s2")) == ["attached"]

    def test_open_cidrs_belong_to_nobody(self, tmp_path: Path) -> None:
        agent = Agent(tmp_path / "f", rules=Rules(HOME, SUBNETS, open_cidrs=(IPv4Network("172.16.0.0/12"),)))
        assert refusal(agent, (ONE, "s1"))[0] == "overlap"


class TestDetach:
    def test_only_what_is_named_goes(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"), (ONE, "s2"), (TWO, "s1"))
        assert agent.detach((ONE, "s1")) == [("s1", "detached")]
        assert agent.set.marks() == {"10.244.1.2/32": 0x20, "10.244.1.3/32": 0x10}
        assert agent.cutter.last() == {"10.244.1.2": (["172.16.101.0/24"], 0x2)}

    def test_without_a_subnet_everything_goes(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"), (ONE, "s2"))
        assert agent.detach((ONE, None)) == [("s1", "detached"), ("s2", "detached")]
        assert agent.set.marks() == {}

    def test_absent_is_fine(self, agent: Agent) -> None:
        assert agent.detach((ONE, "s1"), (TWO, None)) == [("s1", "absent"), ("", "absent")]

    def test_it_does_not_wait_for_ever_for_what_stays(self, tmp_path: Path) -> None:
        """The group of what stays is not programmed: until it is, the instance reaches nothing rather than too much."""
        agent = Agent(tmp_path / "f", {("s1", "s2"): 0x30})
        agent.attach((ONE, "s1"), (ONE, "s2"))
        assert agent.detach((ONE, "s1")) == [("s1", "detached")]
        assert agent.set.marks() == {}
        agent.all.publish(RULES, ENTRIES, None, "")
        assert agent.set.marks() == {"10.244.1.2/32": 0x20}


class TestFailures:
    def test_a_set_that_refuses_leaves_nothing_behind(self, agent: Agent) -> None:
        agent.set.refuses = True
        with pytest.raises(TransientError, match="full"):
            agent.attach((ONE, "s1"))
        agent.set.refuses = False
        assert agent.names() == []
        assert not agent.path.exists()

    def test_a_disk_that_is_full_leaves_nothing_behind(self, tmp_path: Path) -> None:
        agent = Agent(tmp_path / "f")
        agent.log._fd = os.open("/dev/full", os.O_RDWR)
        with pytest.raises(TransientError, match="No space left"):
            agent.attach((ONE, "s1"))
        assert agent.names() == []
        assert agent.set.marks() == {}

    def test_before_the_pool_is_known_nothing_is_answered(self, tmp_path: Path) -> None:
        kept = Attachments(AttachmentLog(tmp_path / "f"), MARKS, lambda: None)
        kept.use(FakeSet())
        with pytest.raises(TransientError, match="does not know the pool yet"):
            kept.attach(AttachRequest(attachments=(Wanted(address=ONE, subnet="s1"),)), 1.0)


class TestFirstUse:
    def test_it_waits_until_the_group_is_programmed(self, tmp_path: Path) -> None:
        agent = Agent(tmp_path / "f", {})
        states: list[str] = []
        caller = threading.Thread(target=lambda: states.extend(agent.attach((ONE, "s1"), timeout_s=10.0)))
        caller.start()
        assert agent.wanted.wait(5.0)
        assert agent.all.groups(100.0, 0.0) == {("s1",)}
        assert agent.set.marks() == {}
        agent.all.publish(RULES, ENTRIES, None, "")
        caller.join(5.0)
        assert states == ["attached"]
        assert agent.set.marks() == {"10.244.1.2/32": 0x10}

    def test_the_main_loop_is_asked_once(self, tmp_path: Path) -> None:
        """Its answers wake whoever waits: asking again at each of them would keep both busy."""
        agent = Agent(tmp_path / "f", {})
        states: list[str] = []
        caller = threading.Thread(target=lambda: states.extend(agent.attach((ONE, "s1"), timeout_s=10.0)))
        caller.start()
        assert agent.wanted.wait(5.0)
        agent.wanted.clear()
        for _ in range(20):
            agent.all.publish(RULES, {}, None, "")
            time.sleep(0.005)
        assert not agent.wanted.is_set()
        agent.all.publish(RULES, ENTRIES, None, "")
        caller.join(5.0)
        assert states == ["attached"]

    def test_it_gives_up_and_says_why(self, tmp_path: Path) -> None:
        agent = Agent(tmp_path / "f", {})
        agent.all.publish(RULES, {}, None, ": ZooKeeper does not answer")
        with pytest.raises(NotReady, match=r"s1 could not be brought into use .* ZooKeeper does not answer"):
            agent.attach((ONE, "s1"), timeout_s=0.05)
        assert agent.names() == []

    def test_one_that_waits_for_a_subnet_that_is_removed_meanwhile_is_told_at_once(self, tmp_path: Path) -> None:
        """It does not wait until its time is over."""
        agent = Agent(tmp_path / "f", {})
        codes: list[str] = []
        caller = threading.Thread(target=lambda: codes.append(refusal(agent, (ONE, "s1"), timeout_s=60.0)[0]))
        caller.start()
        assert agent.wanted.wait(5.0)
        agent.all.publish(Rules(HOME, {}), {}, None, "")
        caller.join(10.0)
        assert codes == ["unknown-subnet"]

    def test_a_subnet_lingers_after_its_last_attachment(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        assert agent.all.groups(100.0, 60.0) == {("s1",)}
        agent.detach((ONE, None))
        agent.all.keep([("s1",)], 100.0)
        assert agent.all.groups(1e9, 60.0) == frozenset()


class TestTheSet:
    def test_new_entries_move_everybody(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"), (TWO, "s2"))
        agent.all.publish(RULES, {**ENTRIES, ("s1",): 0x11}, None, "")
        assert agent.set.marks() == {"10.244.1.2/32": 0x11, "10.244.1.3/32": 0x20}

    def test_a_group_that_is_no_longer_programmed_leaves_the_set(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.all.publish(RULES, {}, None, "")
        assert agent.set.marks() == {}

    def test_all_instances_are_in_it_for_a_host_that_attaches_all(self, agent: Agent) -> None:
        agent.attach((ONE, "twin"))
        agent.all.publish(RULES, ENTRIES, ("s1", "s2"), "")
        assert agent.set.marks() == {"10.244.1.0/24": 0x30, "10.244.1.2/32": 0x40}

    def test_what_others_did_to_it_is_seen_and_mended(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"), (TWO, "s2"))
        assert agent.all.is_intact(0.0)
        agent.set.entries.clear()
        assert not agent.all.is_intact(0.0)
        assert agent.all.repair() == 2
        agent.set.entries[IPv4Network("10.244.1.9/32")] = 0x10 << 16
        agent.set.entries[IPv4Network(ONE)] = 0x99 << 16
        assert not agent.all.is_intact(0.0)
        assert agent.all.repair() == 2
        assert agent.set.marks() == {"10.244.1.2/32": 0x10, "10.244.1.3/32": 0x20}

    def test_what_could_not_be_written_when_a_path_changed_is_written_later(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.set.refuses = True
        with pytest.raises(TransientError):
            agent.all.publish(RULES, {**ENTRIES, ("s1",): 0x11}, None, "")
        agent.set.refuses = False
        assert not agent.all.is_intact(0.0)
        assert agent.all.repair() == 1
        assert agent.set.marks() == {"10.244.1.2/32": 0x11}
        assert agent.all.is_intact(0.0)

    def test_a_subnet_that_left_the_pool_counts_no_longer(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        rest = {name: spec for name, spec in SUBNETS.items() if name != "s1"}
        agent.all.publish(Rules(HOME, rest), {}, None, "")
        assert agent.set.marks() == {}
        assert agent.all.unknown_subnets() == {"s1"}


class TestOwners:
    def test_an_owner_has_just_what_it_asked_for(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.all.own("cni:a", (ONE, TWO), ("twin",))
        assert agent.all.owned("cni:a") == {(ONE, "twin"), (TWO, "twin")}
        agent.all.own("cni:b", (ONE,), ())
        assert agent.all.owned("cni:a") == {(TWO, "twin")}
        agent.all.release("cni:a")
        assert agent.names() == []
        assert agent.all.owners() == frozenset()

    def test_one_that_is_released_while_it_waits_gets_nothing(self, tmp_path: Path) -> None:
        """A container runtime gave up on ADD and sends DEL; the ADD must not come through after it."""
        agent = Agent(tmp_path / "f", {})
        caught: list[str] = []

        def add() -> None:
            try:
                agent.all.own("cni:a", (ONE,), ("s1",))
            except TransientError as error:
                caught.append(str(error))

        caller = threading.Thread(target=add)
        caller.start()
        assert agent.wanted.wait(5.0)
        agent.all.release("cni:a")
        agent.all.publish(RULES, ENTRIES, None, "")
        caller.join(5.0)
        assert "released" in caught[0]
        assert agent.names() == []


class TestTheFile:
    def test_attachments_survive(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"), (TWO, "s2"))
        agent.detach((TWO, None))
        agent.all.close()
        again = Agent(agent.path)
        assert again.names() == [("10.244.1.2", "s1")]
        assert again.set.marks() == {"10.244.1.2/32": 0x10}

    def test_a_line_that_a_crash_cut_short_costs_only_itself(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.all.close()
        with agent.path.open("ab") as file:
            file.write(b'{"address":"10.244.1.3","sub')
        again = Agent(agent.path)
        assert "line 2" in again.problems[0]
        again.attach((TWO, "s2"))
        again.all.close()
        assert Agent(agent.path).names() == [("10.244.1.2", "s1"), ("10.244.1.3", "s2")]

    def test_addresses_that_are_no_instances_any_more_are_left_out(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_text('{"address":"10.9.9.9","subnet":"s1"}\n')
        agent = Agent(path)
        assert "10.9.9.9" in agent.problems[0]
        assert agent.names() == []

    def test_it_is_written_again_when_somebody_removed_it(self, agent: Agent) -> None:
        agent.attach((ONE, "s1"))
        agent.path.unlink()
        agent.all.sync_log()
        agent.all.close()
        assert Agent(agent.path).names() == [("10.244.1.2", "s1")]

    def test_it_does_not_grow_for_ever(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("proxypool.adapters.attachment_log.SPARE_LINES", 10)
        for _ in range(20):
            agent.attach((ONE, "s1"))
            agent.detach((ONE, None))
        agent.attach((ONE, "s2"))
        agent.all.sync_log()
        assert len(agent.path.read_bytes().splitlines()) == 1
        agent.attach((TWO, "s1"))
        agent.all.close()
        assert Agent(agent.path).names() == [("10.244.1.2", "s2"), ("10.244.1.3", "s1")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"attachments":[]}',
        b'{"attachments":[{"address":"10.244.1.300","subnet":"s1"}]}',
        b'{"attachments":[{"address":"10.244.1.2"}]}',
        b'{"attachments":[{"address":"10.244.1.2","subnet":"s1","subnets":"s2"}]}',
        b'{"attachment":[{"address":"10.244.1.2","subnet":"s1"}]}',
        b"\xff\xfe",
    ],
)
def test_a_request_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(AttachmentRefused) as caught:
        parse_request(body, AttachRequest)
    assert caught.value.code == "invalid"


def test_of_two_subnets_that_overlap_a_host_that_attaches_all_serves_the_first() -> None:
    group, refused = RULES.everything()
    assert group == ("s1", "s2")
    assert set(refused) == {"twin", "inside"}
