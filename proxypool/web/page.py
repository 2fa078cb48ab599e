"""The page: a function of the documents, how old they are, and who serves it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxypool.core.checks import Level
from proxypool.core.history import RecordList
from proxypool.core.scaling.overview import ScaleStatus
from proxypool.core.status import PoolStatus
from proxypool.core.topology import Topology
from proxypool.core.units import duration
from proxypool.web.machines import machines
from proxypool.web.markup import Child, Markup, join, raw, tag
from proxypool.web.overview import findings, under_way, verdict
from proxypool.web.parts import code
from proxypool.web.past import history, scaling
from proxypool.web.picture import picture
from proxypool.web.prose import markdown
from proxypool.web.subnets import subnets

REFRESH_S = 5
"""How often the page renews itself: with JavaScript parts of it, without the whole."""
OLD_S = 15.0
"""What is older than this may no longer be so: the page says so first of all."""
_DOCTYPE = raw("<!doctype html>\n")


@dataclass(frozen=True, slots=True)
class Documents:
    """What a daemon knows of its pool at one moment."""

    status: PoolStatus
    history: RecordList
    topology: Topology
    scaling: ScaleStatus | None = None
    """None: whoever serves the page does not know it, as a node."""


@dataclass(frozen=True, slots=True)
class Face:
    """Who serves the page."""

    role: str
    name: str
    version: str
    runbooks: str
    """URL below which the runbook of a code is."""
    assets: str = ""
    """Changes when style sheet or script do."""


def page(found: Documents, age_s: float, problem: str, face: Face, subnet: str = "") -> Markup:
    """The page. `age_s`: of the documents. `problem`: why there are no newer ones. `subnet`: the only one in it."""
    status = found.status
    content = join(
        _warning(age_s, problem),
        _only(subnet) if subnet else None,
        verdict(status),
        findings(status, face.runbooks),
        under_way(status),
        _topology(found.topology),
        subnets(status),
        scaling(found.scaling) if found.scaling is not None else None,
        history(found.history.items, status.at),
        machines(status),
    )
    title = f"{status.level.value} · {status.pool} · proxypool"
    return _frame(title, status.level, _header(status.pool, age_s, face), content, face)


def empty_page(problem: str, pool: str, face: Face) -> Markup:
    """When nothing is known at all yet."""
    content = tag(
        "section",
        tag("h1", tag("span", "Nothing is known yet")),
        tag("p", problem or "The pool has not been read yet."),
        id="verdict",
        class_="verdict degraded",
        role="status",
        data_live=True,
    )
    return _frame(f"unknown · {pool} · proxypool", Level.DEGRADED, _header(pool, None, face), content, face)


def runbook_page(title: str, text: str, pool: str, face: Face) -> Markup:
    """A runbook, written in Markdown."""
    content = tag("article", markdown(text), class_="runbook")
    return _frame(f"{title} · proxypool", Level.OK, _header(pool, None, face), content, face, refresh=False)


def _warning(age_s: float, problem: str) -> Markup:
    old = f"What you see is {duration(age_s)} old and may no longer be so. " if age_s > OLD_S else ""
    text = f"{old}{problem}".strip()
    return tag("p", text, id="warning", class_="warning" if text else None, role="alert", data_live=True)


def _only(subnet: str) -> Markup:
    return tag("p", "Only subnet ", code(subnet), ". ", tag("a", "Show the whole pool", href="/"), class_="only")


def _topology(found: Topology) -> Markup | None:
    if not any(subnet.pairs for subnet in found.subnets):
        return None
    legend = tag(
        "ul",
        [
            tag("li", tag("span", class_=f"mark {kind}", aria_hidden="true"), word)
            for kind, word in (("master", "master"), ("backup", "backup"), ("critical", "cannot serve"))
        ],
        class_="legend",
    )
    heading = tag("h2", "Topology", id="topology-title")
    return tag(
        "section", heading, legend, picture(found), id="topology", aria_labelledby="topology-title", data_live=True
    )


def _header(pool: str, age_s: float | None, face: Face) -> Markup:
    seen = None if age_s is None else f"read {_age(age_s)} ago, "
    return tag(
        "header",
        tag("a", raw(_LOGO), tag("span", "proxypool"), href="/", class_="brand"),
        tag("p", "pool ", tag("b", pool), class_="pool"),
        tag("p", seen, f"{face.role} {face.name}, {face.version}", id="seen", class_="seen", data_live=True),
    )


def _age(age_s: float) -> str:
    return f"{age_s:.0f} s" if age_s < 60 else duration(age_s)  # noqa: PLR2004 - a minute


_LOGO = (
    '<svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true"><path class="way" d="M3 12h5m8 0h5"/>'
    '<rect class="master" x="8" y="3.5" width="8" height="7" rx="2"/>'
    '<rect class="backup" x="8.75" y="14.25" width="6.5" height="5.5" rx="1.5"/></svg>'
)


def _frame(title: str, level: Level, header: Markup, content: Child, face: Face, *, refresh: bool = True) -> Markup:
    again = tag("noscript", tag("meta", http_equiv="refresh", content=str(REFRESH_S))) if refresh else None
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", title),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", type="image/svg+xml", href=f"/icon-{level.value}.svg"),
        tag("link", rel="stylesheet", href=f"/style.css?{face.assets}"),
        tag("script", src=f"/live.js?{face.assets}", defer=True) if refresh else None,
        again,
    )
    skip = tag("a", "Skip to content", href="#main", class_="skip")
    body = tag("body", skip, header, tag("main", content, id="main"), _footer(face), data_refresh=REFRESH_S)
    return join(_DOCTYPE, tag("html", head, body, lang="en"))


def _footer(face: Face) -> Markup:
    names = (
        ("status", "history", "topology", "scaling") if face.role == "controller" else ("status", "history", "topology")
    )
    links = [tag("li", tag("a", name, href=f"/api/v1/{name}")) for name in (*names, "openapi.json")]
    return tag("footer", tag("p", "The same as JSON:"), tag("ul", links))
