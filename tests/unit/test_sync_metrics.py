"""What a node exports of the state of connections that its members exchange."""

from __future__ import annotations

from proxypool.core.state_sync import SyncCounts
from proxypool.core.sync_supervision import End, SyncReport, SyncState
from proxypool.telemetry.sync_metrics import sync_families
from tests.unit.builders import pair

REPORT = SyncReport(
    SyncState.OK,
    counts=SyncCounts(entries=5, messages_sent=7, overruns=2, write_errors=3),
    restarts=(("died", 4),),
)


def samples(report: SyncReport) -> dict[tuple[str, str], float]:
    """Name and reason -> value."""
    return {
        (sample.name, sample.labels.get("reason", "")): sample.value
        for family in sync_families([(pair(), report)])
        for sample in family.samples
    }


def test_every_count_has_a_series() -> None:
    found = samples(REPORT)
    assert found["proxypool_state_sync_up", ""] == 1.0
    assert found["proxypool_state_sync_entries", ""] == 5.0
    assert found["proxypool_state_sync_messages_sent_total", ""] == 7.0
    assert found["proxypool_state_sync_event_overruns_total", ""] == 2.0
    assert found["proxypool_state_sync_write_errors_total", ""] == 3.0
    assert found["proxypool_state_sync_queue_drops_total", ""] == 0.0


def test_every_reason_of_a_restart_is_there_from_the_start() -> None:
    """A rate over a series that appears with its first event misses that one."""
    found = samples(REPORT)
    restarts = {
        reason: value for (name, reason), value in found.items() if name == "proxypool_state_sync_restarts_total"
    }
    assert restarts == {end.value: 4.0 if end is End.DIED else 0.0 for end in End}


def test_up_is_both_members_hearing_each_other() -> None:
    for state in SyncState:
        assert samples(SyncReport(state))["proxypool_state_sync_up", ""] == float(state is SyncState.OK)


def test_a_pair_without_an_egress_address_has_no_series() -> None:
    assert all(not family.samples for family in sync_families([]))
