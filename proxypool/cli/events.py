"""`proxypool events`."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.event_texts import event_line
from proxypool.cli.history import SinceOption, parse_span, require_known
from proxypool.cli.output import Format, OutputOption, to_json, to_yaml, wants_colour
from proxypool.cli.settings import Settings
from proxypool.core.documents import to_builtins
from proxypool.core.errors import InvalidInput, TransientError
from proxypool.core.event_changes import Moment, events_between, moment
from proxypool.core.events import Event, events_of, last, standing
from proxypool.core.history import name_of, newest

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolFollower, PoolSession
    from proxypool.core.pool_view import PoolView

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

LOOK_EVERY_S = 1.0
"""Some things are wrong only when they have been so for a while: so often they are looked at although nothing came."""
SETTLE_S = 0.1
"""What happens at one moment is told in the order of its times."""


@app.command()
def events(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="SUBNET[/PAIR]", help="Only of this subnet or pair.", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Then show what happens, as it happens, until Ctrl-C.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", help="The newest N of the past; 0: none.")] = 20,
    since: SinceOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Show what happens: roles, failovers, scaling, drains, checks.

    Also changes of the pool, and what begins and ends to be wrong. The past is what the history keeps, and since when
    things are as they are; the rest is known only to who follows. With -o json one document per line, with -o yaml one
    after "---".
    """
    settings: Settings = context.obj
    if limit < 0:
        raise InvalidInput(f"--limit {limit} is less than nothing: give 0 or more")
    age_s = None if since is None else parse_span(since)
    subnet, _, pair = (what or "").partition("/")
    teller = _Teller(subnet, pair, output)
    with settings.session() as session:
        from proxypool.adapters.zookeeper import PoolFollower, PoolStore

        follower = PoolFollower(session)
        if follow:
            follower.start()
        try:
            view = PoolStore(session).read_view()
            past = _past(session, view, teller)
            if not past:
                require_known(session, subnet, pair)
            since_at = 0.0 if age_s is None else time.time() - age_s
            teller.tell(last((one for one in past if one.at >= since_at), limit))
            if follow:
                _follow(follower, moment(view, time.time()), teller)
        finally:
            follower.stop()


class _Teller:
    """Prints what concerns the subnet, or the pair; a record that came while the past was read, once."""

    def __init__(self, subnet: str, pair: str, output: Format) -> None:
        self.subnet, self.pair, self._output = subnet, pair, output
        self._told: set[str] = set()

    def concerns(self, event: Event) -> bool:
        return not self.subnet or event.concerns(self.subnet, self.pair)

    def tell(self, events: Iterable[Event]) -> None:
        for event in events:
            name = name_of(event.record).text if event.record is not None else ""
            if self.concerns(event) and name not in self._told:
                typer.echo(self._text(event), color=wants_colour())
            if name:
                self._told.add(name)
        sys.stdout.flush()

    def _text(self, event: Event) -> str:
        match self._output:
            case Format.JSON:
                return to_json(event, indent=None)
            case Format.YAML:
                return f"---\n{to_yaml(to_builtins(event))}"
            case _:
                return event_line(event, wide=self._output is Format.WIDE, colour=wants_colour())


def _past(session: PoolSession, view: PoolView, teller: _Teller) -> list[Event]:
    """What is known of the past."""
    from proxypool.adapters.zookeeper import PoolHistory

    log = PoolHistory(session)
    names = newest(log.names(), limit=10_000, subnet=teller.subnet or None, pair=teller.pair or None)
    found = list(events_of(log.read(names).records))
    return [event for event in (*found, *standing(view)) if teller.concerns(event)]


def _follow(follower: PoolFollower, before: Moment, teller: _Teller) -> None:
    """Tell what happens from a first look on."""
    gc.enable()
    was_connected = True
    while True:
        follower.wait(LOOK_EVERY_S)
        time.sleep(SETTLE_S)
        if follower.is_connected is not was_connected:
            was_connected = follower.is_connected
            typer.echo("connected again" if was_connected else "waiting: ZooKeeper does not answer", err=True)
        if not was_connected:
            continue
        try:
            found = list(events_of(follower.new_records()))
        except TransientError:
            # Told by the next look.
            found = []
        view = follower.view()
        if view is not None:
            after = moment(view, time.time())
            found += events_between(before, after)
            before = after
        teller.tell(sorted(found, key=lambda event: event.at))
