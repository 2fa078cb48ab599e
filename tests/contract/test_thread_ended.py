"""A daemon that has lost one of its threads ends: it would go on with what it knew last, and look well."""

from __future__ import annotations

from pathlib import Path

from tests.contract.controllers import Controller
from tests.contract.zk import ZooKeeperServer, free_port

DEFECT = """
import runpy
from proxypool.adapters.zookeeper.mirror import PoolMirror

def break_down(mirror):
    raise RuntimeError("a defect")

PoolMirror._run = break_down
runpy.run_module("proxypool", run_name="__main__", alter_sys=True)
"""


def test_the_end_of_a_thread_is_the_end_of_the_daemon(
    shared_server: ZooKeeperServer, pool: str, tmp_path: Path
) -> None:
    """With a status that has systemd start it again, and with the reason in the log."""
    controller = Controller(shared_server, pool, tmp_path, "c1", free_port())
    controller.command[1:3] = ["-c", DEFECT]
    controller.start()
    try:
        assert controller.process is not None
        assert controller.process.wait(60) == 1
    finally:
        controller.kill()
    for text in ("thread pool-mirror has ended by a defect", "RuntimeError: a defect", "pairs go on as they are"):
        assert controller.said(text)
