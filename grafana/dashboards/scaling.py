"""Scaling: how many pairs there are and why, what the controller does about it, and what pairs are short of."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.dashboards.frame import FAILOVER, SCALING, dashboard
from grafana.dashboards.panels import (
    BLUE,
    GREEN,
    GREY,
    NEUTRAL,
    ORANGE,
    RED,
    Look,
    Query,
    dashboard_link,
    dashed,
    fixed,
    lines,
    number,
    page,
    runbook,
    states,
)
from grafana.dashboards.promql import MEMBER, NODE, POOL, SUBNET, number_of, quantile, rise, total_rise
from grafana.dashboards.tables import Column, rows

ABOUT = page("How the pool grows and shrinks", "scaling/")
FULL = 0.95
"""`target` of the policy: how full the pairs may be with one of them lost."""


def _size(name: str) -> str:
    """Of each subnet; whoever leads exports it."""
    return f"max by (subnet) (proxypool_scaling_{name}{{{SUBNET}}})"


LOAD = f"max by (subnet) (proxypool_scaling_load_pairs{{{SUBNET}}})"


def build() -> Dashboard:
    """All of it."""
    return dashboard(
        "proxypool: scaling",
        SCALING,
        "How many pairs there are, why, and what the controller does.",
        [
            ("Now, and in this time range", _now()),
            ("Size and load", _size_and_load()),
            ("Steps, of the whole pool", _steps()),
            ("The controller", _controller()),
            ("What pairs use", _use()),
        ],
    )


def _now() -> list[Builder[Panel]]:
    age = f"clamp_min(time() - max(proxypool_controller_last_evaluation_timestamp_seconds{{{POOL}}}), 0)"
    failed = f'proxypool_controller_actions_total{{{POOL}, result="failed"}}'
    errors = f'proxypool_provider_calls_total{{{POOL}, result!="ok"}}'
    return [
        number(
            "Pairs ready",
            "Of the subnets chosen: they take new connections.",
            f"sum({_size('pairs_ready')})",
            steps=NEUTRAL,
            links=[ABOUT],
        ),
        number(
            "Pairs missing",
            "Wanted and not there yet.",
            f"sum(clamp_min({_size('pairs_wanted')} - {_size('pairs_ready')}, 0))",
            steps=((None, GREEN), (1.0, ORANGE)),
        ),
        number(
            "Blocked",
            "An action that is needed cannot begin or go on: `proxypool explain`.",
            number_of(f"{_size('blocked')} == 1"),
            links=[runbook("ScalingBlocked")],
        ),
        number(
            "At their most",
            "As many pairs as may be, and wanted.",
            number_of(f"{_size('pairs_wanted')} >= {_size('pairs_max')}"),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[runbook("AutoscalerAtMax")],
        ),
        number(
            "Under way",
            "Pairs that are being added, drained or replaced.",
            f"sum(proxypool_controller_actions_under_way{{{POOL}}})",
            steps=NEUTRAL,
        ),
        number("Failed", "In this time range, of the whole pool.", total_rise(failed)),
        number(
            "Provider's errors",
            "Calls that did not end well in this time range.",
            total_rise(errors),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[runbook("ProviderErrors")],
        ),
        number(
            "Last look",
            "How long ago the leader last looked at the whole pool; a round is every 2 s.",
            age,
            unit="s",
            steps=((None, GREEN), (30.0, ORANGE), (60.0, RED)),
            links=[runbook("AutoscalerStale")],
        ),
    ]


def _size_and_load() -> list[Builder[Panel]]:
    look = Look(
        unit="none",
        fill=10,
        styles={
            "ready": {**fixed(GREEN), "custom.lineWidth": 2, "custom.lineInterpolation": "stepAfter"},
            "wanted": {**fixed(BLUE), "custom.lineInterpolation": "stepAfter", "custom.fillOpacity": 0},
            "load": {**fixed(ORANGE), "custom.fillOpacity": 25},
            "least": dashed(GREY),
            "most": dashed(RED),
        },
    )
    return [
        lines(
            "Pairs, and the load in pairs",
            "Sum of the subnets chosen. The load of a subnet is that of its largest signal; with one pair in reserve"
            " it must stay below ready less one.",
            [
                Query(f"sum({_size('pairs_ready')})", "ready"),
                Query(f"sum({_size('pairs_wanted')})", "wanted"),
                Query(f"sum({LOAD})", "load"),
                Query(f"sum({_size('pairs_min')})", "least"),
                Query(f"sum({_size('pairs_max')})", "most"),
            ],
            look,
            links=[ABOUT],
        ),
        lines(
            "How full with one pair lost",
            "Load / (ready - 1). Above the line a lost pair would be felt; the controller adds pairs before.",
            [Query(f"{LOAD} / ({_size('pairs_ready')} - 1 > 0)", "{{subnet}}")],
            Look(unit="percentunit", limit=FULL),
            links=[page("Policy", "scaling/#policy")],
        ),
        lines(
            "Load by signal",
            "In pairs: what one pair can carry is 1. The largest decides. A line that ends: not known.",
            [
                Query(
                    f"sum by (signal) (max by (subnet, signal) (proxypool_scaling_load_pairs{{{SUBNET}}}))",
                    "{{signal}}",
                )
            ],
            Look(unit="none", decimals=2),
        ),
        rows(
            "Subnets",
            "Now.",
            {
                "subnet": Column(
                    title="Subnet",
                    links=[
                        dashboard_link("This subnet alone", SCALING, "&var-subnet=${__value.text}"),
                        dashboard_link("Its failovers", FAILOVER, "&var-subnet=${__value.text}"),
                    ],
                )
            },
            [
                (_size("pairs_ready"), Column(title="Ready", width=85)),
                (_size("pairs_wanted"), Column(title="Wanted", width=85)),
                (_size("pairs_min"), Column(title="Least", width=85)),
                (_size("pairs_max"), Column(title="Most", width=85)),
                (LOAD, Column(title="Load", unit="none", width=85)),
                (_size("blocked"), Column(title="Blocked", width=90, steps=((None, GREEN), (1.0, RED)))),
            ],
            width=12,
            sort="Load",
        ),
    ]


def _steps() -> list[Builder[Panel]]:
    actions = f"proxypool_controller_actions_total{{{POOL}}}"
    decisions = f"proxypool_controller_decisions_total{{{POOL}}}"
    took = f"proxypool_controller_action_duration_seconds_bucket{{{POOL}}}"
    per_interval = Look(unit="none", bars=True, decimals=0, width=8)
    return [
        lines(
            "Decisions",
            "How often another number of pairs was asked for, by cause and direction.",
            [Query(total_rise(decisions, "$__interval", "cause, direction"), "{{direction}}: {{cause}}")],
            per_interval,
            links=[page("Policy", "scaling/#policy")],
        ),
        lines(
            "Actions that ended",
            "Pairs added, drained, replaced; failed ones apart.",
            [
                Query(
                    total_rise(actions, "$__interval", "kind, reason, result"),
                    "{{kind}} {{result}}: {{reason}}",
                )
            ],
            per_interval,
            links=[page("Actions", "scaling/#actions")],
        ),
        lines(
            "How long actions take",
            "Of those that ended within an hour: half of them, and 99 %. From a histogram, so as exact as its buckets.",
            [
                Query(quantile(0.5, took, "1h", "kind"), "{{kind}} 50 %"),
                Query(quantile(0.99, took, "1h", "kind"), "{{kind}} 99 %"),
            ],
            Look(unit="s", width=8),
        ),
    ]


def _controller() -> list[Builder[Panel]]:
    rounds = f"proxypool_controller_round_duration_seconds_bucket{{{POOL}}}"
    calls = f"proxypool_provider_calls_total{{{POOL}}}"
    return [
        states(
            "Who leads",
            "One of them, always. Traffic does not depend on it.",
            Query(f"proxypool_controller_leader{{{POOL}}}", "{{node}}"),
            {0: ("stands by", GREY), 1: ("leads", GREEN)},
            width=8,
        ),
        lines(
            "Length of a round",
            "One look at the whole pool.",
            [
                Query(f"histogram_quantile({share}, sum by (le) (rate({rounds}[$__rate_interval])))", name)
                for share, name in ((0.5, "50 %"), (0.99, "99 %"))
            ],
            Look(unit="s", width=8),
        ),
        lines(
            "Calls to the provider",
            "By call and how they ended.",
            [Query(total_rise(calls, "$__interval", "call, result"), "{{call}}: {{result}}")],
            Look(unit="none", bars=True, decimals=0, width=8),
            links=[page("Providers", "providers/")],
        ),
    ]


def _use() -> list[Builder[Panel]]:
    where = "{{subnet}}/{{pair}} {{node}}"
    is_master = f"(proxypool_member_master{{{MEMBER}}} == 1)"
    masters_only = f"and on (node, subnet, pair) {is_master}"

    def of_masters(series: str) -> str:
        return f"rate({series}{{{MEMBER}}}[$__rate_interval]) {masters_only}"

    traffic = "sum by (node) (rate(proxypool_tunnel_%s_bytes_total{" + NODE + "}[$__rate_interval]))"
    limit = f"on (node) group_left () max by (node) (proxypool_node_limit_bytes_per_second{{{NODE}}})"
    drops = ("conntrack_table_full", "conntrack_early_drops", "conntrack_insert_failures", "tunnel_dropped_packets")
    return [
        lines(
            "Traffic from hosts",
            "Through the tunnel, of each pair's master.",
            [Query(of_masters("proxypool_tunnel_receive_bytes_total"), where)],
            Look(unit="Bps", width=8),
        ),
        lines(
            "Traffic to hosts",
            "Through the tunnel, of each pair's master.",
            [Query(of_masters("proxypool_tunnel_transmit_bytes_total"), where)],
            Look(unit="Bps", width=8),
        ),
        lines(
            "New connections",
            "That were given a source by NAT, of each pair's master.",
            [Query(of_masters("proxypool_new_connections_total"), where)],
            Look(unit="cps", width=8),
        ),
        lines(
            "Connection table",
            "Entries / limit, of masters. Full: new connections are dropped.",
            [
                Query(
                    f"proxypool_conntrack_entries{{{MEMBER}}} / proxypool_conntrack_limit_entries{{{MEMBER}}}"
                    f" {masters_only}",
                    where,
                )
            ],
            Look(unit="percentunit", width=8, limit=0.85),
            links=[runbook("ConntrackHigh")],
        ),
        lines(
            "Ports to the busiest destination",
            "In use / there are, of masters. All in use: no new connection to that destination.",
            [
                Query(
                    f"proxypool_snat_ports{{{MEMBER}}} / proxypool_snat_ports_limit{{{MEMBER}}} {masters_only}",
                    where,
                )
            ],
            Look(unit="percentunit", width=8, limit=0.8),
            links=[runbook("PortsHigh")],
        ),
        lines(
            "Bandwidth of nodes",
            "The busier direction of all a node's pairs / what the node can carry.",
            [
                Query(
                    f"({traffic % 'receive'} > {traffic % 'transmit'} or {traffic % 'transmit'}) / {limit}",
                    "{{node}}",
                )
            ],
            Look(unit="percentunit", width=8, limit=0.8),
            links=[runbook("BandwidthHigh")],
        ),
        lines(
            "What was dropped",
            "Packets and connections in each interval, of all pairs chosen: a full table, no free port, a device.",
            [
                Query(f"sum({rise(f'proxypool_{name}_total{{{MEMBER}}}', '$__interval')})", name.replace("_", " "))
                for name in drops
            ],
            Look(unit="short", bars=True, width=24),
        ),
    ]
