"""A pair with its members, as a document and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from proxypool.cli.health_texts import check_lines
from proxypool.cli.output import fields, terminal_width
from proxypool.cli.views import draining, last_change, member_table
from proxypool.core.documents import to_builtins
from proxypool.core.model import PairState
from proxypool.core.pausing import said
from proxypool.core.units import ago

if TYPE_CHECKING:
    from proxypool.core.status import PairReport, PoolStatus, SubnetReport


def pair_document(subnet: SubnetReport, pair: PairReport) -> dict[str, object]:
    """For `-o json` and the like."""
    return {"subnet": subnet.id, **to_builtins(pair)}


def pair_text(status: PoolStatus, subnet: SubnetReport, pair: PairReport, *, wide: bool) -> str:
    """Everything of it, as `pair show` prints it."""
    about = fields(
        (
            ("pair", f"{subnet.id}/{pair.id}"),
            ("level", pair.level.value),
            ("HaVip", str(pair.havip)),
            ("held by", ", ".join(pair.havip_holders)),
            ("VRRP id", str(pair.vrid)),
            ("egress address", str(pair.egress_address or "")),
            *((("answered by", ", ".join(pair.egress_holders)),) if pair.egress_address else ()),
            *((("state sync", _sync(pair)),) if pair.egress_address else ()),
            ("state", pair.state),
            *((("provider", pair.provider),) if pair.provider else ()),
            ("weight", str(pair.weight)),
            ("mode", pair.mode),
            ("probe", str(pair.probe or "")),
            *((("paused", _paused(pair, status.at)),) if pair.paused_since is not None else ()),
            *((("draining", draining(pair, status.at)),) if pair.state == PairState.DRAINING else ()),
            ("elected", pair.elected or ""),
            ("epoch", str(pair.epoch or "")),
            ("last change", last_change(pair, status.at)),
        )
    )
    only = msgspec.structs.replace(status, subnets=(msgspec.structs.replace(subnet, pairs=(pair,)),))
    width = terminal_width()
    parts = (about, check_lines(pair.checks, width=width), member_table(only, wide=wide, width=width))
    return "\n\n".join(part for part in parts if part)


def _paused(pair: PairReport, now: float) -> str:
    """For how long, who said so and why."""
    return f"for {ago(pair.paused_since, now)}{said(pair.paused_by, pair.pause_reason)}"


def _sync(pair: PairReport) -> str:
    """Whether the members tell each other their connections."""
    return ", ".join(f"{member.node} {member.sync}" for member in pair.members if member.sync)
