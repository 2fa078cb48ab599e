"""`proxypool explain`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import replace

from proxypool.cli.explain_host_texts import host_paragraphs
from proxypool.cli.explain_node_texts import node_paragraphs
from proxypool.cli.explain_pair_texts import DAY_S, pair_paragraphs
from proxypool.cli.explain_texts import explanation, serving
from proxypool.cli.health_texts import LEVEL_COLOURS, check_lines
from proxypool.cli.output import Format, OutputOption, paint, show, terminal_width, wants_colour, wrap
from proxypool.cli.settings import Settings
from proxypool.core import checks
from proxypool.core.assembly import assemble
from proxypool.core.checks import Level, worst
from proxypool.core.doctor import report
from proxypool.core.errors import PermanentError, ProxypoolError
from proxypool.core.explanation import Explanation, changes_since, checks_about_host, checks_about_node, heir_of
from proxypool.core.history import last_of_each
from proxypool.core.pool_view import PoolView
from proxypool.core.scaling.orders import stays_on
from proxypool.core.status import PairReport, PoolStatus, SubnetReport

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolSession

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

WIDTH = 80
_CODE = re.compile(r"(PP|PD|PU)\d{3}", re.IGNORECASE)
NODES, HOSTS = "nodes/", "hosts/"


@app.command()
def explain(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="SUBNET|SUBNET/PAIR|NODE|HOST|CODE",
            help="Also as `status` names it: nodes/NODE, hosts/HOST.",
            show_default=False,
        ),
    ],
    pair: Annotated[
        str | None, typer.Argument(metavar="PAIR", help="SUBNET PAIR is SUBNET/PAIR.", show_default=False)
    ] = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """Say in words why a subnet, pair, node or host is as it is; or what to do about a code.

    A subnet: its size, what holds it, what the controller does next. A pair: who is master, by which rule, why the
    other is not, the last failover, what would happen if the master died. A node: its pairs and roles, orders, room,
    problems. A host: its agent, the subnets that it uses, problems. A code of `status`, `doctor` or `upgrade-check`:
    its runbook, with or without ZooKeeper.
    """
    if not pair and _CODE.fullmatch(what):
        of_code = _of_code(what.upper())
        show(of_code, output, lambda _wide: "\n\n".join(of_code.text))
        return
    settings: Settings = context.obj
    with settings.session() as session:
        from proxypool.adapters.zookeeper import PoolStore

        view = PoolStore(session).read_view()
        status = assemble(view, time.time())
        found = _explain(f"{what}/{pair}" if pair else what, view, status, session)
    show(found, output, lambda _wide: _text(found))


def _explain(what: str, view: PoolView, status: PoolStatus, session: PoolSession) -> Explanation:
    name, _, rest = what.partition("/")
    subnet = next((one for one in status.subnets if one.id == name), None)
    if subnet is not None and not rest:
        return _of_subnet(subnet, status)
    if subnet is not None:
        pair = next((one for one in subnet.pairs if one.id == rest.partition("/")[0]), None)
        if pair is not None:
            return _of_pair(subnet, pair, view, status, session)
    if subnet is None or what.startswith(NODES):
        node = what.removeprefix(NODES)
        if any(one.id == node for one in status.nodes):
            return _of_node(node, view, status)
    if subnet is None or what.startswith(HOSTS):
        host = what.removeprefix(HOSTS)
        if any(one.id == host for one in status.hosts):
            return _of_host(host, view, status)
    raise _unknown(what, status, subnet)


def _unknown(what: str, status: PoolStatus, subnet: SubnetReport | None) -> ProxypoolError:
    from proxypool.adapters.zookeeper import NotFound

    if subnet is not None:
        return NotFound("pair", what.partition("/")[2], (one.id for one in subnet.pairs), f"in subnet {subnet.id}")
    names = [one.id for many in (status.subnets, status.nodes, status.hosts) for one in many]
    names += [f"{one.id}/{pair.id}" for one in status.subnets for pair in one.pairs]
    return NotFound("subnet, pair, node or host", what, names, near=3)


def _of_code(code: str) -> Explanation:
    """The runbook of a check, or of a finding of doctor or upgrade-check.

    Raises:
        PermanentError: there is no such code, or this installation has no runbooks.
    """
    from proxypool.adapters.runbooks import find_runbook
    from proxypool.core import upgrade
    from proxypool.core.doctor import codes as doctor

    levels = {kind.value[0]: kind.value[2] for kind in checks.Code}
    levels |= {kind.value[0]: report.LEVELS.get(kind.value[2], Level.OK) for kind in doctor.Code}
    levels |= {kind.value[0]: upgrade.LEVELS[kind.value[2]] for kind in upgrade.Code}
    if code not in levels:
        where = "`proxypool status`, `proxypool doctor` and `proxypool upgrade-check`"
        raise PermanentError(f"there is no code {code}: {where} name those there are")
    text = find_runbook(code)
    if text is None:
        raise PermanentError(f"this installation has no runbooks: see docs/runbooks, or the status page, for {code}")
    return Explanation(
        about="code",
        subject=code,
        at=time.time(),
        level=levels[code],
        text=tuple(text.strip().split("\n\n")),
        checks=(),
    )


def _of_subnet(subnet: SubnetReport, status: PoolStatus) -> Explanation:
    scale = explanation(subnet.scale, status.controller, status.at)
    return Explanation(
        about="subnet",
        subject=subnet.id,
        at=status.at,
        level=subnet.level,
        text=tuple(part for part in (serving(subnet), *scale.split("\n\n")) if part),
        checks=(*subnet.checks, *(check for pair in subnet.pairs for check in pair.checks)),
        controller=status.controller,
        subnet=subnet.scale,
    )


def _of_pair(
    subnet: SubnetReport, pair: PairReport, view: PoolView, status: PoolStatus, session: PoolSession
) -> Explanation:
    from proxypool.adapters.zookeeper import PoolHistory

    log, name = PoolHistory(session), f"{subnet.id}/{pair.id}"
    names = log.names()
    newest = last_of_each(names).get(name)
    records = log.read([newest] if newest else ()).records
    last = records[0] if records else None
    heir = heir_of(subnet, pair, pair.master, status.at) if pair.master else None
    text = pair_paragraphs(
        subnet,
        pair,
        queue=[one.node for one in view.snapshot.elections.get(name, ())],
        last=last,
        changes=changes_since(names, subnet.id, pair.id, status.at - DAY_S),
        heir=heir,
        now=status.at,
    )
    return Explanation(
        about="pair",
        subject=name,
        at=status.at,
        level=pair.level,
        text=tuple(text),
        checks=pair.checks,
        pair=pair,
        last_change=last,
        heirs=(heir,) if heir else (),
    )


def _of_node(name: str, view: PoolView, status: PoolStatus) -> Explanation:
    node = next(one for one in status.nodes if one.id == name)
    places = [
        (subnet, pair)
        for subnet in status.subnets
        for pair in subnet.pairs
        if any(member.node == name for member in pair.members)
    ]
    heirs = [heir_of(subnet, pair, name, status.at) for subnet, pair in places if pair.master == name]
    checks = checks_about_node(status, name)
    return Explanation(
        about="node",
        subject=f"{NODES}{name}",
        at=status.at,
        level=worst(check.level for check in checks),
        text=tuple(node_paragraphs(node, places, stays_on(name, view.snapshot), heirs, status.at)),
        checks=checks,
        node=node,
        heirs=tuple(heirs),
    )


def _of_host(name: str, view: PoolView, status: PoolStatus) -> Explanation:
    host = next(one for one in status.hosts if one.id == name)
    checks = checks_about_host(view, name)
    return Explanation(
        about="host",
        subject=f"{HOSTS}{name}",
        at=status.at,
        level=worst(check.level for check in checks),
        text=tuple(host_paragraphs(host, [one for one in status.subnets if one.id in host.subnets], status.at)),
        checks=checks,
        host=host,
    )


def _text(found: Explanation) -> str:
    colour, width = wants_colour(), terminal_width()
    level = paint(found.level.value, LEVEL_COLOURS[found.level], enabled=colour)
    parts = [f"{found.about} {found.subject.removeprefix(NODES).removeprefix(HOSTS)}: {level}"]
    # A table has lines of its own.
    parts += [part if "\n" in part else wrap(part, WIDTH) for part in found.text]
    if found.checks:
        # "next: explain" is what was just done.
        here = f"proxypool explain {found.subject}"
        checks = [replace(check, command="") if check.command == here else check for check in found.checks]
        parts.append(check_lines(checks, colour=colour, width=width))
    return "\n\n".join(parts)
