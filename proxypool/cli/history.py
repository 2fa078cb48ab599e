"""`proxypool history`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli import watching
from proxypool.cli.event_texts import local_time
from proxypool.cli.output import Format, OutputOption, WatchOption, render, table, terminal_width, to_json, wants_colour
from proxypool.cli.settings import Settings
from proxypool.core.errors import InvalidInput
from proxypool.core.history import Phase, Record, RecordList, newest
from proxypool.core.units import brief, duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from proxypool.adapters.zookeeper import PoolSession
    from proxypool.adapters.zookeeper.history import Found

    class _Table(Protocol):
        """Records as a table."""

        def __call__(self, records: Sequence[Record], *, wide: bool, width: int | None = None) -> str: ...


app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

LimitOption = Annotated[int, typer.Option("--limit", "-n", metavar="N", help="The newest N.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only as old as this: 90s, 15m, 1h, 7d.", show_default=False)
]
WATCH_S = 1.0
MINUTE_S = 60.0
_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_HEADER = ("TIME", "PAIR", "KIND", "FROM", "TO", "REASON", "DETECT", "BLACKOUT")
_IF_THERE_IS_ROOM = ("CARRIED", "EPOCH", "GATE", "ELECTION", "NOTE", "WHO")
_HEADER_WIDE = (*_HEADER, "GATE", "ELECTION", "CARRIED", "EPOCH", "WHO", "NOTE")


@app.command()
def history(
    context: typer.Context,
    what: Annotated[
        str | None, typer.Argument(metavar="SUBNET[/PAIR]", help="Only of this subnet or pair.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    since: SinceOption = None,
    output: OutputOption = Format.TABLE,
    watch: WatchOption = False,
) -> None:
    """Show what happened: who became master, when, why, and for how long nobody served.

    The newest comes last.
    """
    print_records(context.obj, what, limit, since, output, watch=watch)


def print_records(
    settings: Settings,
    what: str | None,
    limit: int,
    since: str | None,
    output: Format,
    *,
    watch: bool,
    is_scaling: bool = False,
) -> None:
    """Print records of a pool, subnet or pair; with `is_scaling`, only and all about changes of size."""
    if limit < 1:
        raise InvalidInput(f"--limit {limit} shows nothing: give 1 or more")
    age_s = None if since is None else parse_span(since)
    text = scale_record_table if is_scaling else record_table
    with settings.session() as session:

        def read() -> Found:
            return _read(session, what, limit, age_s, is_scaling=is_scaling)

        if watch:
            watching.watch(lambda: _line_or_text(read().records, output, text), WATCH_S)
        found = read()
    typer.echo(_text(found.records, output, text), color=wants_colour())
    for name, why in found.malformed.items():
        typer.echo(f"note: record {name} cannot be read and is left out: {why}", err=True)


def parse_span(text: str) -> float:
    """Seconds of `90s`, `15m`, `1h` or `7d`.

    Raises:
        InvalidInput: it is none of these.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise InvalidInput(f"--since {text!r} is no length of time: give something like 90s, 15m, 1h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def _read(session: PoolSession, what: str | None, limit: int, age_s: float | None, *, is_scaling: bool) -> Found:
    from proxypool.adapters.zookeeper import PoolHistory

    log = PoolHistory(session)
    subnet, _, pair = (what or "").partition("/")
    since = 0.0 if age_s is None else time.time() - age_s
    names = newest(log.names(), limit, subnet=subnet or None, pair=pair or None, since=since, is_scaling=is_scaling)
    if not names:
        require_known(session, subnet, pair)
    return log.read(names)


def require_known(session: PoolSession, subnet: str, pair: str) -> None:
    """What was removed has a history all the same; what never was is a mistake."""
    from proxypool.adapters.zookeeper import NotFound, PoolStore

    snapshot = PoolStore(session).read_snapshot()
    if subnet and subnet not in snapshot.subnets:
        raise NotFound("subnet", subnet, snapshot.subnets)
    pairs = snapshot.pairs.get(subnet, {})
    if pair and pair not in pairs:
        raise NotFound("pair", pair, pairs, f"in subnet {subnet}")


def _document(records: Sequence[Record]) -> RecordList:
    return RecordList(items=tuple(records))


def _text(records: Sequence[Record], output: Format, text: _Table) -> str:
    return render(_document(records), output, lambda wide: text(records, wide=wide, width=terminal_width()))


def _line_or_text(records: Sequence[Record], output: Format, text: _Table) -> str:
    """While it is watched: as JSON, one document per line."""
    return to_json(_document(records), indent=None) if output is Format.JSON else _text(records, output, text)


def record_table(records: Sequence[Record], *, wide: bool, width: int | None = None) -> str:
    """Records, one per line; what is not known is a dash. A terminal, `width` columns wide, shows more if it can."""
    is_more = wide or width is not None
    rows = [(*_row(record, wide=wide), *(_more(record) if is_more else ())) for record in records]
    header = _HEADER_WIDE if is_more else _HEADER
    return table(header, rows, width=None if wide else width, optional=_IF_THERE_IS_ROOM, says_so=False)


def _row(record: Record, *, wide: bool) -> Sequence[str]:
    return (
        local_time(record.at, wide=wide),
        _subject(record),
        record.kind,
        *_change(record),
        record.reason,
        brief(record.phases.get(Phase.DETECTION.value)),
        brief(record.phases.get(Phase.BLACKOUT.value)),
    )


def _subject(record: Record) -> str:
    return f"{record.subnet}/{record.pair}" if record.pair else record.subnet


def _more(record: Record) -> Sequence[str]:
    return (
        brief(record.phases.get(Phase.GATE.value)),
        brief(record.phases.get(Phase.ELECTION.value)),
        "" if record.carried_over is None else str(record.carried_over),
        str(record.epoch or ""),
        record.who,
        record.error or record.note,
    )


def _change(record: Record) -> tuple[str, str]:
    """From what to what: masters, or numbers of active pairs."""
    if not record.is_scaling or record.pairs_before is None:
        return record.from_node, record.to_node
    return _pairs(record.pairs_before), _pairs(record.pairs_after)


def _pairs(number: int | None) -> str:
    return "" if number is None else f"{number} pair{'' if number == 1 else 's'}"


_SCALE_HEADER = ("TIME", "PAIR", "KIND", "PAIRS", "REASON", "SIGNALS", "TOOK", "OUTCOME")
_SCALE_WIDE = (*_SCALE_HEADER, "FROM", "TO", "BY", "WHO", "NOTE")


def scale_record_table(records: Sequence[Record], *, wide: bool, width: int | None = None) -> str:
    """Changes of size, one per line; what is not known is a dash. A terminal shows more if it can."""
    is_more = wide or width is not None
    rows = [_scale_row(record, wide=wide, is_more=is_more) for record in records]
    header = _SCALE_WIDE if is_more else _SCALE_HEADER
    return table(header, rows, width=None if wide else width, optional=_SCALE_IF_THERE_IS_ROOM, says_so=False)


_SCALE_IF_THERE_IS_ROOM = ("FROM", "TO", "BY", "NOTE", "WHO")


def _scale_row(record: Record, *, wide: bool, is_more: bool) -> Sequence[str]:
    numbers = (record.pairs_before, record.pairs_after)
    row = (
        *(local_time(record.at, wide=wide), _subject(record), record.kind),
        " -> ".join("?" if number is None else str(number) for number in numbers) if any(numbers) else "",
        record.reason,
        _signals(record, wide=wide),
        _took(record.took_s),
        record.error or "done",
    )
    return (*row, record.from_node, record.to_node, record.by, record.who, record.note) if is_more else row


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < MINUTE_S else duration(seconds)


def _signals(record: Record, *, wide: bool) -> str:
    """All of them, or the one that asked for most."""
    loads = sorted(record.signals.items(), key=lambda item: -item[1])
    return ",".join(f"{name} {load:.2f}" for name, load in (loads if wide else loads[:1]))
