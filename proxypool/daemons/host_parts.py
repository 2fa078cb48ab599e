"""What a host agent is made of, wired together. Nothing is started here, and nothing decided."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxypool.adapters import netlink
from proxypool.adapters.attachment_log import AttachmentLog
from proxypool.adapters.conntrack import Conntrack
from proxypool.adapters.netlink import Underlay
from proxypool.adapters.pool_cache import PoolCache
from proxypool.adapters.zookeeper import PoolMirror, PoolSession, Presence
from proxypool.core.config import HOST_METRICS, Config, HostConfig
from proxypool.core.host_firewall import ATTACHED_SET
from proxypool.core.role import Coordinator
from proxypool.core.steering import MarkLayout
from proxypool.daemons.attachments import Attachments
from proxypool.daemons.cutting import Cutter
from proxypool.daemons.dataplane import Dataplane
from proxypool.daemons.host_api import HostApi
from proxypool.daemons.host_registration import HostRegistration
from proxypool.daemons.host_report import HostReport
from proxypool.daemons.messages import (
    CoordinatorMoved,
    GroupsWanted,
    Message,
    SnapshotArrived,
    SubnetJoined,
)
from proxypool.daemons.open_cidrs import OpenCidrs
from proxypool.daemons.pair_watch import PairWatch
from proxypool.daemons.problems import Problems
from proxypool.daemons.registrar import Registrar
from proxypool.daemons.steerer import Steerer
from proxypool.telemetry.metrics import HostMetrics


@dataclass
class HostParts:
    """Of one agent."""

    name: str
    underlay: Underlay
    marks: MarkLayout
    open_cidrs: OpenCidrs
    session: PoolSession
    presence: Presence
    registration: HostRegistration
    mirror: PoolMirror
    cache: PoolCache
    dataplane: Dataplane
    attachments: Attachments
    registrar: Registrar
    pair_watch: PairWatch
    steerer: Steerer
    report: HostReport
    metrics: HostMetrics
    api: HostApi

    def start(self) -> None:
        """All threads but the local API's, which waits until the agent can answer."""
        self.dataplane.start()
        self.session.start()
        self.mirror.start()
        self.presence.start()
        self.registrar.start()
        self.pair_watch.start()

    def stop(self) -> None:
        """All of them. Kernel state, attachments and registration stay as they are."""
        self.pair_watch.stop()
        self.registrar.stop()
        self.dataplane.stop()
        self.mirror.stop()
        self.presence.stop()
        self.session.stop(close_session=False)
        self.attachments.close()


def compose(
    config: Config, host: HostConfig, name: str, underlay: Underlay, problems: Problems, post: Callable[[Message], None]
) -> HostParts:
    """The parts; what they have to say goes to `post`, from whatever thread."""
    run_dir, state_dir = Path(config.run_dir), Path(host.state_dir)
    session = PoolSession(
        config.zookeeper,
        config.pool,
        session_file=run_dir / "host.session",
        machine_key=state_dir / f"zookeeper-{config.pool}.key",
        identity=f"host:{name}",
        on_state=lambda state: post(CoordinatorMoved(state)),
    )
    presence = Presence(session)
    listen = config.metrics.listen or HOST_METRICS
    is_tls = config.metrics.tls_cert is not None
    registration = HostRegistration(session, presence, name, underlay.address, listen, is_tls=is_tls)
    marks = MarkLayout(host.mark_shift)
    kept = AttachmentLog(state_dir / f"attachments-{config.pool}.jsonl")
    attachments = Attachments(kept, marks, lambda: post(GroupsWanted()))
    attachments.use(netlink.MarkedSetHandle(ATTACHED_SET, marks.mask))
    cutter = Cutter(Conntrack(), marks)
    attachments.cut_with(cutter)
    registrar = Registrar(session, name, lambda subnet: post(SubnetJoined(subnet)))
    pair_watch = PairWatch(host.probe_interval_ms / 1000, post)
    dataplane = Dataplane(on_result=post)
    steerer = Steerer(
        served=host.subnets,
        attaches_all=host.attach_all,
        linger_s=host.linger_s,
        dataplane=dataplane,
        attachments=attachments,
        registrar=registrar,
        pair_watch=pair_watch,
        conntrack=Conntrack(),
        is_connected=lambda: session.state is Coordinator.CONNECTED,
    )
    report = HostReport(
        name, session, registration, steerer, attachments, registrar, pair_watch, cutter, problems, time.monotonic()
    )
    metrics = HostMetrics(report.view)
    return HostParts(
        name=name,
        underlay=underlay,
        marks=marks,
        open_cidrs=OpenCidrs(host.open_cidrs, host.ip_masq_agent),
        session=session,
        presence=presence,
        registration=registration,
        mirror=PoolMirror(session, lambda snapshot: post(SnapshotArrived(snapshot)), host=name),
        cache=PoolCache(state_dir / f"pool-{config.pool}.json", name),
        dataplane=dataplane,
        attachments=attachments,
        registrar=registrar,
        pair_watch=pair_watch,
        steerer=steerer,
        report=report,
        metrics=metrics,
        api=HostApi(attachments, report.status, metrics.attach_answered),
    )
