"""What operators and the platform do all day, in one cycle and from a seed; everything is taken back at its end."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from proxypool.core.errors import ProxypoolError
from proxypool.lab import agent
from proxypool.lab.errors import LabError
from proxypool.lab.lab import Lab
from tests.lab.instances import api, restore_attachments
from tests.lab.observe import ACCEPT_ALL, PATIENCE, another_subnet

CARDS = ("soak0", "soak1")
"""Spare ENIs of the nodes that subnets come and go on."""
INSTANCES = 40
"""That are attached and detached at one time."""
FIRST_INSTANCE = IPv4Address("10.244.1.100")
Act = Callable[[], object]


class Churn:
    """Of one lab. What is refused because something is broken just then is counted, not an error: faults go on."""

    def __init__(self, lab: Lab, dice: random.Random) -> None:
        self.lab, self.dice = lab, dice
        self.done: dict[str, int] = {}
        self.refused = 0
        self._number = 0

    def cycle(self, duration_s: float) -> None:
        """One act after the other until the time is over."""
        end = time.monotonic() + duration_s
        acts: dict[str, Act] = {
            "attach": self._attach,
            "subnet": self._subnet,
            "weight": self._weight,
            "drain": self._drain,
            "switchover": self._switchover,
            "cordon": self._cordon,
        }
        while time.monotonic() < end:
            name = self.dice.choice(list(acts))
            with self._forgiven():
                acts[name]()
                self.done[name] = self.done.get(name, 0) + 1
            time.sleep(self.dice.uniform(0.1, 1.5))

    def make_lasting(self) -> None:
        """What the first act of its kind leaves for good, for each node its orders and for each pair its switchover: else
        the samples would count how many of them had had their turn.
        """
        for node in self.lab.topology.node_names:
            self._run("node", "cordon", node, "--reason", "soak")
            self._run("node", "uncordon", node)
        for plan in self.lab.topology.subnet_plans:
            self._run("pair", "switchover", plan.id, plan.pairs[0].id, "--reason", "soak")

    def take_back(self) -> None:
        """After the faults are healed: nothing is left of any cycle."""
        for name in self._churned():
            self._run("pair", "remove", name, "p1", "--yes", *ACCEPT_ALL, must=False)
            self._run("subnet", "remove", name, "--yes")
        for plan in self.lab.topology.subnet_plans:
            self._run("pair", "undrain", plan.id, plan.pairs[0].id)
            self._run("pair", "set", plan.id, plan.pairs[0].id, "--weight", "1")
        for node in self.lab.topology.node_names:
            self._run("node", "uncordon", node, must=False)
        restore_attachments(self.lab)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except (subprocess.SubprocessError, LabError, ProxypoolError, AssertionError):
            self.refused += 1

    def _run(self, *words: str, must: bool = True) -> subprocess.CompletedProcess[str]:
        return self.lab.proxypool(*words, on="host1", check=must, timeout=60 * PATIENCE)

    def _churned(self) -> list[str]:
        text = self._run("subnet", "list").stdout
        return [line.split()[0] for line in text.splitlines() if line.startswith("soak-")]

    def _attach(self) -> None:
        subnet = self.dice.choice(self.lab.topology.subnet_plans).id
        some = [(str(FIRST_INSTANCE + at), subnet) for at in range(self.dice.randint(1, INSTANCES))]
        agent.attach(api(self.lab), *some)
        time.sleep(self.dice.uniform(0.0, 0.5))
        agent.detach(api(self.lab), *some)

    def _subnet(self) -> None:
        self._number += 1
        with another_subnet(self.lab, f"soak-{self._number}", enis=(CARDS[0], CARDS[0])):
            time.sleep(self.dice.uniform(0.5, 4.0))

    def _pair(self) -> tuple[str, str]:
        plan = self.dice.choice(self.lab.topology.subnet_plans)
        return plan.id, plan.pairs[0].id

    def _weight(self) -> None:
        self._run("pair", "set", *self._pair(), "--weight", str(self.dice.randint(1, 8)))

    def _drain(self) -> None:
        pair = self._pair()
        self._run("pair", "drain", *pair, *ACCEPT_ALL[1:])
        time.sleep(self.dice.uniform(0.2, 1.0))
        self._run("pair", "undrain", *pair)

    def _switchover(self) -> None:
        self._run("pair", "switchover", *self._pair(), "--reason", "soak")

    def _cordon(self) -> None:
        node = self.dice.choice(self.lab.topology.node_names)
        self._run("node", "cordon", node, "--reason", "soak")
        self._run("node", "uncordon", node)
