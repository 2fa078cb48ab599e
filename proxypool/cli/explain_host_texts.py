"""Why a function host is as it is, in words: its agent, subnets and whether they are served, problems. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from proxypool.cli.explain_node_texts import uptime
from proxypool.core.checks import Level
from proxypool.core.status import HostReport, SubnetReport
from proxypool.core.units import some_of


def host_paragraphs(host: HostReport, subnets: Sequence[SubnetReport], now: float) -> list[str]:
    """The explanation. `subnets`: those that it uses."""
    parts = (" ".join(_what(host, now)), " ".join(_uses(host, subnets)), _death(host))
    return [part for part in parts if part]


def _what(host: HostReport, now: float) -> Iterator[str]:
    places = f"underlay address {host.underlay}, tunnel address {host.tunnel_address}"
    if host.is_alive:
        yield f"Host {host.id} is there: its agent{uptime(host, now)}, {places}."
    else:
        yield (
            f"The agent of host {host.id} ({places}) is not connected to ZooKeeper: the machine is down, cut off, or "
            "the agent does not run. If the machine is there, what is attached goes on, and nothing is attached anew."
        )
    for problem in host.problems:
        yield f"Problem: {problem}."


def _uses(host: HostReport, subnets: Sequence[SubnetReport]) -> Iterator[str]:
    if host.attachments is not None:
        yield f"{host.attachments or 'No'} instance{' is' if host.attachments == 1 else 's are'} attached."
    if not subnets:
        yield "It uses no subnet."
        return
    yield f"It uses {len(subnets)} subnet{'' if len(subnets) == 1 else 's'}: {some_of([one.id for one in subnets])}."
    unwell = [one for one in subnets if one.level is not Level.OK]
    if not unwell:
        yield "They are well." if len(subnets) > 1 else "It is well."
        return
    told = some_of([f"{one.id} ({one.level.value})" for one in unwell])
    yield f"Not well: {told}; see `proxypool explain {unwell[0].id}`."


def _death(host: HostReport) -> str:
    return "If its agent died now, no traffic would be touched." if host.is_alive else ""
