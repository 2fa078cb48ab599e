"""A Prometheus server with data of the past: for queries that somebody else will ask it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from proxypool.lab.processes import DIES_WITH_US

IS_INSTALLED = shutil.which("prometheus") is not None and shutil.which("promtool") is not None
START_WITHIN_S = 20.0
ANSWER_WITHIN_S = 15.0


@dataclass(frozen=True, slots=True)
class Served:
    """One that runs, on the loopback address."""

    port: int

    def get(self, path: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        """The answer's document, whatever its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_WITHIN_S)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            document: dict[str, Any] = json.loads(connection.getresponse().read())
        return document

    def ask(self, expr: str, at: float) -> list[Any]:
        """An instant query's result."""
        return self._result("/api/v1/query", {"query": expr, "time": at})

    def ask_range(self, expr: str, start: float, end: float, step_s: int) -> list[Any]:
        """A range query's result; points are at multiples of the step, as Grafana asks for them."""
        first = start - start % step_s
        return self._result(
            "/api/v1/query_range", {"query": expr, "start": first, "end": end - end % step_s, "step": step_s}
        )

    def _result(self, path: str, parameters: Mapping[str, object]) -> list[Any]:
        document = self.get(path, parameters)
        if document["status"] != "success":
            raise AssertionError(f"{document['error']} in {parameters['query']}")
        result: list[Any] = document["data"]["result"]
        return result


def backfill(lines: Iterable[str], folder: Path) -> None:
    """Make blocks of OpenMetrics text in the data folder of a server that does not run yet."""
    text = folder / "samples.txt"
    with text.open("w") as file:
        file.writelines(f"{line}\n" for line in lines)
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    text.unlink()


@contextlib.contextmanager
def prometheus(folder: Path, *, lookback_s: int) -> Iterator[Served]:
    """A server of what `backfill` made. It scrapes nothing, keeps everything, and ends with the block.

    `lookback_s`: a series without a sample for so long is gone. A scrape that fails is marked in the data at once; text
    cannot say that, so this is to be about one scrape interval.
    """
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    port = _free_port()
    command = [
        *DIES_WITH_US,
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--storage.tsdb.retention.time=100y",
        f"--query.lookback-delta={lookback_s}s",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    log = folder / "log"
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            served = Served(port)
            _wait_ready(served, process, log)
            yield served
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def _wait_ready(served: Served, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            if served.get("/api/v1/query", {"query": "1"})["status"] == "success":
                return
        time.sleep(0.05)
    raise AssertionError(f"prometheus does not answer: {log.read_text()}")
