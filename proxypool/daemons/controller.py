"""The controller: of two or three of them one leads, and keeps the subnets at the size they need.

Composition root and main loop. Threads: this loop (looks, decides, writes), `leadership`, `pool-mirror` and the
ZooKeeper client's, `scraping` (asks the nodes what their pairs use), `provider-*` (calls to the provider),
`status-page` (reads what the page shows, while somebody looks), and those of the two ports. It needs nothing of the
machine it runs on, and traffic never waits for it.
"""

from __future__ import annotations

import gc
import logging
import queue
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from proxypool.adapters.zookeeper import Extent, PoolMirror, PoolSession
from proxypool.adapters.zookeeper.actions import ActionStore, Deposed
from proxypool.adapters.zookeeper.leadership import Leader, Leadership
from proxypool.core.config import CONTROLLER_METRICS, CONTROLLER_WEB, Config, ControllerConfig
from proxypool.core.discovery import Daemon
from proxypool.core.documents import DocumentTooNew
from proxypool.core.errors import AccessDenied, InvalidInput, TransientError
from proxypool.core.model import NodeSpec, SubnetSpec
from proxypool.core.role import Coordinator
from proxypool.core.scaling.deaths import Deaths
from proxypool.core.scaling.documents import Key
from proxypool.core.scaling.freshness import Freshness, stale_after
from proxypool.core.scaling.signals import Signals
from proxypool.daemons.controller_messages import (
    HeldSeen,
    LeadMoved,
    LinkMoved,
    Message,
    NodesRead,
    PoolChanged,
    ProviderAnswered,
    TimePassed,
)
from proxypool.daemons.controller_report import Reporting
from proxypool.daemons.controller_rounds import Rounds
from proxypool.daemons.doors import metrics_server
from proxypool.daemons.mainloop import Reload, run_until_stopped, stop_on_signals
from proxypool.daemons.member_words import LOOKED_AT
from proxypool.daemons.port import Port
from proxypool.daemons.problems import Problems, silence_of
from proxypool.daemons.provider_calls import ProviderCalls
from proxypool.daemons.pulse import BEAT_S
from proxypool.daemons.reloading import Reloading
from proxypool.daemons.scraping import Scraping, source_interval_s, source_of
from proxypool.daemons.service import Service
from proxypool.daemons.shown_pool import ShownPool
from proxypool.daemons.status_site import StatusSite
from proxypool.daemons.sweeping import Sweeping
from proxypool.providers import registry
from proxypool.providers.contract import PoolView, Provider
from proxypool.providers.missing import MissingProvider
from proxypool.telemetry import logs
from proxypool.telemetry.controller_metrics import ControllerMetrics

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often what members publish is looked at while an action waits for it."""
PAUSE = 0.25
"""From one round to the next, at the least, in intervals."""
SETTLE_S = 0.05
"""And so soon after a change of the pool: changes come in bursts."""

COLLECT_AFTER = 10_000
"""New objects, instead of Python's 700. Of a large pool half a million objects stay, and to look through them for
garbage again and again took a third of the time in which they are read. With five times as many what a small pool's
rounds leave behind would be 10 MB in two hours before anybody looked.
"""


class ControllerDaemon:
    """Wires it all together and runs the loop."""

    def __init__(self, config: Config, controller: ControllerConfig, reread: Callable[[], Config]) -> None:
        """Nothing is started. `reread`: reads the configuration again."""
        self.config, self.controller = config, controller
        self.name = controller.name or socket.gethostname()
        self.inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.problems = Problems()
        self.started_at = time.monotonic()
        self.rounds: Rounds | None = None
        self.session = PoolSession(
            config.zookeeper,
            config.pool,
            identity=f"controller:{self.name}",
            on_state=lambda state: self.inbox.put(LinkMoved(state)),
        )
        self.mirror = PoolMirror(self.session, lambda _: self.inbox.put(PoolChanged()), extent=Extent.PLACING)
        self.leadership = Leadership(self.session, self.name, lambda leader: self.inbox.put(LeadMoved(leader)))
        self.store = ActionStore(self.session, self.mirror)
        self.reporting = Reporting(self.name, self.session, self.mirror, self.problems)
        self.metrics = ControllerMetrics(self.reporting.view)
        self.service = Service.of_this_process(Daemon.CONTROLLER, config.zookeeper.session_timeout_s)
        self.reloading = Reloading(Daemon.CONTROLLER, config, reread, self.problems, self.metrics, self.service)
        self.calls = ProviderCalls(
            self._make_provider(),
            self.inbox.put,
            self.metrics.called,
            controller.call_deadline_s,
        )
        self.sweeping = Sweeping(self.calls)
        self.scraping = Scraping(source_of(controller), self._nodes_to_read, self.inbox.put, controller.interval_s)
        listen = config.metrics.listen or CONTROLLER_METRICS
        serve = metrics_server(config.metrics, CONTROLLER_METRICS, self.metrics.registry)
        self.metrics_port = Port("metrics", self.problems, serve)
        self.site = self._make_site(listen)
        self._round_due = self._look_due = 0.0

    def run(self) -> int:
        """Run until SIGTERM or SIGINT. The lead is given up at the end; what is under way another one finishes."""
        stop_on_signals(self.inbox)
        self.session.start()
        self.mirror.start()
        self.leadership.start()
        self.calls.start()
        self.scraping.start()
        log.info("controller %s: started, provider %s", self.name, self.calls.provider)
        try:
            return run_until_stopped(self._next_message, self._dispatch)
        finally:
            log.info("controller %s: stopping; pairs go on as they are", self.name)
            self.service.stopping()
            self.site.close()
            self.metrics_port.close()
            self.scraping.stop()
            self.calls.stop()
            self.leadership.stop()
            self.mirror.stop()
            self.session.stop(close_session=True)

    def _make_site(self, metrics: str) -> StatusSite:
        shown = ShownPool(
            self.name, self.session, lambda: self.mirror.snapshot if self.mirror.loaded.is_set() else None, metrics
        )
        web = self.controller.web
        return StatusSite(shown, Daemon.CONTROLLER, self.name, self.config.pool, web, CONTROLLER_WEB, self.problems)

    def _make_provider(self) -> Provider:
        """Without it no pair comes, but all the rest goes on, and it is told why."""
        try:
            return registry.create(self.config.provider, self._pool_view)
        except InvalidInput as error:
            self.problems.note("provider", str(error))
            return MissingProvider(self.config.provider.name, str(error))

    # ---- what other threads ask ----------------------------------------------------------------------------------

    def _pool_view(self) -> PoolView:
        rounds = self.rounds
        return PoolView(
            spares=self.mirror.placing.spares,
            pairs=self.mirror.snapshot.pairs,
            actions=tuple(rounds.actions.values()) if rounds is not None else (),
        )

    def _nodes_to_read(self) -> Iterable[NodeSpec]:
        """Those with a member of a subnet that is scaled, and only for a leader."""
        if self.rounds is None:
            return ()
        snapshot = self.mirror.snapshot
        scaled = [pairs for name, pairs in snapshot.pairs.items() if _is_scaled(snapshot.subnets.get(name))]
        names = {member.node for pairs in scaled for pair in pairs.values() for member in pair.members}
        return tuple(snapshot.nodes[name] for name in sorted(names) if name in snapshot.nodes)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def _next_message(self) -> Message:
        rounds = self.rounds
        is_waiting = rounds is not None and any(action.step in LOOKED_AT for action in rounds.actions.values())
        due = min(self._round_due, self._look_due) if is_waiting else self._round_due
        while True:
            now = time.monotonic()
            self.metrics_port.look(now)
            self.site.look(now)
            self._tell_service(now)
            if now >= due:
                # However many messages there are.
                return TimePassed()
            with suppress(queue.Empty):
                return self.inbox.get(timeout=min(due - now, BEAT_S))

    def _tell_service(self, now: float) -> None:
        """It is ready once it leads or has seen who does."""
        if self.leadership.is_in_line:
            self.service.ready()
        self.service.say("; ".join((self._role(), *self.problems)))
        self.service.goes_round(now)

    def _role(self) -> str:
        if self.rounds is not None:
            return f"leads; {len(self.rounds.actions)} actions under way"
        if self.session.state is not Coordinator.CONNECTED:
            return "waiting for ZooKeeper"
        return "stands by; another one leads" if self.leadership.is_in_line else "standing for the lead"

    def _dispatch(self, message: Message) -> None:
        now = time.monotonic()
        try:
            self._handle(message, now)
        except Deposed as error:
            log.warning("%s", error)
            self.leadership.look()
        except (TransientError, AccessDenied) as error:
            # An administrator may change what we may do at any time.
            log.info("trying again: %s", error)

    def _handle(self, message: Message, now: float) -> None:
        match message:
            case LeadMoved(leader):
                self._lead(leader, now)
            case LinkMoved(state):
                log.info("ZooKeeper %s", state.value)
                if self.rounds is not None:
                    # Who was not seen while it was away may have lived.
                    self.rounds.deaths = Deaths()
            case NodesRead() if self.rounds is not None:
                self.problems.note("source", message.trouble)
                self.rounds.read(message.answers, now)
            case ProviderAnswered(action, answer):
                self.calls.done(action)
                if self.rounds is not None:
                    self.rounds.answered(action, answer)
                    self._take_on(now, action.key)
            case HeldSeen(held) if self.rounds is not None:
                rounds = self.rounds
                if rounds.look().malformed or rounds.malformed:
                    # What is not needed by what is known may be by what cannot be read.
                    return
                self.sweeping.saw(held, rounds.look().pairs, tuple(rounds.actions.values()), rounds.pool_now())
            case PoolChanged():
                self._look_due = min(self._look_due, now + SETTLE_S)
            case TimePassed():
                self._pass(now)
            case Reload():
                self.reloading.reload(self._use_configuration)
            case _:
                return

    def _use_configuration(self, config: Config) -> None:
        """What can be changed while we run: see `core.reloading`."""
        if config.controller is not None:
            self.config, self.controller = config, config.controller
            if self.rounds is not None:
                self.rounds.use(config.controller)

    def _lead(self, leader: Leader | None, now: float) -> None:
        self.rounds = None
        if leader is not None:
            interval_s = source_interval_s(self.controller)
            self.rounds = Rounds(
                leader=leader,
                config=self.controller,
                name=self.name,
                pool=self.config.pool,
                store=self.store,
                mirror=self.mirror,
                calls=self.calls,
                signals=Signals(stale_after(interval_s)),
                freshness=Freshness(interval_s),
                metrics=self.metrics,
            )
            self.sweeping.lead(now)
        self._round_due = now
        self.reporting.led_by(leader)

    def _pass(self, now: float) -> None:
        is_round = now >= self._round_due
        try:
            if is_round:
                self._round(now)
            else:
                self._take_on(now, *(self.rounds.actions if self.rounds is not None else ()))
        finally:
            # What has arrived meanwhile has its turn too, however long a round takes.
            after = time.monotonic()
            self._look_due = after + LOOK_S
            if is_round:
                interval_s = self.controller.interval_s
                self._round_due = max(now + interval_s, after + PAUSE * interval_s)

    def _take_on(self, now: float, *keys: Key) -> None:
        """Between two rounds; without ZooKeeper every write would wait in vain."""
        if self.rounds is not None and self.session.state is Coordinator.CONNECTED:
            for key in keys:
                self.rounds.advance(key, now)
            self.rounds.begin_waiting(now)

    def _round(self, now: float) -> None:
        hosts = self.config.zookeeper.hosts
        silence = silence_of(self.session, hosts, self.started_at, "pairs go on as they are, none comes or goes")
        self.problems.note("zookeeper", silence)
        self.metrics.loop.set_to_current_time()
        if self.rounds is None or self.session.state is not Coordinator.CONNECTED or not self.mirror.loaded.is_set():
            return
        self.rounds.round(now)
        self.sweeping.second_passed(self.rounds.pool_now(), now)
        round_s = time.monotonic() - now
        self.metrics.rounds.observe(round_s)
        report = self.reporting.report(self.rounds, tuple(self.problems), round_s, self.calls.provider)
        if report is not None:
            try:
                self.store.write_report(self.rounds.leader, report)
                self.problems.note("report", None)
            except DocumentTooNew as error:
                self.problems.note("report", str(error))


def _is_scaled(spec: SubnetSpec | None) -> bool:
    return spec is not None and spec.scaling is not None


def main(config: Config, reread: Callable[[], Config]) -> int:
    """Entry of `proxypool run controller`. `reread`: reads the configuration again.

    Raises:
        InvalidInput: the configuration has no [controller] section.
    """
    if config.controller is None:
        raise InvalidInput("the configuration has no [controller] section: add one; it may be empty")
    logs.configure(config.log)
    gc.set_threshold(COLLECT_AFTER, 10, 10)
    return ControllerDaemon(config, config.controller, reread).run()
