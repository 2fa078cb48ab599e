"""Overview: is anybody hurt, which subnet, how much goes through, and are the daemons well."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Panel

from grafana.dashboards.frame import FAILOVER, OVERVIEW, SCALING, dashboard
from grafana.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    Look,
    Query,
    dashboard_link,
    lines,
    number,
    page,
    runbook,
    states,
)
from grafana.dashboards.promql import BY_PAIR, PAIR, POOL, SUBNET, masters, number_of, rise, total_rise
from grafana.dashboards.tables import Column, rows
from proxypool.core.history import Kind

TO_FAILOVER = dashboard_link("Failover", FAILOVER)
TO_SCALING = dashboard_link("Scaling", SCALING)
WELL = {0: ("no", RED), 1: ("yes", GREEN)}


def build() -> Dashboard:
    """All of it."""
    return dashboard(
        "proxypool: overview",
        OVERVIEW,
        "Whether the pool is well; where to look if it is not.",
        [
            ("Is anybody hurt?", _now()),
            ("Alerts and subnets", _subnets()),
            ("Traffic", _traffic()),
            ("Daemons", _daemons()),
        ],
    )


def _now() -> list[Builder[Panel]]:
    return [
        number(
            "Pairs served",
            "They have exactly one master.",
            number_of(f"{masters()} == 1"),
            steps=((None, RED), (1.0, GREEN)),
            links=[TO_FAILOVER],
        ),
        number(
            "Not served",
            "No master, or two. A pair of which no member answers Prometheus is not counted.",
            number_of(f"{masters()} != 1"),
            links=[runbook("NoMaster")],
        ),
        number(
            "No fit backup",
            "The next failure would be an outage.",
            number_of(f"sum {BY_PAIR} (proxypool_member_fit{{{PAIR}}}) < 2"),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[runbook("NoBackup")],
        ),
        number(
            "Daemons down",
            "Prometheus does not reach their metrics.",
            number_of(f'up{{{POOL}, role=~"node|host|controller"}} == 0'),
            links=[runbook("DaemonDown")],
        ),
        number(
            "No ZooKeeper",
            "Daemons whose session is not connected. Traffic goes on.",
            number_of(f"proxypool_zookeeper_connected{{{POOL}}} == 0"),
            links=[runbook("ZookeeperLost")],
        ),
        number(
            "Failovers",
            "In this time range.",
            total_rise(f'proxypool_failovers_total{{{PAIR}, kind="{Kind.FAILOVER.value}"}}'),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[TO_FAILOVER],
        ),
        number(
            "Short of pairs",
            "Fewer pairs are ready than wanted.",
            number_of(
                f"max by (subnet) (proxypool_scaling_pairs_ready{{{SUBNET}}})"
                f" < max by (subnet) (proxypool_scaling_pairs_wanted{{{SUBNET}}})"
            ),
            steps=((None, GREEN), (1.0, ORANGE)),
            links=[TO_SCALING],
        ),
        number(
            "Leaders",
            "Must be 1, where there is a controller. Traffic does not depend on it.",
            f"sum(proxypool_controller_leader{{{POOL}}})",
            steps=((None, RED), (1.0, GREEN), (2.0, RED)),
            links=[TO_SCALING, runbook("NoControllerLeads")],
        ),
    ]


def _subnets() -> list[Builder[Panel]]:
    by = "by (subnet)"
    firing = f'ALERTS{{{POOL}, alertstate="firing"}}'
    subnet = Column(
        title="Subnet",
        links=[
            dashboard_link("Its failovers", FAILOVER, "&var-subnet=${__value.text}"),
            dashboard_link("Its size", SCALING, "&var-subnet=${__value.text}"),
        ],
    )
    received = f"sum {by} (rate(proxypool_tunnel_receive_bytes_total{{{SUBNET}}}[$__rate_interval]))"
    sent = f"sum {by} (rate(proxypool_tunnel_transmit_bytes_total{{{SUBNET}}}[$__rate_interval]))"
    failovers = rise(f'proxypool_failovers_total{{{SUBNET}, kind="{Kind.FAILOVER.value}"}}', "$__range")
    full = f"max {by} (proxypool_conntrack_entries{{{SUBNET}}} / proxypool_conntrack_limit_entries{{{SUBNET}}})"
    return [
        rows(
            "Alerts that fire",
            "Of the rules in prometheus/. A click on the name opens its runbook.",
            {
                "alertname": Column(title="Alert", links=[page("Runbook", "runbooks/alerts/${__value.text}/")]),
                "severity": Column(title="Severity", width=90),
                "subnet": Column(title="Subnet", width=90),
                "pair": Column(title="Pair", width=90),
                "node": Column(title="Node", width=90),
            },
            [
                (
                    f"max by (alertname, severity, subnet, pair, node) ({firing})",
                    Column(title="Firing", width=70),
                )
            ],
            width=10,
            empty="No alert fires",
        ),
        rows(
            "Subnets",
            "Now; failovers of this time range. The table's fullest member.",
            {"subnet": subnet},
            [
                (f"count {by} ({masters()} == 1)", Column(title="Pairs served", width=110)),
                (
                    f"count {by} ({masters()} != 1) or 0 * count {by} ({masters()})",
                    Column(title="Not served", width=100, steps=((None, GREEN), (1.0, RED))),
                ),
                (f"sum {by} ({failovers}) or 0 * count {by} ({masters()})", Column(title="Failovers", width=95)),
                (received, Column(title="From hosts", unit="Bps", width=120)),
                (sent, Column(title="To hosts", unit="Bps", width=120)),
                (
                    full,
                    Column(
                        title="Table",
                        unit="percentunit",
                        decimals=1,
                        width=90,
                        steps=((None, GREEN), (0.85, ORANGE), (0.95, RED)),
                    ),
                ),
            ],
            width=14,
            sort="From hosts",
        ),
    ]


def _traffic() -> list[Builder[Panel]]:
    def top(expr: str) -> list[Query]:
        return [Query(f"topk(10, sum by (subnet) (rate({expr}{{{SUBNET}}}[$__rate_interval])))", "{{subnet}}")]

    look = Look(unit="Bps", width=6)
    return [
        lines(
            "From hosts",
            "The ten busiest subnets.",
            top("proxypool_tunnel_receive_bytes_total"),
            look,
            links=[TO_SCALING],
        ),
        lines(
            "To hosts",
            "The ten busiest subnets.",
            top("proxypool_tunnel_transmit_bytes_total"),
            look,
            links=[TO_SCALING],
        ),
        lines(
            "New connections",
            "The ten busiest subnets.",
            top("proxypool_new_connections_total"),
            Look(unit="cps", width=6),
            links=[TO_SCALING],
        ),
        lines(
            "Blocked packets",
            "That nobody may send, by reason; see docs/isolation.md.",
            [
                Query(
                    f"sum by (reason) (rate(proxypool_blocked_packets_total{{{POOL}}}[$__rate_interval]))", "{{reason}}"
                )
            ],
            Look(unit="pps", width=6),
            links=[runbook("BlockedPackets")],
        ),
    ]


def _daemons() -> list[Builder[Panel]]:
    lost = f"max by (node, role) (proxypool_zookeeper_silence_seconds{{{POOL}}})"
    keepalived = f"proxypool_keepalived_up{{{POOL}}} * proxypool_keepalived_config_valid{{{POOL}}}"
    attached = f"rate(proxypool_attach_duration_seconds_bucket{{{POOL}}}[$__rate_interval])"
    attach = f"histogram_quantile(%s, sum by (le) ({attached}))"
    return [
        states(
            "Answers Prometheus",
            "no: the daemon, its machine or the way to it is down.",
            Query(f'up{{{POOL}, role=~"node|host|controller"}}', "{{node}} ({{role}})"),
            WELL,
        ),
        states(
            "keepalived",
            "no: it does not run, or did not accept its configuration.",
            Query(keepalived, "{{node}}"),
            WELL,
            links=[runbook("KeepalivedDown")],
        ),
        lines(
            "Silence of ZooKeeper",
            "Time since it last answered.",
            [Query(lost, "{{node}} ({{role}})")],
            Look(unit="s", width=8),
            links=[runbook("ZookeeperLost")],
        ),
        lines(
            "Put right, and failed",
            "In each interval: what others had changed and was put right; rounds that failed.",
            [
                Query(
                    total_rise(f"proxypool_drift_repairs_total{{{POOL}}}", "$__interval", "node"),
                    "repairs {{node}}",
                ),
                Query(
                    total_rise(f"proxypool_reconcile_errors_total{{{POOL}}}", "$__interval", "node"),
                    "errors {{node}}",
                ),
            ],
            Look(unit="none", bars=True, decimals=0, width=8),
            links=[runbook("ReconcileFailing")],
        ),
        lines(
            "HaVips as hosts see them",
            "Silent: answered once and does not now. Dead: no living member, or no pair.",
            [
                Query(f"sum(proxypool_host_havips_silent{{{POOL}}})", "silent"),
                Query(f"sum(proxypool_host_havips_dead{{{POOL}}})", "dead"),
            ],
            Look(unit="none", steps=True, decimals=0, width=8),
            links=[runbook("HavipSilent"), runbook("PairsDead")],
        ),
        lines(
            "Attachments",
            "Of instances to subnets, on all hosts.",
            [Query(f"sum by (node) (proxypool_host_attachments{{{POOL}}})", "{{node}}")],
            Look(unit="short", stacked=True, fill=20, width=8),
        ),
        lines(
            "Time to attach an instance",
            "Half of the requests, and 99 %.",
            [Query(attach % 0.5, "50 %"), Query(attach % 0.99, "99 %")],
            Look(unit="s", width=8),
            links=[runbook("AttachFailing")],
        ),
        lines(
            "Memory of the daemons",
            "Resident.",
            [Query(f'process_resident_memory_bytes{{{POOL}, role=~"node|host|controller"}}', "{{node}} ({{role}})")],
            Look(unit="bytes", width=8),
        ),
    ]
