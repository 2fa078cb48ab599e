"""The status page in a headless Chromium: light, dark, on a telephone, without scripts, and kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxypool.telemetry.http_port import HttpPort
from proxypool.web.page import Documents, Face
from proxypool.web.site import Site
from proxypool.web.wsgi import application
from tests.browser import chromium
from tests.browser.chromium import PHONE, Chromium
from tests.contract.test_http_port import free_port
from tests.contract.zk import wait_until
from tests.unit.shown_pools import Shown, eventful, hostile, many, well

RENEWED_S = 30.0
"""The page renews itself every 5 s; the machine may be busy."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if chromium.find() is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with Chromium(tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


class Served:
    """A daemon's page on loopback."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        number = free_port()
        site = Site(shown, "production", Face("controller", "ctl1", "0.1.0", ""), lambda _: None, "")
        self.port = HttpPort(f"127.0.0.1:{number}", application(site), what="a test")
        self.url = f"http://127.0.0.1:{number}/"


@pytest.fixture
def served() -> Iterator[Served]:
    found = Served(Shown(eventful()))
    yield found
    found.port.close()


LOOKS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"dark": True},
    "telephone": {"width": PHONE},
    "telephone-dark": {"width": PHONE, "dark": True},
    "without-scripts": {"scripts": False},
}
POOLS: dict[str, Callable[[], Documents]] = {
    "well": well,
    "eventful": eventful,
    "hostile": hostile,
    "large": lambda: many(200),
}


@pytest.mark.parametrize(
    ("pool", "look"),
    [
        *(("eventful", look) for look in LOOKS),
        *((pool, look) for pool in ("hostile", "large") for look in ("light", "telephone")),
        *(("well", look) for look in ("light", "dark")),
    ],
)
def test_the_page_is_whole_however_it_is_looked_at(
    browser: Chromium, served: Served, tmp_path: Path, pool: str, look: str
) -> None:
    """No complaint of the console or the content security policy, nothing wider than the screen, all parts there."""
    served.shown.seen = Shown(POOLS[pool]()).seen
    browser.look(**LOOKS[look])
    browser.go(served.url)
    browser.picture(tmp_path / f"{pool}-{look}.png")
    assert (tmp_path / f"{pool}-{look}.png").stat().st_size > 10_000
    # Without scripts the page may be loading itself again just now.
    wait_until(lambda: len(browser.value(_FACTS)["parts"]) == len(PARTS), "it is there", RENEWED_S)
    found = browser.value(_FACTS)
    assert found["parts"] == PARTS
    assert found["heading"] == {"well": "All is well", "eventful": "Critical"}.get(pool, "Degraded")
    assert found["width"] <= found["screen"]
    assert found["limit"] != "none", "the style sheet is in force"
    assert browser.complaints == []


PARTS = ["verdict", "findings", "under-way", "topology", "subnets", "scaling", "history", "machines"]
_FACTS = """({
  parts: [...document.querySelectorAll("main > section")].map((one) => one.id),
  heading: document.querySelector("h1")?.innerText,
  width: document.documentElement?.scrollWidth,
  screen: innerWidth,
  limit: document.body && getComputedStyle(document.body).maxWidth,
})"""


def test_colours_follow_the_readers_system_and_can_be_read(browser: Chromium, served: Served) -> None:
    """Contrast of at least 4.5 to 1 for all text (WCAG AA), light and dark."""
    grounds = []
    for dark in (False, True):
        browser.look(dark=dark)
        browser.go(served.url)
        grounds.append(browser.value("getComputedStyle(document.body).backgroundColor"))
        assert browser.value(_FAINT) == []
    assert grounds[0] != grounds[1]


_FAINT = """
(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const colour = rgb(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const owner = text.parentElement;
    if (!text.data.trim() || owner.closest("svg") || !owner.checkVisibility()) continue;
    const [one, other] = [light(rgb(getComputedStyle(owner).color)), light(ground(owner))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) faint.push(text.data);
  }
  return faint;
})()
"""


def test_hostile_names_run_nothing(browser: Chromium, served: Served) -> None:
    """With the policy out of the way as well: there is nothing to run."""
    served.shown.seen = Shown(hostile()).seen
    browser.look()
    browser.go(served.url)
    assert browser.value("document.querySelectorAll('main img, main script').length") == 0
    assert "<script>alert(1)</script>" in browser.value("document.querySelector('main').innerText")


def test_the_page_follows_the_pool_and_keeps_what_the_reader_opened(browser: Chromium, served: Served) -> None:
    """Well at first, then not: without loading the page again, and with a folded subnet still folded."""
    served.shown.seen = Shown(well()).seen
    browser.look()
    browser.go(served.url)
    browser.value("window.isTheSame = true; document.getElementById('subnet-billing').open = false; null")
    served.shown.seen = Shown(eventful()).seen
    wait_until(lambda: browser.value("document.querySelector('h1').innerText") == "Critical", "it follows", RENEWED_S)
    assert browser.value("window.isTheSame"), "it is the same page"
    assert browser.value("document.title").startswith("critical")
    assert browser.value("document.querySelector('link[rel=icon]').href").endswith("icon-critical.svg")
    assert browser.value("document.getElementById('subnet-billing').open") is False
    assert browser.value("document.getElementById('subnet-orders-db').open") is True


def test_a_daemon_that_is_gone_is_said_to_be(browser: Chromium) -> None:
    """What is on the screen then is old, and must not look new."""
    served = Served(Shown(well()))
    browser.look()
    browser.go(served.url)
    served.port.close()
    wait_until(
        lambda: "has not answered" in browser.value("document.getElementById('warning').innerText"),
        "it is said",
        RENEWED_S,
    )
    assert browser.value("document.querySelector('h1').innerText") == "All is well"


def test_without_scripts_the_page_comes_again(browser: Chromium, served: Served) -> None:
    served.shown.seen = Shown(well()).seen
    browser.look(scripts=False)
    browser.go(served.url)
    served.shown.seen = Shown(eventful()).seen
    wait_until(
        lambda: browser.value("document.querySelector('h1')?.innerText") == "Critical", "it was loaded again", RENEWED_S
    )
    browser.look()


def test_everything_can_be_reached_with_the_keyboard(browser: Chromium, served: Served) -> None:
    """The first stop leads past the head; whatever scrolls can be focused."""
    browser.look(width=PHONE)
    browser.go(served.url)
    for kind in ("keyDown", "keyUp"):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.value("document.activeElement.className") == "skip"
    scrolling = "[...document.querySelectorAll('main *')].filter((one) => one.scrollWidth > one.clientWidth + 1"
    scrolling += " && getComputedStyle(one).overflowX === 'auto')"
    assert browser.value(f"{scrolling}.length") > 0
    assert browser.value(f"{scrolling}.every((one) => one.tabIndex === 0)")
