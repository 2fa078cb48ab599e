"""Which source the controller asks what pairs use, and how long it waits for it."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from proxypool.core.config import ControllerConfig
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.model import NodeSpec
from proxypool.daemons.scraping import source_interval_s, source_of

NODE = NodeSpec(id="n1", underlay=IPv4Address("10.0.0.1"), metrics="10.0.0.1:9477")
PROMETHEUS = "http://127.0.0.1:9090"


def test_a_prometheus_server_reads_the_nodes_less_often_than_we_do() -> None:
    """What is three of its intervals old would never be known otherwise."""
    assert source_interval_s(ControllerConfig(interval_s=2.0)) == 2.0
    assert source_interval_s(ControllerConfig(source=PROMETHEUS, interval_s=2.0)) == 15.0
    assert source_interval_s(ControllerConfig(source=PROMETHEUS, source_interval_s=60.0)) == 60.0


def test_a_source_is_given_the_time_and_the_token_that_are_configured(tmp_path: Path) -> None:
    """One that takes the request and says nothing."""
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        config = ControllerConfig(source=url, source_timeout_s=0.2, source_token_file=str(tmp_path / "token"))
        began = time.monotonic()
        with pytest.raises(TransientError, match="does not answer"):
            source_of(config).read((NODE,))
        assert time.monotonic() - began < 2.0
        asked, _ = server.accept()
        with asked:
            assert b"Bearer secret" in asked.recv(4096)


def test_a_source_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not the URL of a Prometheus server"):
        source_of(ControllerConfig(source="node"))
