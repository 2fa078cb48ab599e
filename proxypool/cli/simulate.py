"""`proxypool scale simulate`: a traffic trace through the policy and through other autoscalers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from msgspec import convert
from msgspec.structs import asdict, fields

from proxypool.cli.output import Format, OutputOption, show, single, table
from proxypool.cli.reading import MAX_CONFIG, read_text
from proxypool.core.errors import InvalidInput
from proxypool.core.toml import load
from proxypool.core.units import brief, duration

if TYPE_CHECKING:
    from proxypool.core.scaling.fleet import World
    from proxypool.core.scaling.policy import Parameters
    from proxypool.core.scaling.simulate import Load, Outcome, Rival
    from proxypool.core.scaling.trace import Scale, Trace

Settable = TypeVar("Settable", bound="Parameters | World")

MAX_TRACE = 256 << 20
"""Bytes of a trace: ten years of minutes have a quarter of it."""
_HEADER = ("POLICY", "OVERLOAD", "UNSAFE", "SLACK", "ACTIONS/H", "PAIR HOURS", "REACTION", "BROKEN FLOWS")
_HEADER_WIDE = (*_HEADER, "MEAN PAIRS", "PAIRS MOVED/H")


def simulate(
    trace: Annotated[
        str,
        typer.Argument(metavar="TRACE.csv", help="A column of times and one of numbers.", show_default=False),
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE.toml|KEY=VALUE",
            help="Parameters instead of the defaults; may be given again.",
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str, typer.Option(metavar="NAMES", help="Autoscalers to compare with, of hpa, kpa, static; or none.")
    ] = "hpa,kpa,static",
    column: Annotated[
        str | None, typer.Option(metavar="NAME", help="The column, where several have numbers.", show_default=False)
    ] = None,
    pair_capacity: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="What one pair can carry. Default: chosen, and said.", show_default=False),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Of the pool instead of the defaults, as add_s=20; may be given again.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE.svg", help="Also draw it into this file.", show_default=False)
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Replay a traffic trace through the scaling policy, and through other autoscalers."""
    from proxypool.core.scaling.fleet import World
    from proxypool.core.scaling.policy import Parameters
    from proxypool.core.scaling.simulate import replay, replay_rival
    from proxypool.core.scaling.trace import loads_of, parse, scale_of

    if plot is not None and not plot.lower().endswith(".svg"):
        raise InvalidInput(f"--plot {plot}: the plot is an SVG; give a name that ends in .svg, which browsers show")
    rivals = _rivals(against)
    parameters = _settings(Parameters, policy or (), "--policy")
    world = _settings(World, assume or (), "--assume")
    found = parse(read_text(trace, MAX_TRACE), column)
    scale = scale_of(found, pair_capacity)
    loads = loads_of(found, scale)
    outcomes = [
        replay(loads, found.until, world, parameters),
        *(replay_rival(loads, found.until, world, rival) for rival in rivals),
    ]
    if plot is not None:
        _draw(plot, loads, found, outcomes)
    document = _document(trace, found, scale, loads, (world, parameters), outcomes)
    show(document, output, lambda wide: _text(document["trace"], outcomes, wide=wide))


def _rivals(names: str) -> list[Rival]:
    from proxypool.core.scaling.simulate import Rival

    wanted = [] if names.strip() in {"", "none"} else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in set(Rival)]:
        raise InvalidInput(f"--against {', '.join(unknown)}: there are {', '.join(Rival)}, and none")
    return [Rival(name) for name in dict.fromkeys(wanted)]


def _settings(kind: type[Settable], given: Sequence[str], option: str) -> Settable:
    """Defaults, replaced by what TOML files and KEY=VALUE say; the last one counts."""
    known = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for text in given:
        name, is_pair, value = text.partition("=")
        said = {name.strip(): value.strip()} if is_pair else load(read_text(text, MAX_CONFIG), what=text)
        if unknown := [key for key in said if key not in known]:
            raise InvalidInput(f"{option} {text}: there is no {', '.join(unknown)}; there are {', '.join(known)}")
        values |= said
    try:
        return convert(values, kind, strict=False)
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from None


def _draw(path: str, loads: Sequence[Load], trace: Trace, outcomes: Sequence[Outcome]) -> None:
    from proxypool.cli.chart import svg

    picture = svg(loads, trace.until, outcomes, f"{trace.column}: load and pairs")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(picture)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None
    typer.echo(f"drawn: {path}", err=True)


def _document(
    path: str,
    trace: Trace,
    scale: Scale,
    loads: Sequence[Load],
    settings: tuple[World, Parameters],
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    from proxypool.core.scaling.simulate import least_slack, mean_load

    world, parameters = settings
    return single(
        "Simulation",
        {
            "trace": {
                "file": os.path.basename(path),
                "column": trace.column,
                "values": len(trace.points),
                "interval_s": trace.interval_s,
                "span_s": trace.until - trace.points[0][0],
                "pair_capacity": scale.pair_capacity,
                "scaled": scale.why,
                "mean_load_pairs": mean_load(loads, trace.until),
                "largest_load_pairs": max(load.pairs or 0.0 for load in loads),
                "least_slack_fraction": least_slack(loads, trace.until),
                "notes": list(trace.notes),
            },
            "world": asdict(world),
            "parameters": asdict(parameters),
            "policies": {
                outcome.policy: {
                    key: value for key, value in asdict(outcome).items() if key not in {"policy", "timeline"}
                }
                for outcome in outcomes
            },
        },
    )


def _text(trace: Mapping[str, Any], outcomes: Sequence[Outcome], *, wide: bool) -> str:
    lines = [
        f"{trace['file']}: {trace['values']:,} values of {trace['column']!r} in {duration(trace['span_s'])}",
        f"one pair carries {trace['pair_capacity']:,.6g}, {trace['scaled']}",
        f"load in pairs: mean {trace['mean_load_pairs']:.2f}, largest {trace['largest_load_pairs']:.1f}",
        f"least slack that whole pairs can have: {trace['least_slack_fraction']:.1%}",
        *(f"note: {note}" for note in trace["notes"]),
        "",
        table(_HEADER_WIDE if wide else _HEADER, [_row(outcome, wide=wide) for outcome in outcomes]),
    ]
    return "\n".join(lines)


def _row(outcome: Outcome, *, wide: bool) -> tuple[str, ...]:
    row = (
        outcome.policy,
        f"{outcome.overload_fraction:.4%}",
        f"{outcome.unsafe_fraction:.3%}",
        f"{outcome.mean_slack_fraction:.1%}",
        f"{outcome.actions_per_hour:.2f}",
        f"{outcome.pair_hours:,.1f}",
        brief(outcome.reaction_s),
        f"{outcome.broken_flows:,}",
    )
    return (*row, f"{outcome.mean_pairs:.2f}", f"{outcome.pairs_moved_per_hour:.2f}") if wide else row
