"""The real controller as a process: `proxypool run controller`, looked at through its metrics and its report."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.parse import urlencode

from prometheus_client.parser import text_string_to_metric_families

from bench.ensemble import Ensemble, free_ports
from bench.footprint import cpu_s, resident_mib
from proxypool.adapters.zookeeper import PoolSession
from proxypool.adapters.zookeeper.layout import REPORT
from proxypool.adapters.zookeeper.reading import read_nodes
from proxypool.core.documents import decode
from proxypool.core.errors import InvalidInput
from proxypool.core.scaling.documents import Report
from proxypool.lab.errors import LabError, LabTimeout
from proxypool.lab.processes import DIES_WITH_US

ROUND = "proxypool_controller_round_duration_seconds"
SCRAPE_WITHIN_S = 30.0
DECIDES_WITHIN_S = 300.0
STOP_WITHIN_S = 15.0
LOOK_S = 0.1


@dataclass
class Watched:
    """What a controller was seen to do over some time."""

    rounds_s: list[float] = field(default_factory=list)
    """Of each round that was seen alone; of several between two looks their mean."""
    cpu_percent: float = 0.0
    resident_mib: float = 0.0
    problems: tuple[str, ...] = ()


class OneController:
    """Started by `with`; the process has ended afterwards."""

    def __init__(self, zookeeper: Ensemble, session: PoolSession, directory: Path) -> None:
        (self._port,) = free_ports(1)
        self._session = session
        self._log = directory / "controller.log"
        self._config = directory / "controller.toml"
        hosts = ", ".join(f'"{address}"' for address in zookeeper.addresses)
        self._config.write_text(
            f'pool = "{session.layout.pool}"\nrun_dir = "{directory}"\n[zookeeper]\nhosts = [{hosts}]\n'
            f'[controller]\nname = "bench"\n[metrics]\nlisten = "127.0.0.1:{self._port}"\n'
        )
        self.started_at = time.time()
        self.first_decision_s = 0.0
        """From the start of the process."""

    def __enter__(self) -> Self:
        self.started_at = time.time()
        command = (*DIES_WITH_US, sys.executable, "-m", "proxypool", "run", "controller", "--config", str(self._config))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait_for_decision()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def _wait_for_decision(self) -> None:
        deadline = time.monotonic() + DECIDES_WITHIN_S
        while (report := self.report()) is None or report.at < self.started_at:
            if self._process.poll() is not None:
                raise LabError(f"the controller ended: {self._log.read_text(errors='replace')[-400:]}")
            if time.monotonic() > deadline:
                raise LabTimeout(f"no decision of the controller within {DECIDES_WITHIN_S:g} s")
            time.sleep(LOOK_S)
        self.first_decision_s = report.at - self.started_at

    def report(self) -> Report | None:
        """What it wrote last."""
        (node,) = read_nodes(self._session, (self._session.layout.path(REPORT),))
        try:
            return decode(node.data, Report, what=REPORT) if node is not None else None
        except InvalidInput:
            return None

    def watch(self, seconds: float) -> Watched:
        """For so long."""
        found = Watched()
        before_s, began = cpu_s(self.pid), time.monotonic()
        total, count = self._rounds()
        while time.monotonic() < began + seconds:
            time.sleep(LOOK_S)
            new_total, new_count = self._rounds()
            if new_count > count:
                found.rounds_s.append((new_total - total) / (new_count - count))
                total, count = new_total, new_count
        found.cpu_percent = (cpu_s(self.pid) - before_s) / (time.monotonic() - began) * 100
        found.resident_mib = resident_mib(self.pid)
        report = self.report()
        found.problems = report.problems if report is not None else ()
        return found

    def _rounds(self) -> tuple[float, float]:
        """Seconds that all rounds took, and how many there were. Asks for nothing else: the rest is large."""
        text = self.scrape(ROUND + "_sum", ROUND + "_count")
        values = {
            sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
        }
        return values.get(ROUND + "_sum", 0.0), values.get(ROUND + "_count", 0.0)

    def scrape(self, *names: str) -> str:
        """Its metrics; without names all of them."""
        query = f"?{urlencode([('name[]', name) for name in names])}" if names else ""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/metrics{query}", timeout=SCRAPE_WITHIN_S
            ) as answer:
                text: str = answer.read().decode()
                return text
        except (URLError, TimeoutError) as error:
            raise LabError(f"the controller's metrics cannot be read: {error}") from error


def peak_mib(pid: int) -> float:
    """VmHWM: the most that a process ever had resident."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
