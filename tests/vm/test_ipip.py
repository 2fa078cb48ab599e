"""Why proxypool does not offer IPIP: what the kernel does with it, asserted (docs/adr/0004).

Should one of these fail on a newer kernel, the decision deserves a second look.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.vm.conftest import RunInGuest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def seen(run_in_guest: RunInGuest) -> Any:
    """What the experiment saw, from one guest for all tests."""
    done = run_in_guest(str(Path(__file__).parent / "ipip_experiment.py"), timeout_s=120)
    if done.returncode != 0:
        pytest.fail(f"the experiment failed:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return json.loads(done.stdout)


def test_ipip_takes_no_key(seen: Any) -> None:
    """There is no field in the packet that could say which customer it belongs to."""
    assert seen["key refused"] == {"ipip": True, "gre": False}


def test_a_second_ipip_device_with_the_same_local_address_is_refused(seen: Any) -> None:
    """So a host cannot have one multipoint tunnel per customer; with GRE another key is enough."""
    assert seen["second device, same local"] == {
        "ipip": "RTNETLINK answers: File exists",
        "gre, another key": "",
        "gre, same key": "RTNETLINK answers: File exists",
    }


def test_ipip_accepts_a_neighbour_entry_shows_it_and_ignores_it(seen: Any) -> None:
    """The worst kind of failure: everything looks right and nothing is sent."""
    ipip = seen["neighbour"]["ipip"]
    assert ipip["refusal"] == ""
    assert "lladdr 192.168.4.11 PERMANENT" in ipip["shown"]
    assert not ipip["answered"]
    assert ipip["node sent"]["packets"] == 0
    assert ipip["node sent"]["errors"] > 0


def test_gre_follows_the_same_neighbour_entry(seen: Any) -> None:
    """The control: the same set-up, the same entry."""
    gre = seen["neighbour"]["gre"]
    assert gre["answered"]
    assert gre["node sent"] == {"packets": 1, "errors": 0, "collisions": 0}


def test_ipip_works_with_a_route_per_host_instead(seen: Any) -> None:
    """What remains: the outer address as the next hop of an onlink route."""
    assert seen["neighbour"]["ipip"]["answered with a route per host"]


def test_a_packet_for_the_wrong_customer_is_taken_with_ipip_and_dropped_with_a_key(seen: Any) -> None:
    """One stale entry on a host sends a customer's packets into another customer's network."""
    assert seen["wrong customer"] == {"ipip": True, "gre": False}


def test_ipip_carries_ipv4_only(seen: Any) -> None:
    """An IPv6 packet is counted as an error; GRE carries it."""
    assert seen["IPv6 inside"]["ipip"]["packets"] == 0
    assert seen["IPv6 inside"]["ipip"]["errors"] > 0
    assert seen["IPv6 inside"]["gre"]["packets"] > 0
