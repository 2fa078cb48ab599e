"""`proxypool pair`."""

from __future__ import annotations

import difflib
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET

from proxypool.cli import drain as draining
from proxypool.cli import pausing, rehearsal
from proxypool.cli.arguments import PairArgument, SubnetArgument
from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.drain import DEFAULT_WAIT_S, RiskOption
from proxypool.cli.drain_texts import numbers_text
from proxypool.cli.output import Format, OutputOption, listing, show, single, terminal_width
from proxypool.cli.pair_texts import pair_document, pair_text
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.serving import TimeoutOption, told_if_interrupted, wait_until_served
from proxypool.cli.settings import Settings
from proxypool.cli.status import find_pair, read_status
from proxypool.cli.switchover import switchover
from proxypool.cli.views import pair_table
from proxypool.core.draining import Risk
from proxypool.core.errors import InvalidInput
from proxypool.core.model import MAX_WEIGHT, FailoverMode
from proxypool.core.requests import PairRequest, PairSettings, parse_member
from proxypool.core.validation import require_weight

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxypool.adapters.zookeeper import PoolStore
    from proxypool.core.status import PoolStatus

app = typer.Typer(
    help="Pairs of nodes that serve a subnet behind a HaVip.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)

WeightOption = Annotated[
    int | None,
    typer.Option("--weight", help=f"Share of new connections, relative to other pairs, 1-{MAX_WEIGHT}. Default: 1."),
]
ModeOption = Annotated[
    FailoverMode | None,
    typer.Option(
        help="fast: VRRP takes over. strict: never two masters, but a longer outage. Default: fast, or what it has."
    ),
]
ProbeOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Whom members ask through their ENIs. Default: their gateway, if any."),
]


@app.command()
def add(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    havip: Annotated[str, typer.Option(metavar="ADDRESS", help="Floating underlay address of the pair.")],
    member: Annotated[
        list[str],
        typer.Option(
            "--member",
            metavar="NODE,eni=NAME,address=IP/LEN[,gateway=IP]",
            help="Given twice: the nodes, with their card in the customer's subnet.",
        ),
    ],
    vrid: Annotated[int | None, typer.Option(help="VRRP id, 1-255. Default: the smallest free on both nodes.")] = None,
    egress_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Floating address in the customer's subnet: what its servers see, on either member."
        ),
    ] = None,
    weight: WeightOption = None,
    mode: ModeOption = None,
    probe: ProbeOption = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is served.")] = False,
    timeout: TimeoutOption = 30.0,
    dry_run: DryRunOption = False,
) -> None:
    """Add a pair to a subnet. The same again changes nothing. No connection that exists moves."""
    settings: Settings = context.obj
    if weight is not None:
        require_weight(weight)
    request = PairRequest(
        id=pair,
        havip=_address(havip, "--havip"),
        members=tuple(parse_member(text) for text in member),
        vrid=vrid,
        egress_address=_address(egress_address, "--egress-address") if egress_address else None,
        weight=weight,
        mode=mode,
        probe=_address(probe, "--probe") if probe else None,
    )
    with settings.store() as store:
        if dry_run:
            rehearsal.addition(store, subnet, request)
            _warn_of_unknown_nodes(store, (place.node for place in request.members))
            return
        spec = store.pairs.add(subnet, request)
        with told_if_interrupted(subnet, pair):
            typer.echo(f"pair {subnet}/{spec.id}: {numbers_text(spec)}")
            _warn_of_unknown_nodes(store, (place.node for place in spec.members))
            if wait:
                wait_until_served(store, subnet, pair, None, timeout, f"pair {subnet}/{pair}")


def _address(text: str | None, option: str) -> IPv4Address:
    try:
        return IPv4Address(text or "")
    except ValueError as error:
        raise InvalidInput(f"{option}: {error}") from error


def _warn_of_unknown_nodes(store: PoolStore, nodes: Iterable[str]) -> None:
    known = sorted(store.read_snapshot().nodes)
    for node in nodes:
        if node not in known:
            near = difflib.get_close_matches(node, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            typer.echo(f"note: no daemon has registered as {node} yet{hint}", err=True)


@app.command("list")
def list_pairs(
    context: typer.Context,
    subnet: Annotated[str | None, typer.Argument(help="Only of this subnet.", show_default=False)] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the pairs."""
    status = _status(context.obj, subnet)
    found = [(one, pair) for one in status.subnets for pair in one.pairs]
    show(
        listing("Pair", [pair_document(*item) for item in found]),
        output,
        lambda wide: pair_table(found, status.at, wide=wide, width=terminal_width()),
    )


@app.command("show")
def show_pair(
    context: typer.Context, subnet: SubnetArgument, pair: PairArgument, output: OutputOption = Format.TABLE
) -> None:
    """Show a pair and its members."""
    status = _status(context.obj, subnet)
    one, found = find_pair(status, pair)
    show(single("Pair", pair_document(one, found)), output, lambda wide: pair_text(status, one, found, wide=wide))


def _status(settings: Settings, subnet: str | None) -> PoolStatus:
    with settings.store() as store:
        return read_status(store, subnet)


@app.command("set")
def set_pair(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    weight: Annotated[
        int | None, typer.Option(help=f"Share of new connections, relative to other pairs, 1-{MAX_WEIGHT}.")
    ] = None,
    mode: Annotated[
        FailoverMode | None,
        typer.Option(help="fast: VRRP takes over. strict: never two masters, but a longer outage."),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS|none", help="Whom members ask through their ENIs; none: the gateway."),
    ] = None,
    egress_address: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|none",
            help="Floating address in the customer's subnet. Connections that left with another one break.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    accept_risk: RiskOption = None,
) -> None:
    """Change what can be changed while a pair serves. Only another egress address moves connections that exist."""
    settings: Settings = context.obj
    target = _address(probe, "--probe") if probe not in {None, "none"} else None
    chosen = PairSettings(weight=weight, mode=mode, probe=target, no_probe=probe == "none")
    said = {"weight": weight, "mode": mode, "probe": probe}
    what = ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
    if not what and egress_address is None:
        raise InvalidInput("nothing to change: give --weight, --mode, --probe or --egress-address")
    if weight is not None:
        require_weight(weight)
    egress = _address(egress_address, "--egress-address") if egress_address not in {None, "none"} else None
    with settings.store() as store:
        if dry_run:
            wanted = UNSET if egress_address is None else egress
            rehearsal.setting(store, subnet, pair, chosen, wanted, accept_risk or ())
            return
        if egress_address is not None:
            is_changed = store.pairs.set_egress(subnet, pair, egress, accept_risk or ()).what == "changed"
            _say_set(f"{subnet}/{pair}", f"egress address {egress or 'none'}", is_changed=is_changed)
        if what:
            is_changed = store.pairs.set(subnet, pair, chosen).what == "changed"
            _say_set(f"{subnet}/{pair}", what, is_changed=is_changed)


def _say_set(pair: str, what: str, *, is_changed: bool) -> None:
    typer.echo(f"pair {pair}: {what}" if is_changed else f"pair {pair} has {what}")


@app.command()
def drain(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Until no connection is left, and show how far it is.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help=f"Wait so long; else with --wait {DEFAULT_WAIT_S:g}."),
    ] = None,
    dry_run: DryRunOption = False,
    accept_risk: RiskOption = None,
) -> None:
    """Send a pair no new connections; those it has go on. Again is no error, and `undrain` takes it back."""
    settings: Settings = context.obj
    wait_s = timeout if timeout is not None else DEFAULT_WAIT_S if wait else None
    with settings.store() as store:
        if dry_run:
            rehearsal.drain(store, subnet, pair, wait_s, accept_risk or ())
            return
        draining.begin(store, subnet, pair, accept_risk or ())
        if wait_s is not None:
            left = draining.wait(store, subnet, pair, wait_s)
            if left.count != 0:
                raise draining.give_up(subnet, pair, left, wait_s)


@app.command()
def undrain(context: typer.Context, subnet: SubnetArgument, pair: PairArgument, dry_run: DryRunOption = False) -> None:
    """Send a pair new connections again."""
    settings: Settings = context.obj
    with settings.store() as store:
        if dry_run:
            rehearsal.undrain(store, subnet, pair)
            return
        is_changed = store.pairs.undrain(subnet, pair).what == "changed"
    now = "takes new connections again" if is_changed else "is not draining"
    typer.echo(f"pair {subnet}/{pair} {now}")


@app.command()
def remove(
    context: typer.Context,
    subnet: SubnetArgument,
    pair: PairArgument,
    yes: YesOption = False,
    drain_first: Annotated[
        bool, typer.Option("--drain", help="Drain it, wait until no connection is left, then remove it.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="With --drain: wait so long; then the pair stays draining, or goes if drop-connections is accepted.",
        ),
    ] = DEFAULT_WAIT_S,
    dry_run: DryRunOption = False,
    accept_risk: RiskOption = None,
) -> None:
    """Remove a pair. Its HaVip goes, and with it every connection that it still has."""
    settings: Settings = context.obj
    accepted = frozenset(accept_risk or ())
    with settings.store() as store:
        store.pairs.require(subnet, pair)
        if dry_run:
            rehearsal.removal(store, subnet, pair, timeout if drain_first else None)
        rehearsal.require_removable(store, subnet, pair, accepted, will_drain=drain_first)
        if dry_run:
            return
        breaks = "It is drained first." if drain_first else "Every connection through it breaks."
        require_confirmation(f"remove pair {subnet}/{pair}? {breaks}", yes=yes)
        if drain_first:
            # Whether its subnet can do without it was asked above.
            draining.begin(store, subnet, pair, {Risk.STOP_NEW_CONNECTIONS})
            left = draining.wait(store, subnet, pair, timeout)
            if left.count != 0 and Risk.DROP_CONNECTIONS not in accepted:
                raise draining.give_up(subnet, pair, left, timeout)
        store.pairs.remove(subnet, pair, accepted)
    typer.echo(f"removed pair {subnet}/{pair}")


app.command()(switchover)
app.command()(pausing.pause)
app.command()(pausing.resume)
