"""A running lab: up, find it again, use it, down. The entry point for the CLI, tests and benches."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Self

from proxypool.core.units import some_of
from proxypool.lab import agent, faults, identities, preflight, processes, services, state, traffic
from proxypool.lab.building import Builder, zookeeper_mode
from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.faults import Fault, Options
from proxypool.lab.machine import Machine
from proxypool.lab.namespaces import has_address
from proxypool.lab.plans import PairPlan, SubnetPlan
from proxypool.lab.state import StateDirectory, Wanted
from proxypool.lab.topology import Topology, every_pair

Progress = Callable[[str], None]
UP_TIMEOUT_S = 120.0
SHOWN = 5
"""Paths without traffic that an error names."""


def _silent(line: str) -> None:
    del line


class Lab:
    """A handle on the machines of one lab. Cheap: everything is read from the kernel when asked."""

    def __init__(self, directory: StateDirectory, wanted: Wanted) -> None:
        self.state, self.wanted, self.topology = directory, wanted, wanted.topology
        self.name = directory.name
        self.machines = {name: Machine(directory, spec) for name, spec in self.topology.machines.items()}
        self._builder = Builder(directory, wanted, self.machines)

    @classmethod
    def up(
        cls,
        topology: Topology,
        progress: Progress = _silent,
        *,
        start_daemons: bool = True,
        apply: bool = True,
        timeout_s: float = UP_TIMEOUT_S,
    ) -> Self:
        """Bring a lab up, or what is missing of it.

        Without `start_daemons` nodes run neither keepalived nor our daemon; without `apply` the pool stays empty.
        `LabError` when a lab of that name is up with another topology, or cannot be made: then nothing is left of it,
        nor after Ctrl-C. `LabError` or `LabTimeout` when the pool cannot be filled or traffic does not flow in time:
        then the lab stays, for looking at it.
        """
        processes.require_outside()
        preflight.require()
        if topology.secure:
            preflight.require_tls()
        deadline = time.monotonic() + timeout_s
        wanted = Wanted(topology, start_daemons, apply)
        directory = StateDirectory(topology.name)
        with directory.locked(timeout_s):
            lab, is_new = cls._build(directory, wanted, progress, deadline)
            try:
                lab.put_to_use(progress, deadline)
            except KeyboardInterrupt:
                if is_new:
                    lab.destroy()
                raise
        return lab

    @classmethod
    def attach(cls, name: str = "lab") -> Self:
        """A lab that is up. `LabError` if there is none of that name."""
        processes.require_outside()
        preflight.require_root()
        directory = StateDirectory(name)
        wanted = directory.read()
        if wanted is None or not wanted.built or not processes.find(name):
            others = ", ".join(other for other in state.known() if other != name)
            hint = f"up: {others}" if others else "`proxypool lab up` starts one"
            raise LabError(f"no lab {name!r} is up; {hint}")
        return cls(directory, wanted)

    @staticmethod
    def exists(name: str) -> bool:
        """Whether anything of a lab of that name is there, finished or not."""
        return bool(processes.find(name))

    @classmethod
    def _build(
        cls, directory: StateDirectory, wanted: Wanted, progress: Progress, deadline: float
    ) -> tuple[Self, bool]:
        """The lab, and whether it was made now."""
        present = directory.read()
        if present and present.built and any(p.machine == "fabric" for p in processes.find(directory.name)):
            cls._require_same(present, wanted)
            lab = cls(directory, present)
            lab._complete(progress, deadline)
            return lab, False
        if count := processes.kill_lab(directory.name):
            progress(f"ended {count} processes of a lab that was not finished")
        directory.clear()
        lab = cls(directory, wanted)
        try:
            lab._make(progress, deadline)
        except BaseException:
            lab.destroy()
            raise
        return lab, True

    @staticmethod
    def _require_same(present: Wanted, wanted: Wanted) -> None:
        name = present.topology.name
        difference = present.topology.difference(wanted.topology)
        if not difference and present.start_daemons != wanted.start_daemons:
            difference = f"daemons {present.start_daemons} → {wanted.start_daemons}"
        if difference:
            raise LabError(f"lab {name!r} is up and different ({difference}); `proxypool lab down` first")

    def machine(self, name: str) -> Machine:
        """`LabError` with the names there are, and the nearest one."""
        if name in self.machines:
            return self.machines[name]
        near = difflib.get_close_matches(name, self.machines, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LabError(f"no machine {name!r}; {hint}There are {', '.join(self.machines)}")

    def fault(
        self, kind: Fault | str, machine: str, *, subnet: str | None = None, options: Options | None = None
    ) -> float:
        """Inject or heal a fault; when it began to act, on CLOCK_MONOTONIC in s."""
        target = self.machine(machine)
        with self.state.locked(10.0):
            return faults.inject(self._builder, target, Fault(kind), options or Options(subnet))

    def troubled(self) -> set[str]:
        """Names of machines on which a fault of packets or programs lasts; `power-on` ends it."""
        return faults.troubled(self._builder)

    def proxypool(
        self,
        *args: str,
        on: str | None = None,
        check: bool = True,
        timeout: float = 60.0,
        input: str | None = None,  # noqa: A002
        tree: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the product's own command on a machine, or where one may change the pool; with `tree`, that of another
        copy of the package.
        """
        command = [sys.executable, "-m", "proxypool", *args]
        environment = services.tree_environment(tree) if tree is not None else None
        return self.machine(on or self.topology.operator).run(
            command, check=check, timeout=timeout, input=input, environment=environment
        )

    def apply_pool(self, timeout_s: float = 60.0, wanted: Callable[[SubnetPlan, PairPlan], bool] = every_pair) -> None:
        """Fill the pool with the topology's subnets and (wanted) pairs, through the product's own command."""
        document = json.dumps(self.topology.pool_document(wanted))
        timeout_s = max(1.0, timeout_s)
        try:
            done = self.proxypool("pool", "apply", "-", input=document, check=False, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise LabTimeout(f"`proxypool pool apply` did not end within {timeout_s:.0f} s") from None
        if done.returncode:
            raise LabError(f"`proxypool pool apply` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
        self.wanted = replace(self.wanted, applied=True)
        self.state.write(self.wanted)

    def close_pool(self, timeout_s: float = 60.0) -> None:
        """Give everything in the pool its access list, through the product's own command; again is fine."""
        try:
            done = self.proxypool("pool", "secure", identities.ALL_SECRETS, check=False, timeout=max(1.0, timeout_s))
        except subprocess.TimeoutExpired:
            raise LabTimeout(f"`proxypool pool secure` did not end within {timeout_s:.0f} s") from None
        if done.returncode:
            raise LabError(f"`proxypool pool secure` ended with {done.returncode}: {done.stderr.strip()[-2000:]}")

    def attach_instances(self, timeout_s: float = 30.0) -> float:
        """Attach every instance to the subnets it may reach, as the platform would; how long agents took for it, in s.

        Those that are attached already stay so. `LabTimeout`, or `AgentRefused` for a reason that does not pass.
        """
        deadline, took_s = time.monotonic() + timeout_s, 0.0
        for host, wanted in self.topology.attachments().items():
            path, left_s = agent.socket_of(self.machine(host)), deadline - time.monotonic()
            try:
                took_s += agent.attach_soon(path, wanted, left_s, f"the agent of {host}")
            except LabTimeout as error:
                raise LabTimeout(f"{error}{self._dead()}") from None
        return took_s

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Until each pod had an answer from each database it may reach. `LabTimeout` names the paths without."""
        missing = traffic.paths_without_answer(self.topology, self.machines, timeout_s)
        if missing:
            raise LabTimeout(f"no answer within {timeout_s:.0f} s: {some_of(missing, SHOWN)}{self._dead()}")

    def _dead(self) -> str:
        """What does not run though it should, for the end of a sentence."""
        return "".join(f"; {service} on {name} does not run" for name, service in self._builder.dead_services())

    def zookeeper_mode(self, machine: str = "zk1") -> str:
        """`standalone`, `leader` or `follower`; empty when it does not serve."""
        init = self.machine(machine).init()
        return zookeeper_mode(init.pid) if init else ""

    def holder(self, subnet: SubnetPlan) -> str | None:
        """The node that has the HaVip of a subnet's pair, as its kernel says; None when no node has it."""
        for member in subnet.members:
            init = self.machine(member.node).init()
            if init and has_address(init.pid, subnet.havip):
                return member.node
        return None

    def down(self) -> int:
        """End the lab; how many processes that were."""
        with self.state.locked(10.0):
            return self.destroy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _make(self, progress: Progress, deadline: float) -> None:
        topology = self.topology
        self.state.prepare()
        self.state.write(self.wanted)
        if topology.secure:
            progress("making secrets and certificates")
            identities.make(self.state.identities, topology)
        progress(f"making {len(self.machines)} machines")
        self._builder.make_fabric()
        self._builder.make_machines(self.machines)
        progress("starting services")
        self._builder.start_services(self.machines)
        progress(f"waiting for ZooKeeper ({', '.join(topology.zookeeper_ips)})")
        self._builder.wait_zookeeper(deadline - time.monotonic())
        self._builder.check_services()
        self.wanted = replace(self.wanted, built=True)
        self.state.write(self.wanted)

    def put_to_use(self, progress: Progress, deadline: float) -> None:
        """Fill the pool and wait for traffic, as far as was asked for."""
        if self.wanted.apply and not self.wanted.applied:
            progress("filling the pool")
            self.apply_pool(deadline - time.monotonic())
        if self.wanted.apply and self.topology.secure:
            progress("closing the pool")
            self.close_pool(deadline - time.monotonic())
        if self.wanted.apply and self.wanted.start_daemons:
            # Filling the pool took long enough for a daemon that cannot start to have said why.
            self._builder.check_services()
            if self.topology.attach and not self.topology.attach_all and self.topology.attachments():
                took_s = self.attach_instances(deadline - time.monotonic())
                progress(f"attached {_attached(self.topology)} in {took_s * 1e3:.1f} ms")
            progress("waiting for traffic from instances to databases")
            self.wait_ready(deadline - time.monotonic())

    def _complete(self, progress: Progress, deadline: float) -> None:
        """Power on what is off, start what does not run."""
        off = [name for name, machine in self.machines.items() if not machine.is_on]
        if off:
            progress(f"powering on {', '.join(off)}")
            self._builder.make_machines(off)
        self._builder.start_services(self.machines)
        self._builder.wait_zookeeper(deadline - time.monotonic())

    def destroy(self) -> int:
        """`down` for whoever holds the lock."""
        count = processes.kill_lab(self.name)
        self.state.clear()
        return count


def _attached(topology: Topology) -> str:
    """What was attached to what, for people."""
    paths = list(topology.paths())
    if len(paths) > 1:
        return f"{len(topology.instances)} instances to their subnets"
    (_, subnet), instance = paths[0], topology.instances[0]
    return f"{instance.name} ({instance.address}) to {subnet.id}"


def remove(name: str) -> int:
    """End whatever is left of a lab, finished or not; how many processes that were. Nothing there is fine."""
    processes.require_outside()
    directory = StateDirectory(name)
    with directory.locked(10.0):
        count = processes.kill_lab(name)
        directory.clear()
    return count
