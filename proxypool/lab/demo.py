"""The tour for newcomers: traffic flows, the master is powered off, traffic flows again. What happened is measured.

Owns the order of events and the document that says what happened; printing is the caller's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec import convert

from proxypool.lab import preflight
from proxypool.lab.application import Application
from proxypool.lab.documents import LabDemo
from proxypool.lab.drawing import draw
from proxypool.lab.errors import LabError
from proxypool.lab.faults import Fault
from proxypool.lab.lab import Lab, remove
from proxypool.lab.plans import SubnetPlan
from proxypool.lab.prober import Prober, finest_interval_ms
from proxypool.lab.processes import wait_until
from proxypool.lab.topology import REDIS_PORT, Topology

PROGRAMS = {**preflight.PROGRAMS, "redis-server": "redis-server", "redis-cli": "redis-tools"}
INSTANCE = "pod1"
HEALTHY, DEGRADED = 0, 3
"""Exit codes of `proxypool status --exit-code`."""
RECOVERY_TIMEOUT_S = 120.0
ANSWERS = 50
"""Of Redis to the application before and after the power-off."""


@dataclass
class Narrator:
    """Where the tour tells what it does."""

    progress: Callable[[str], None]
    """One line of what happens now."""
    show: Callable[[str], None]
    """A block for people: the drawing, a status, a result."""


@dataclass
class Tour:
    """One run of the demo."""

    lab: Lab
    narrator: Narrator
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def subnet(self) -> SubnetPlan:
        """The one subnet."""
        return self.lab.topology.subnet_plans[0]

    def traffic(self) -> None:
        """A value goes to the customer's Redis and comes back."""
        self.narrator.progress(f"{INSTANCE} talks to the customer's Redis at {self.subnet.database_ip}")
        stored = self._redis("SET", "greeting", "hello from an instance")
        fetched = self._redis("GET", "greeting")
        if fetched != "hello from an instance":
            raise LabError(f"Redis answered {fetched!r} to GET greeting")
        client = f"redis-cli -h {self.subnet.database_ip}"
        self.narrator.show(
            f"{INSTANCE}$ {client} SET greeting 'hello from an instance'\n{stored}\n"
            f"{INSTANCE}$ {client} GET greeting\n{fetched}"
        )
        self.document["traffic"] = {"set": stored, "get": fetched}

    def settling(self) -> None:
        """Traffic flows as soon as there is a master; there is something to lose to only with a backup."""
        self.narrator.progress("waiting until both members of the pair are ready")
        self._wait_status(HEALTHY)

    def overview(self, moment: str) -> None:
        """The product's own view."""
        holder = self._holder()
        if moment == "before":
            self.narrator.show(draw(self.lab.topology, self.subnet, holder))
        self.narrator.show(
            f"$ proxypool status\n{self.lab.proxypool('status', on='host1', check=False).stdout.rstrip()}"
        )
        status = self.lab.proxypool("status", "-o", "json", on="host1", check=False).stdout
        self.document.setdefault("status", {})[moment] = json.loads(status) if status.strip() else None

    def failover(self) -> None:
        """The master loses its power while an instance asks every millisecond and an application works."""
        master = self._holder()
        every = f"{finest_interval_ms():.0f} ms"
        self.narrator.progress(f"a request every {every} from {INSTANCE}, and an application that counts in Redis")
        server = (self.subnet.database_ip, REDIS_PORT)
        with (
            Application(self.lab.machine(INSTANCE), server) as application,
            Prober(self.lab, INSTANCE, self.subnet.database_ip) as prober,
        ):
            application.wait_answers(ANSWERS, 20.0)
            self.narrator.progress(f"power-off of {master}, the master")
            off_at = self.lab.fault(Fault.POWER_OFF, master)
            # The cables of the master are cut by now, so these answers come through the other member.
            application.wait_answers(ANSWERS, RECOVERY_TIMEOUT_S)
            measured = prober.result()
        self.document["failover"] = {
            "powered_off": master,
            "new_master": self._holder(),
            "blackout_ms": measured["blackout_ms"],
            "first_answer_after_ms": round((measured["longest"]["end"] - off_at) * 1e3, 3),
            "requests": {key: measured[key] for key in ("sent", "received", "lost")},
            "prober_stall_ms": measured["own_stall_ms"],
            "application": application.seen.to_json(),
        }
        self.narrator.show(_failover_text(self.document["failover"]))

    def confirmation(self) -> None:
        """The pool notices that the pair has no backup left."""
        self.narrator.progress("waiting until ZooKeeper has confirmed the death, by the end of its session")
        self._wait_status(DEGRADED)

    def repair(self) -> None:
        """The old master comes back, as the backup, without anybody noticing."""
        machine = self.document["failover"]["powered_off"]
        self.narrator.progress(f"power-on of {machine}")
        with Prober(self.lab, INSTANCE, self.subnet.database_ip) as prober:
            self.lab.fault(Fault.POWER_ON, machine)
            self._wait_status(HEALTHY)
        measured = prober.result()
        self.document["repair"] = {
            "powered_on": machine,
            "blackout_ms": measured["blackout_ms"],
            "master": self._holder(),
        }
        gap = (
            f"once there was no answer for {measured['blackout_ms']:.0f} ms"
            if measured["gaps"]
            else "no gap in the answers"
        )
        self.narrator.show(f"{machine} is back: {gap}")

    def _redis(self, *words: str) -> str:
        command = ["redis-cli", "-h", self.subnet.database_ip, *words]
        done = self.lab.machine(INSTANCE).run(["timeout", "20", *command], check=False)
        if done.returncode:
            raise LabError(f"`{' '.join(command)}` on {INSTANCE} failed: {done.stderr.strip() or 'no answer'}")
        return done.stdout.strip()

    def _holder(self) -> str:
        wait_until(lambda: self.lab.holder(self.subnet) is not None, 20.0, f"a node to have {self.subnet.havip}")
        return self.lab.holder(self.subnet) or ""

    def _wait_status(self, code: int) -> None:
        """Until the product has the same view, twice in a row: on a slow machine elections may still be settling."""
        seen: list[int] = []

        def look() -> bool:
            seen.append(self.lab.proxypool("status", "--exit-code", on="host1", check=False).returncode)
            return seen[-2:] == [code, code]

        wait_until(look, RECOVERY_TIMEOUT_S, f"`proxypool status --exit-code` to be {code}", interval_s=1.0)


def run(name: str, tunnel: str, narrator: Narrator) -> LabDemo:
    """The whole tour; its document. Nothing of the lab is left afterwards, whatever happens."""
    began = time.monotonic()
    preflight.require(PROGRAMS)
    kind, remark = preflight.choose_tunnel(tunnel)
    if remark:
        narrator.progress(remark)
    topology = Topology(name=name, tunnel=kind, detection=preflight.choose_detection())
    if Lab.exists(name):
        raise LabError(f"lab {name!r} is up; `proxypool lab down --name {name}` first, or give the demo another --name")
    try:
        lab = Lab.up(topology, narrator.progress)
        document: dict[str, Any] = {"topology": topology.to_json()}
        document["machines"] = {spec.name: spec.ip for spec in topology.machines.values()}
        document["up_s"] = round(time.monotonic() - began, 1)
        tour = Tour(lab, narrator, document)
        tour.traffic()
        tour.settling()
        tour.overview("before")
        tour.failover()
        tour.confirmation()
        tour.overview("after_power_off")
        tour.repair()
        tour.overview("after_power_on")
        narrator.progress("cleaning up")
    finally:
        remove(name)
    document["duration_s"] = round(time.monotonic() - began, 1)
    narrator.progress(f"done in {document['duration_s']:.0f} s, nothing left behind")
    return convert(document, LabDemo)


def _failover_text(failover: dict[str, Any]) -> str:
    seen, requests = failover["application"], failover["requests"]
    breaks = f"{seen['resets']} resets and {seen['timeouts']} timeouts"
    lines = (
        f"{failover['powered_off']} lost its power, {failover['new_master']} took over",
        f"  blackout         {failover['blackout_ms']:8.0f} ms without an answer",
        f"  requests         {requests['sent']:8d} sent, {requests['lost']} lost",
        f"  the application  {seen['answers']:8d} answers, the longest wait was {seen['longest_wait_ms']:.0f} ms",
        f"                   {seen['connections'] - 1:8d} new connections after {breaks}",
    )
    return "\n".join(lines)
