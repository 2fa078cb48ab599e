"""What all tests share: those that need root say so when they do not have it."""

import os
from pathlib import Path

import pytest

from tests.orphans import end_orphans, mark

_NEED_ROOT = ("lab", "systemd", "vm")
_HERE = Path(__file__).parent


def pytest_configure() -> None:
    """Whatever a killed run left ends now; and what this one starts can be told by the next."""
    mark(os.environ)
    end_orphans()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root, with the reason. ``make test`` refuses to start without root, so it never skips these.

    What is ``timed`` is measured again when it was too slow: a limit that is missed three times in a row is missed by us.
    So is a trial of a fault while which a processor of this computer stood still (`tests.lab.stalls`).
    """
    if os.environ.get("PROXYPOOL_LONG") != "1":
        long = pytest.mark.skip(reason="takes minutes: `make faults`")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(long)
    again = pytest.mark.flaky(reruns=2, only_rerun=["AssertionError", "MachineStalled"])
    undisturbed = pytest.mark.flaky(reruns=2, only_rerun="MachineStalled")
    for item in items:
        if item.get_closest_marker("timed"):
            item.add_marker(again)
        elif item.get_closest_marker("faults"):
            item.add_marker(undisturbed)
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: network namespaces, iptables")
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder in _NEED_ROOT or item.get_closest_marker("root"):
            item.add_marker(skip)
