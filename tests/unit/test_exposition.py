"""The text of `/metrics` says what the client's own would, in a fraction of the time."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from proxypool.core.discovery import Daemon
from proxypool.telemetry.exposition import application, render
from tools.metric_pages import pages


def meaning(text: str) -> list[tuple[str, str, str, list[tuple[object, ...]]]]:
    return [
        (family.name, family.type, family.documentation, [tuple(sample)[:3] for sample in family.samples])
        for family in text_string_to_metric_families(text)
        if not family.name.startswith("process_")
    ]


@pytest.mark.parametrize("daemon", Daemon)
def test_it_means_what_the_clients_own_text_means(daemon: Daemon) -> None:
    """Order and all; of the process only the values differ from one moment to the next."""
    registry = pages()[daemon].registry
    assert meaning(render(registry).decode()) == meaning(generate_latest(registry).decode())


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 1.7e18, 1e-9, 0.1 + 0.2, 0.0])
@pytest.mark.parametrize("label", ["", "plain", 'a "quote"', "back\\slash", "two\nlines", "ü"])
def test_odd_values_and_labels_come_back_as_they_were(value: float, label: str) -> None:
    """By the parser of the client, which is not ours."""
    registry = CollectorRegistry()
    Gauge("g", 'of "all" \\ kinds\nof text', ("label",), registry=registry).labels(label).set(value)
    assert repr(meaning(render(registry).decode())) == repr(meaning(generate_latest(registry).decode()))
    (family,) = meaning(render(registry).decode())
    (sample,) = family[3]
    assert sample[1] == {"label": label}
    assert repr(sample[2]) == repr(value)


def ask(method: str = "GET", query: str = "", encoding: str = "") -> tuple[str, dict[str, str], bytes]:
    """What the application answers."""
    said: list[Any] = []
    start: Callable[..., None] = lambda status, headers: said.extend((status, dict(headers)))  # noqa: E731
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": "/metrics",
        "QUERY_STRING": query,
        "HTTP_ACCEPT_ENCODING": encoding,
        "HTTP_ACCEPT": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
        "wsgi.input": io.BytesIO(),
    }
    body = b"".join(application(pages()[Daemon.NODE].registry)(environ, start))
    return said[0], said[1], body


def test_prometheus_gets_the_plain_text_in_gzip() -> None:
    """It asks for OpenMetrics first, and takes what the content type says."""
    status, headers, body = ask(encoding="deflate, gzip;q=0.8")
    assert (status, headers["Content-Encoding"]) == ("200 OK", "gzip")
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert headers["Content-Length"] == str(len(body))
    assert b"\nproxypool_member_role{" in gzip.decompress(body)


def test_without_gzip_it_is_plain_and_of_the_length_it_says() -> None:
    """The controller's scraper compares the two."""
    _, headers, body = ask()
    assert "Content-Encoding" not in headers
    assert headers["Content-Length"] == str(len(body))


def test_some_names_only() -> None:
    """What the controller asks for every few seconds."""
    _, _, body = ask(query="name[]=proxypool_member_master&name[]=proxypool_snat_ports")
    names = {line.split("{")[0] for line in body.decode().splitlines() if not line.startswith("#")}
    assert names == {"proxypool_member_master", "proxypool_snat_ports"}


def test_nothing_can_be_posted() -> None:
    """It is read only."""
    assert ask(method="POST")[0].startswith("405 ")
