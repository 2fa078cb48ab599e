"""What happened, and how large subnets are to be: the lower half of the page. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from proxypool.core.history import Phase, Record
from proxypool.core.scaling.overview import ControllerState, ScaleStatus, SubnetScale
from proxypool.core.units import ago, brief, duration
from proxypool.web.markup import Child, Markup, join, tag
from proxypool.web.parts import badge, boxed_table, moment, section

MAX_RECORDS = 15
_CHANGES = ("When", "Pair", "Kind", "From", "To", "Why", "Detection", "Blackout", "Who")
_SIZES = ("When", "Pair", "Kind", "Pairs", "Why", "Took", "Outcome")
_SCALING = ("Subnet", "Mode", "Pairs", "Wanted", "Limits", "Busiest", "Cause", "Held by")


def history(records: Sequence[Record], now: float) -> Markup:
    """The last changes of master, and of size, the newest first."""
    newest = tuple(reversed(records))
    changes = [_change(one, now) for one in newest if not (one.is_scaling or one.is_pausing)][:MAX_RECORDS]
    sizes = [_size(one, now) for one in newest if one.is_scaling][:MAX_RECORDS]
    if not changes and not sizes:
        return section("history", "History", tag("p", "Nothing has happened yet.", class_="quiet"))
    return section(
        "history",
        "History",
        boxed_table("Changes of master", _CHANGES, changes) if changes else None,
        boxed_table("Changes of size", _SIZES, sizes) if sizes else None,
    )


def _when(record: Record, now: float) -> Markup:
    return join(f"{ago(record.at, now)} ago", moment(record.at))


def _subject(record: Record) -> str:
    return f"{record.subnet}/{record.pair}" if record.pair else record.subnet


def _change(record: Record, now: float) -> tuple[Child, ...]:
    return (
        _when(record, now),
        _subject(record),
        record.kind,
        record.from_node,
        record.to_node,
        record.reason,
        brief(record.phases.get(Phase.DETECTION.value)),
        brief(record.phases.get(Phase.BLACKOUT.value)),
        ": ".join(part for part in (record.who, record.note) if part),
    )


def _size(record: Record, now: float) -> tuple[Child, ...]:
    numbers = [str(number) if number is not None else "?" for number in (record.pairs_before, record.pairs_after)]
    return (
        _when(record, now),
        _subject(record),
        record.kind,
        " → ".join(numbers),
        record.reason,
        "" if record.took_s is None else duration(record.took_s),
        badge("degraded", record.error) if record.error else badge("ok", "done"),
    )


def scaling(status: ScaleStatus) -> Markup:
    """How large subnets are to be, and whether somebody sees to it."""
    managed = [one for one in status.subnets if one.mode is not None]
    if not managed:
        nobody = "No subnet is managed by the controller: pairs come and go by hand."
        return section("scaling", "Scaling", tag("p", nobody, class_="quiet"))
    rows = [_subnet(one) for one in managed]
    return section(
        "scaling",
        "Scaling",
        tag("p", _controller(status.controller), class_="quiet"),
        boxed_table("Managed subnets; loads are in pairs, 1.0 fills one", _SCALING, rows),
    )


def _controller(state: ControllerState) -> Markup:
    if not state.running:
        return badge("degraded", "No controller runs: no pair comes or goes.")
    if state.is_old:
        return badge("degraded", "The leading controller has not reported lately.")
    others = f", {state.running - 1} standing by" if state.running > 1 else ""
    return badge("ok", f"{state.leader} leads{others}, provider {state.provider or 'none'}")


def _subnet(subnet: SubnetScale) -> tuple[Child, ...]:
    busiest = subnet.busiest
    return (
        subnet.id,
        badge("degraded", "paused") if subnet.paused_since is not None else subnet.mode,
        ", ".join(
            f"{number} {word}"
            for number, word in ((subnet.active, "active"), (subnet.coming, "coming"), (subnet.draining, "draining"))
            if number or word == "active"
        ),
        None if subnet.wanted is None else str(subnet.wanted),
        f"{subnet.min_pairs}-{subnet.max_pairs}",
        f"{busiest[0]} {busiest[1]:.2f}" if busiest else None,
        badge("degraded", subnet.blocked) if subnet.blocked else subnet.waits or subnet.cause,
        ", ".join(subnet.held),
    )
