"""`proxypool host`: hosts of the pool, from ZooKeeper; and the instances of this host, from its agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from proxypool.cli.confirm import YesOption, require_confirmation
from proxypool.cli.output import Format, OutputOption, fields, listing, show, single, table, terminal_width, yes
from proxypool.cli.reading import read_text
from proxypool.cli.rehearsal import DryRunOption
from proxypool.cli.settings import Settings
from proxypool.cli.status import read_status
from proxypool.cli.views import host_table
from proxypool.core.errors import InvalidInput
from proxypool.core.status import PoolStatus
from proxypool.core.units import ago

if TYPE_CHECKING:
    from proxypool.adapters.agent import Agent

MAX_LIST = 16 << 20
"""Bytes of a list of attachments."""

app = typer.Typer(
    help="Function hosts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


SocketOption = Annotated[
    str | None,
    typer.Option("--socket", metavar="PATH", help="The agent's, instead of <run_dir>/host.sock.", show_default=False),
]
AddressOption = Annotated[
    list[str] | None, typer.Option("--address", metavar="ADDRESS", help="Of an instance; may be given several times.")
]
FileOption = Annotated[
    str | None,
    typer.Option(
        "--file", metavar="FILE", help='A line for each: {"address": "…", "subnet": "…"}; "-": standard input.'
    ),
]


@app.command("list")
def list_hosts(
    context: typer.Context,
    attachments: Annotated[
        bool, typer.Option("--attachments", help="The attachments of this host, as its agent has them.")
    ] = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the hosts; with --attachments, the instances attached on this one."""
    if attachments:
        _show_attachments(context.obj, None, [], output)
        return
    status = _status(context.obj)
    show(
        listing("Host", status.hosts),
        output,
        lambda wide: host_table(status.hosts, status.at, wide=wide, width=terminal_width()),
    )


@app.command("show")
def show_host(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", show_default=False)],
    output: OutputOption = Format.TABLE,
) -> None:
    """Show a host."""
    from proxypool.adapters.zookeeper import NotFound

    status = _status(context.obj)
    found = next((item for item in status.hosts if item.id == host), None)
    if found is None:
        raise NotFound("host", host, (item.id for item in status.hosts))
    items = (
        ("host", found.id),
        ("alive", yes(found.is_alive)),
        ("underlay", str(found.underlay)),
        ("tunnel address", str(found.tunnel_address)),
        ("version", found.version),
        ("up", ago(found.since, status.at)),
        ("metrics", found.metrics),
        ("subnets", ", ".join(found.subnets)),
        ("attachments", "" if found.attachments is None else str(found.attachments)),
        ("problems", "; ".join(found.problems)),
    )
    show(single("Host", found), output, lambda _wide: fields(items))


@app.command()
def forget(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", show_default=False)],
    yes: YesOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Remove a host that is gone, with its tunnel address and its places in subnets; its agent must not run.

    Also for a machine that was installed anew, which has another key than the one that its old entries belong to.
    """
    from proxypool.adapters.zookeeper import entries_of, forget_host

    settings: Settings = context.obj
    with settings.session() as session:
        if dry_run:
            for path in entries_of(session, host):
                typer.echo(f"would remove {path}")
            return
        entries_of(session, host)
        require_confirmation(f"Remove host {host}? Instances that it still has lose their subnets.", yes=yes)
        forget_host(session, host)
    typer.echo(f"removed host {host}")


def _status(settings: Settings) -> PoolStatus:
    with settings.store() as store:
        return read_status(store)


@app.command()
def attach(
    context: typer.Context,
    address: AddressOption = None,
    subnet: Annotated[
        list[str] | None, typer.Option("--subnet", metavar="SUBNET", help="May be given several times.")
    ] = None,
    file: FileOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="End the attachments that the addresses have to other subnets.")
    ] = False,
    socket: SocketOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Attach instances of this host to subnets: all of them, or, if one cannot be, none. The same again is fine."""
    pairs = _from_file(file) if file else []
    if (address is None) != (subnet is None):
        raise InvalidInput("--address and --subnet belong together")
    pairs += [(one, name) for one in address or () for name in subnet or ()]
    if not pairs:
        raise InvalidInput("nothing to attach: give --address and --subnet, or --file")
    wanted = [(one, name) for one, name in pairs if name is not None]
    if len(wanted) != len(pairs):
        raise InvalidInput(f"{file}: each line needs a subnet")
    with _agent(context.obj, socket) as agent:
        began = time.monotonic()
        done = agent.attach(wanted, replace=replace)
        took_ms = (time.monotonic() - began) * 1e3
    _show_outcome(done, output, f"in {took_ms:.1f} ms")


@app.command()
def detach(
    context: typer.Context,
    address: AddressOption = None,
    subnet: Annotated[
        list[str] | None,
        typer.Option("--subnet", metavar="SUBNET", help="Default: all that the address is attached to."),
    ] = None,
    file: FileOption = None,
    socket: SocketOption = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Format.TABLE,
) -> None:
    """Detach instances of this host. Their connections to the subnet are cut. What is not attached is fine."""
    pairs = _from_file(file) if file else []
    names: list[str | None] = list(subnet) if subnet else [None]
    pairs += [(one, name) for one in address or () for name in names]
    if not pairs:
        raise InvalidInput("nothing to detach: give --address, or --file")
    with _agent(context.obj, socket) as agent:
        if dry_run:
            _rehearse_detaching(agent, pairs, output)
            return
        done = agent.detach(pairs)
    _show_outcome(done, output, "")


def _rehearse_detaching(agent: Agent, pairs: list[tuple[str, str | None]], output: Format) -> None:
    """What is attached of it."""
    found = [
        {"address": item["address"], "subnet": item["subnet"], "state": "would be detached"}
        for item in agent.attachments()
        if (item["address"], item["subnet"]) in pairs or (item["address"], None) in pairs
    ]
    _show_outcome(found, output, "") if found else typer.echo("nothing of it is attached")


@app.command("attachments")
def list_attachments(
    context: typer.Context,
    address: AddressOption = None,
    socket: SocketOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the attachments of this host, as its agent has them."""
    _show_attachments(context.obj, socket, address or [], output)


def _show_attachments(settings: Settings, socket: str | None, addresses: list[str], output: Format) -> None:
    with _agent(settings, socket) as agent:
        items = [item for item in agent.attachments() if not addresses or item["address"] in addresses]
    header = ("ADDRESS", "SUBNET", "SINCE", "OWNER")
    now = time.time()
    rows = [(str(i["address"]), str(i["subnet"]), ago(i["since"], now), str(i["owner"])) for i in items]
    show(listing("Attachment", items), output, lambda _wide: table(header, rows))


@contextmanager
def _agent(settings: Settings, socket: str | None) -> Iterator[Agent]:
    from proxypool.adapters.agent import SOCKET_NAME, Agent

    agent = Agent(Path(socket) if socket else Path(settings.load().run_dir) / SOCKET_NAME)
    try:
        yield agent
    finally:
        agent.close()


class _Item(msgspec.Struct):
    """A line of a file of attachments."""

    address: str
    subnet: str | None = None


def _from_file(name: str) -> list[tuple[str, str | None]]:
    text = read_text(name, MAX_LIST)
    found: list[tuple[str, str | None]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = msgspec.json.decode(line, type=_Item)
        except (ValueError, RecursionError):
            raise InvalidInput(f'{name} line {number}: expected {{"address": "…", "subnet": "…"}}') from None
        found.append((item.address, item.subnet))
    return found


def _show_outcome(done: list[dict[str, Any]], output: Format, took: str) -> None:
    lines = [f"{item['address']} {item['subnet'] or '(anything)'}: {item['state']} {took}".rstrip() for item in done]
    show(listing("Attachment", done), output, lambda _wide: "\n".join(lines))
