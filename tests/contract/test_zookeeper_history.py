"""The log of what happened, against a real ZooKeeper: who writes it, who reads it, and what goes wrong meanwhile."""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec
import pytest

from proxypool.adapters.zookeeper import PoolHistory
from proxypool.adapters.zookeeper import history as adapter
from proxypool.core.history import KEPT, Record, name_of
from proxypool.daemons import recorder as module
from proxypool.daemons.recorder import MAX_WAITING, Recorder
from tests.contract.conftest import Connect
from tests.contract.test_zookeeper_cli import Cli, cli
from tests.contract.zk import PoolClient, ZooKeeperServer, pool_request, wait_until

__all__ = ["cli"]

SETTLE_S = 0.01


def record(at: float = 1000.0, to: str = "node-b", pair: str = "p1", **more: object) -> Record:
    """A failover of s1/p1 to node-b."""
    given: dict[str, object] = {"kind": "failover", "reason": "silent", "from_node": "node-a", "by": to, **more}
    return Record(subnet="s1", pair=pair, to_node=to, at=at, **given)  # type: ignore[arg-type]


@dataclass
class Heard:
    """Who counts, and who is told."""

    changes: list[Record] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)
    told: list[Record] = field(default_factory=list)
    waiting: tuple[int, int] = (0, 0)

    def changed(self, record: Record) -> None:
        self.changes.append(record)

    def measured(self, record: Record, phases: Mapping[str, float]) -> None:
        self.phases += phases

    def history_waits(self, waiting: int, dropped: int) -> None:
        self.waiting = (waiting, dropped)


Listen = Callable[[PoolClient], tuple[Recorder, Heard]]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Start the recorder of a daemon."""
    made: list[Recorder] = []

    def start(client: PoolClient) -> tuple[Recorder, Heard]:
        heard = Heard()
        one = Recorder(client.session, heard, heard.told.append, settle_s=SETTLE_S)
        one.start()
        made.append(one)
        return one, heard

    yield start
    for one in made:
        one.stop()


def written(client: PoolClient) -> list[Record]:
    """All there is, oldest first."""
    log = PoolHistory(client.session)
    return list(log.read(log.names()).records)


# ---- the log itself --------------------------------------------------------------------------------------------------


def test_records_are_read_in_the_order_of_their_time(operator: PoolClient) -> None:
    """However they were written; the same again is no second one, and may know more."""
    log = PoolHistory(operator.session)
    later, sooner = record(at=2000.0), record(at=1000.0)
    log.write([later])
    log.write([sooner, later])
    log.write([msgspec.structs.replace(sooner, epoch=9)])
    assert written(operator) == [msgspec.structs.replace(sooner, epoch=9), later]


def test_what_a_later_version_wrote_into_a_record_stays(operator: PoolClient) -> None:
    """When an older one brings it up to date."""
    log = PoolHistory(operator.session)
    log.write([record()])
    suffix = f"history/{name_of(record()).text}"
    operator.put(suffix, json.dumps({**json.loads(operator.get(suffix)), "weather": "fine"}).encode())
    log.write([record(epoch=9)])
    found = json.loads(operator.get(suffix))
    assert (found["weather"], found["epoch"], found["from"], found["to"]) == ("fine", 9, "node-a", "node-b")


def test_a_pool_of_an_earlier_version_gets_a_log(operator: PoolClient) -> None:
    """When the first record is written. Nobody minds its absence before."""
    operator.delete("history")
    assert written(operator) == []
    assert not PoolHistory(operator.session).is_overfull
    PoolHistory(operator.session).write([record()])
    assert written(operator) == [record()]


def test_the_log_is_bounded(operator: PoolClient, listen: Listen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go when there are a tenth more than are kept, whoever writes then; two at once do no harm."""
    monkeypatch.setattr(module, "PRUNE_WITHIN_S", 0.0)
    log = PoolHistory(operator.session)
    operator.make("history/strange", b"?")
    log.write([record(at=float(at)) for at in range(KEPT + adapter.SLACK - 1)])
    assert not log.is_overfull
    one, _ = listen(operator)
    one.put(record(at=5000.0))
    wait_until(lambda: len(log.names()) == KEPT, "it is bounded")
    names = log.names()
    assert "strange" not in names
    assert (names[0], names[-1]) == (name_of(record(at=float(adapter.SLACK))).text, name_of(record(at=5000.0)).text)
    log.write([record(at=6000.0 + at) for at in range(adapter.SLACK + 1)])
    rivals = [threading.Thread(target=log.prune) for _ in range(3)]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    assert len(log.names()) == KEPT


def test_no_mirror_follows_it(operator: PoolClient, connect: Connect) -> None:
    """A daemon is not woken by what others write there."""
    other = connect()
    wait_until(other.mirror.loaded.is_set, "the pool is read")
    before = len(other.snapshots)
    PoolHistory(operator.session).write([record(at=float(at)) for at in range(20)])
    operator.make("subnets/s1/pairs/p1/switchover", b"{}")
    operator.put("subnets/s1", operator.get("subnets/s1").replace(b"default", b"another"))
    wait_until(lambda: len(other.snapshots) > before, "it hears of what matters")
    assert len(other.snapshots) == before + 1
    assert not other.mirror.snapshot.malformed


# ---- who writes it ---------------------------------------------------------------------------------------------------


def test_a_change_is_told_once_and_written(
    operator: PoolClient, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line of the log, in the metrics, to the daemon, to the pool; and more is added when it is known."""
    one, heard = listen(operator)
    first = record(phases={"detection": 0.1, "gate": 0.001})
    second = msgspec.structs.replace(first, epoch=9, phases={**first.phases, "election": 3.0})
    with caplog.at_level(logging.INFO):
        one.put(first)
        wait_until(lambda: written(operator) == [first], "it is written")
        one.put(second)
        wait_until(lambda: written(operator) == [second], "what is known later is added")
    assert (heard.changes, heard.told) == ([first], [first, second])
    assert heard.phases == ["detection", "gate", "election"]
    assert [line.getMessage() for line in caplog.records if line.name == module.__name__] == [module.sentence(first)]


@pytest.mark.timed
def test_a_hundred_at_once(operator: PoolClient, listen: Listen) -> None:
    """A node with a hundred pairs takes over: all are written, and `put` costs the main loop next to nothing."""
    one, _ = listen(operator)
    many = [record(pair=f"p{number}", at=1000.0 + number / 1000) for number in range(100)]
    started = time.perf_counter()
    for each in many:
        one.put(each)
    took_s = time.perf_counter() - started
    wait_until(lambda: written(operator) == many, "all are written")
    assert took_s < 0.02


def test_it_waits_while_zookeeper_is_away(own_server: ZooKeeperServer, pool: str, listen: Listen) -> None:
    """Log and metrics do not. Afterwards it is delivered, in order and once; the oldest are given up when there are too
    many.
    """
    client = PoolClient(own_server, pool).start()
    try:
        client.store.apply(pool_request())
        one, heard = listen(client)
        own_server.stop()
        wait_until(lambda: len(client.states) > 1, "the connection broke")
        sent = [record(at=1000.0 + number, pair=f"p{number}") for number in range(MAX_WAITING + 3)]
        for each in sent:
            one.put(each)
        wait_until(lambda: heard.waiting == (MAX_WAITING, 3), "they wait")
        assert heard.changes == sent
        own_server.start()
        wait_until(lambda: heard.waiting == (0, 3), "they are delivered", 20.0)
        assert written(client) == sent[3:]
    finally:
        client.end(close_session=False)


def test_an_answer_that_is_lost_makes_no_duplicates(own_server: ZooKeeperServer, pool: str, listen: Listen) -> None:
    """The server is stopped while it writes: what was written and not confirmed is written again under its name."""
    client = PoolClient(own_server, pool, timeout_s=2.0).start()
    try:
        client.store.apply(pool_request())
        one, heard = listen(client)
        own_server.pause()
        sent = [record(at=1000.0 + number) for number in range(10)]
        for each in sent:
            one.put(each)
        wait_until(lambda: len(heard.changes) == 10, "they are told")
        time.sleep(2.5)  # longer than the answers are waited for
        own_server.resume()
        wait_until(lambda: heard.waiting == (0, 0), "they are delivered", 20.0)
        assert written(client) == sent
    finally:
        client.end(close_session=False)


# ---- whose doing it was ----------------------------------------------------------------------------------------------


def test_a_switchover_has_a_name_to_it(
    operator: PoolClient,
    connect: Connect,
    listen: Listen,
    cli: Cli,
) -> None:
    """The intent names the epoch that it makes; another epoch's is somebody else's."""
    operator.presence.contend("s1", "p1", "node-a")
    wait_until(lambda: operator.nodes_of() == ["node-a"], "the first stands")
    operator.presence.contend("s1", "p1", "node-b")
    wait_until(lambda: operator.nodes_of() == ["node-a", "node-b"], "both stand")
    out = cli.ok("pair", "switchover", "s1", "p1", "--no-wait", "--reason", "new kernel")
    assert out == "s1/p1: node-a -> node-b\n"
    wait_until(lambda: operator.elected() == "node-b", "it is elected")
    epoch = operator.mirror.snapshot.elections["s1/p1"][0].epoch
    one, _ = listen(operator)
    one.put(record(reason="election", kind="switchover", epoch=epoch))
    one.put(record(reason="election", kind="switchover", epoch=epoch + 1, at=2000.0))
    wait_until(lambda: len(written(operator)) == 2, "both are written")
    asked, other = written(operator)
    assert (asked.kind, asked.reason, asked.note, other.reason, other.who) == (
        *("switchover", "switchover", "new kernel"),
        *("election", ""),
    )
    assert "@" in asked.who
    cli.ok("pair", "switchover", "s1", "p1", "--no-wait")
    assert json.loads(operator.get("subnets/s1/pairs/p1/switchover"))["note"] == ""


@pytest.mark.parametrize("data", [b"", b"{", b'{"v":1}', b"[]"])
def test_a_bad_intent_is_none(operator: PoolClient, data: bytes) -> None:
    """The change is recorded all the same."""
    operator.make("subnets/s1/pairs/p1/switchover", data)
    assert PoolHistory(operator.session).intent("s1", "p1") is None


@pytest.mark.parametrize(("last", "is_news"), [("node-a", True), ("node-b", False), (None, False)])
def test_a_daemon_that_finds_itself_master(
    operator: PoolClient,
    listen: Listen,
    last: str | None,
    is_news: bool,  # noqa: FBT001
) -> None:
    """A plain restart is no change of master; a takeover without a daemon is one, that nobody saw."""
    before = record(to=last, phases={"blackout": 0.2}) if last else None
    if before is not None:
        PoolHistory(operator.session).write([before])
    PoolHistory(operator.session).write([record(at=1500.0, pair="p2", to="node-c")])
    one, heard = listen(operator)
    one.put(record(at=2000.0, reason="unseen"))
    one.put(record(at=3000.0, pair="p3"))
    wait_until(lambda: any(found.pair == "p3" for found in written(operator)), "both were looked at")
    reasons = [found.reason for found in written(operator) if found.pair == "p1" and found.at > 1999]
    assert reasons == (["unseen"] if is_news else [])
    assert [found.reason for found in heard.changes if found.pair == "p1"] == reasons
    if last == "node-b":
        # So that `status` goes on to say why it is master.
        assert before in heard.told


def test_a_takeover_that_nobody_saw_is_told_when_zookeeper_is_back(
    own_server: ZooKeeperServer, pool: str, listen: Listen
) -> None:
    """Until then nobody can say whether it is one."""
    client = PoolClient(own_server, pool).start()
    try:
        client.store.apply(pool_request())
        PoolHistory(client.session).write([record(to="node-a")])
        one, heard = listen(client)
        own_server.stop()
        wait_until(lambda: len(client.states) > 1, "the connection broke")
        one.put(record(at=2000.0, reason="unseen"))
        wait_until(lambda: heard.waiting == (1, 0), "it waits")
        assert heard.changes == []
        own_server.start()
        wait_until(lambda: [found.reason for found in written(client)] == ["silent", "unseen"], "it is written", 20.0)
    finally:
        client.end(close_session=False)


# ---- who reads it ----------------------------------------------------------------------------------------------------


def test_history_shows_what_is_asked_for(operator: PoolClient, cli: Cli) -> None:
    """The newest last; of the pool, a subnet, a pair; so many, so old. A pair that was removed has a history too."""
    now = time.time()
    log = PoolHistory(operator.session)
    log.write([record(at=now - age, pair=pair) for age, pair in ((7200, "p1"), (60, "gone"), (30, "p1"))])

    def pairs(*words: str) -> list[str]:
        document = json.loads(cli.ok("history", *words, "-o", "json"))
        assert (document["apiVersion"], document["kind"]) == ("proxypool/v1", "RecordList")
        return [item["pair"] for item in document["items"]]

    assert pairs() == ["p1", "gone", "p1"]
    assert pairs("--since", "1h") == ["gone", "p1"]
    assert pairs("--limit", "1") == ["p1"]
    assert pairs("s1/gone") == ["gone"]
    assert pairs("s1") == ["p1", "gone", "p1"]
    table = cli.ok("history", "s1/p1", "--since", "1h").splitlines()
    assert table[0].split() == ["TIME", "PAIR", "KIND", "FROM", "TO", "REASON", "DETECT", "BLACKOUT"]
    assert table[1].split()[2:] == ["s1/p1", "failover", "node-a", "node-b", "silent", "-", "-"]
    assert "WHO" in cli.ok("history", "-o", "wide")


def test_history_with_nothing_in_it(operator: PoolClient, cli: Cli) -> None:
    """Nothing happened is an answer; nothing of that name is none."""
    assert cli.ok("history").splitlines()[1:] == []
    assert cli.ok("history", "s1/p1").splitlines()[1:] == []
    assert "did you mean s1?" in cli("history", "s2").err
    assert "did you mean p1?" in cli("history", "s1/p2").err
    for words, message in ((("--limit", "0"), "give 1 or more"), (("--since", "soon"), "something like 90s")):
        done = cli("history", *words)
        assert (done.code, done.out) == (1, "")
        assert message in done.err


def test_a_malformed_record_does_not_break_history(operator: PoolClient, cli: Cli) -> None:
    """It is left out, and said so."""
    PoolHistory(operator.session).write([record(at=1000.0), record(at=2000.0)])
    operator.put(f"history/{name_of(record(at=1000.0)).text}", b'{"kind": 1}')
    operator.make("history/strange", b"{}")
    done = cli("history")
    assert done.code == 0
    assert len(done.out.splitlines()) == 2
    assert name_of(record(at=1000.0)).text in done.err
    assert "cannot be read" in done.err


def test_watching_shows_it_again_when_it_grows(operator: PoolClient, cli: Cli) -> None:
    """As JSON, one document per line, until Ctrl-C."""
    log = PoolHistory(operator.session)
    log.write([record()])
    process = cli.start("history", "-w", "-o", "json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    log.write([record(at=2000.0)])
    second = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")
    assert [len(found["items"]) for found in (first, second)] == [1, 2]
