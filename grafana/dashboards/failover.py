"""Failovers: who is master, what changed, how long it took, why, and what leads to the next one."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.dashboards.frame import FAILOVER, OVERVIEW, dashboard
from grafana.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    NEUTRAL,
    ORANGE,
    RED,
    YELLOW,
    Look,
    Query,
    dashboard_link,
    durations,
    lines,
    number,
    page,
    runbook,
    states,
)
from grafana.dashboards.promql import (
    BY_PAIR,
    MEMBER,
    PAIR,
    ROLES,
    masters,
    number_of,
    quantile,
    rise,
    role_number,
    total_rise,
)
from grafana.dashboards.tables import Column, rows
from proxypool.core.history import Kind, Phase
from proxypool.core.role import Role

HISTORY = page("What reasons and phases mean", "history/")
FAILOVERS = f"proxypool_failovers_total{{{MEMBER}}}"
BUCKETS = 'proxypool_failover_phase_duration_seconds_bucket{pool=~"$pool", node=~"$node", phase="%s"}'
ROLE_COLOURS = {Role.INIT: YELLOW, Role.FAULT: RED, Role.BACKUP: BLUE, Role.MASTER: GREEN}
SLOW_S = 0.3
"""A blackout that people may notice."""
PHASES = {
    Phase.DETECTION: "Last advertisement of the old master to the claim of the HaVip.",
    Phase.GATE: "Claim to open gate: what the daemon adds.",
    Phase.BLACKOUT: "Last sign of the old master to open gate: at most so long nobody served.",
    Phase.ELECTION: "Claim until the election confirms it. Packets do not wait for it.",
}
WELL = {0: ("no", RED), 1: ("yes", GREEN)}


def build() -> Dashboard:
    """All of it."""
    return dashboard(
        "proxypool: failover",
        FAILOVER,
        "Who is master, since when, and what the last changes of master cost.",
        [
            ("Now, and in this time range", _now()),
            ("Who is master", _who()),
            ("How long it took", _long()),
            ("Why", _why()),
            ("What leads to the next one", _next()),
        ],
    )


def _now() -> list[Builder[Panel]]:
    last = f"max(proxypool_failover_last_timestamp_seconds{{{MEMBER}}})"
    return [
        number(
            "No master",
            "Pairs: nobody forwards their packets. A pair of which no member answers Prometheus is not counted.",
            number_of(f"{masters()} == 0"),
            links=[runbook("NoMaster")],
        ),
        number(
            "Two masters",
            "Pairs: both members are VRRP masters: they do not hear each other.",
            number_of(f"{masters()} > 1"),
            links=[runbook("SplitBrain")],
        ),
        number(
            "No fit backup",
            "Pairs: the next failure would be an outage, as fewer than two members answer and are fit.",
            number_of(f"sum {BY_PAIR} (proxypool_member_fit{{{PAIR}}}) < 2"),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[runbook("NoBackup")],
        ),
        number(
            "Failovers",
            "In this time range: the old master was gone, or could not serve.",
            total_rise(f'proxypool_failovers_total{{{MEMBER}, kind="{Kind.FAILOVER.value}"}}'),
            steps=((None, GREEN), (1.0, ORANGE)),
        ),
        number(
            "Switchovers",
            "In this time range: the old master lived and handed over.",
            total_rise(f'proxypool_failovers_total{{{MEMBER}, kind="{Kind.SWITCHOVER.value}"}}'),
            steps=NEUTRAL,
        ),
        number(
            "Blackout, max",
            "In this time range, as the new masters know it, at most; of changes that Prometheus saw as a pair's last.",
            f"max(max_over_time(proxypool_failover_last_blackout_seconds{{{MEMBER}}}[$__range]))",
            unit="s",
            steps=((None, GREEN), (SLOW_S, ORANGE), (1.0, RED)),
        ),
        number(
            "Blackout, 99 %",
            "Of the failovers in this time range; from a histogram, so as exact as its buckets.",
            quantile(0.99, BUCKETS % Phase.BLACKOUT.value, "$__range"),
            unit="s",
            steps=((None, GREEN), (SLOW_S, ORANGE), (1.0, RED)),
        ),
        number("Last change", "Of any master.", f"time() - {last}", unit="s", steps=NEUTRAL),
    ]


def _who() -> list[Builder[Panel]]:
    roles = states(
        "Role of every member",
        "As the daemons tell it. A gap: the node did not answer. One master and one backup a pair is as it should be.",
        Query(role_number(), "{{subnet}}/{{pair}} {{node}}"),
        {value: (role.value, ROLE_COLOURS[role]) for value, role in ROLES.items()},
        width=24,
        links=[page("Roles", "role-machine/"), dashboard_link("Overview", OVERVIEW)],
        data_links=[
            dashboard_link(
                "This pair alone",
                FAILOVER,
                "&var-subnet=${__field.labels.subnet}&var-pair=${__field.labels.pair}",
            )
        ],
    )
    return [
        roles.height(10),
        lines(
            "Masters of each pair",
            "Must be 1. 0: nobody serves the pair. 2: two masters.",
            [Query(masters(), "{{subnet}}/{{pair}}")],
            Look(unit="none", steps=True, most=2, decimals=0, limit=2),
            links=[runbook("SplitBrain")],
        ),
        lines(
            "Gate or HaVip other than the role",
            "1: the gate is open, or the HaVip is there, on a member that is no master; or one of them is missing on"
            " a master. For a moment in a change of master; longer it is a fault.",
            [
                Query(
                    f"max {BY_PAIR} (abs(proxypool_member_{name}{{{MEMBER}}} - proxypool_member_master{{{MEMBER}}}))",
                    f"{what} {{{{subnet}}}}/{{{{pair}}}}",
                )
                for name, what in (("gate_open", "gate"), ("has_havip", "HaVip"))
            ],
            Look(unit="none", steps=True, most=1, decimals=0),
            links=[runbook("HavipMismatch")],
        ),
    ]


def _long() -> list[Builder[Panel]]:
    heatmaps: list[Builder[Panel]] = [
        durations(
            phase.value.capitalize(),
            f"{about} Each cell: how many changes of master took so long; all kinds, all pairs of the nodes chosen.",
            f"sum by (le) ({rise(BUCKETS % phase.value, '$__interval')})",
            links=[HISTORY],
        )
        for phase, about in PHASES.items()
    ]
    return [
        *heatmaps,
        lines(
            "Blackout of each pair's last change",
            "Stays until the next one. At most: the old master may have served after its last sign.",
            [Query(f"proxypool_failover_last_blackout_seconds{{{MEMBER}}}", "{{subnet}}/{{pair}} to {{node}}")],
            Look(unit="s", steps=True, limit=SLOW_S),
            links=[runbook("SlowFailover")],
        ),
        lines(
            "Connections carried over",
            "Entries in the new master's connection table at the claim; 0 without an egress address.",
            [Query(f"proxypool_failover_carried_connections{{{MEMBER}}}", "{{subnet}}/{{pair}} to {{node}}")],
            Look(unit="short", steps=True),
            links=[page("How they survive", "state-sync/")],
        ),
    ]


def _why() -> list[Builder[Panel]]:
    newest = f"max {BY_PAIR} (proxypool_failover_last_timestamp_seconds{{{PAIR}}})"
    is_newest = (
        f"on (node, subnet, pair) (proxypool_failover_last_timestamp_seconds{{{MEMBER}}}"
        f" == on (subnet, pair) group_left () {newest})"
    )
    by = "by (subnet, pair, node)"
    only_pair = [
        dashboard_link(
            "This pair alone", FAILOVER, "&var-subnet=${__data.fields.Subnet}&var-pair=${__data.fields.Pair}"
        )
    ]
    return [
        lines(
            "Changes of master",
            "How many in each interval, by kind and reason.",
            [Query(total_rise(FAILOVERS, "$__interval", "kind, reason"), "{{kind}}: {{reason}}")],
            Look(unit="none", bars=True, decimals=0),
            links=[HISTORY, runbook("Flapping")],
        ),
        rows(
            "Last change of each pair",
            "By the newest record of its members. `proxypool history` has all of them, with who asked for it.",
            {
                "subnet": Column(title="Subnet", width=80),
                "pair": Column(title="Pair", links=only_pair),
                "node": Column(title="New master", width=100),
            },
            [
                (
                    f"max {by} (proxypool_failover_last_timestamp_seconds{{{MEMBER}}} * 1000 and {is_newest})",
                    Column(title="When", unit="dateTimeAsIso", width=170),
                ),
                (
                    f"max {by} (proxypool_failover_last_blackout_seconds{{{MEMBER}}} and {is_newest})",
                    Column(title="Blackout", unit="s", width=90, steps=((None, GREEN), (SLOW_S, ORANGE), (1.0, RED))),
                ),
                (
                    f"max {by} (proxypool_failover_carried_connections{{{MEMBER}}} and {is_newest})",
                    Column(title="Carried over", unit="short", width=105),
                ),
            ],
            width=12,
            sort="When",
        ).links([HISTORY]),
    ]


def _next() -> list[Builder[Panel]]:
    where = "{{subnet}}/{{pair}} {{node}}"
    held = {0: ("no", GREY), 1: ("damped", YELLOW), 2: ("paused", BLUE), 3: ("draining", ORANGE)}
    holds = (
        f"max by (subnet, pair, node) (proxypool_member_damped{{{MEMBER}}}"
        f" or proxypool_pair_paused{{{MEMBER}}} * 2 or proxypool_pair_draining{{{MEMBER}}} * 3)"
    )
    return [
        states(
            "Fit to serve",
            "no: something of the member's data path is not as it must be. `proxypool status` says what.",
            Query(f"proxypool_member_fit{{{MEMBER}}}", where),
            WELL,
            links=[page("Reasons", "failover/#health"), runbook("MemberUnfit")],
        ),
        states(
            "Held back",
            "damped: well, but it was unfit lately. paused: health and election move nothing. draining: no new"
            " connections.",
            Query(holds, where),
            held,
            links=[page("Damping", "failover/#health")],
        ),
        lines(
            "Probe through the ENI",
            "Round trip to the probe's target. A line that ends: no answer.",
            [Query(f"proxypool_egress_probe_rtt_seconds{{{MEMBER}}}", where)],
            Look(unit="s", empty="No probe was answered"),
            links=[runbook("EgressProbeSilent")],
        ),
        lines(
            "Connections the other member knows",
            "How many this member tells the other one of; those of a master survive its loss.",
            [Query(f"proxypool_state_sync_entries{{{MEMBER}}}", where)],
            Look(unit="short"),
            links=[page("State sync", "state-sync/")],
        ),
        states(
            "State sync",
            "no: conntrackd does not run, or does not hear the other member's. A failover would lose connections.",
            Query(f"proxypool_state_sync_up{{{MEMBER}}}", where),
            WELL,
            links=[page("State sync", "state-sync/"), runbook("StateSyncDown")],
        ),
        lines(
            "Not as it should be",
            "Restarts of conntrackd, messages that had to be asked for again, reloads of keepalived, records of the"
            " history that were given up: how many in each interval.",
            [
                Query(
                    f"sum({rise(f'proxypool_state_sync_restarts_total{{{MEMBER}}}', '$__interval')})",
                    "conntrackd restarts",
                ),
                Query(
                    f"sum({rise(f'proxypool_state_sync_messages_lost_total{{{MEMBER}}}', '$__interval')})",
                    "sync messages lost",
                ),
                Query(
                    "sum("
                    + rise('proxypool_keepalived_reloads_total{pool=~"$pool", node=~"$node"}', "$__interval")
                    + ")",
                    "keepalived reloads",
                ),
                Query(
                    "sum("
                    + rise('proxypool_history_dropped_records_total{pool=~"$pool", node=~"$node"}', "$__interval")
                    + ")",
                    "history records lost",
                ),
            ],
            Look(unit="none", bars=True, decimals=0),
        ),
    ]
