"""How large subnets are and are to be: read and written for several commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer
from msgspec.structs import replace

from proxypool.cli.scaling_texts import size_text, what_follows
from proxypool.cli.settings import Settings
from proxypool.core.scaling.model import ScalingSpec
from proxypool.core.scaling.overview import ScaleStatus, only_managed, scale_status
from proxypool.core.scaling.requests import ScalingRequest

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolStore


def read_scale_status(store: PoolStore, subnet: str | None) -> ScaleStatus:
    """How large the managed subnets are, or the one that is named.

    Raises:
        NotFound: there is no such subnet.
    """
    whole = scale_status(store.read_scaling(), time.time())
    if subnet is None:
        return only_managed(whole)
    from proxypool.adapters.zookeeper import NotFound

    found = tuple(one for one in whole.subnets if one.id == subnet)
    if not found:
        raise NotFound("subnet", subnet, (one.id for one in whole.subnets))
    return replace(whole, subnets=found)


def apply_scaling(settings: Settings, subnet: str, request: ScalingRequest, *, is_dry_run: bool = False) -> None:
    """Say how large a subnet is to be, and what follows.

    Raises:
        InvalidInput: the numbers cannot be.
        NotFound: there is no such subnet.
    """
    with settings.store() as store:
        wanted, is_changed = (store.scaling.plan if is_dry_run else store.scaling.set)(subnet, request)
        follows = follows_text(store, subnet, wanted)
    if is_changed:
        typer.echo(f"{'would give ' if is_dry_run else ''}subnet {subnet}: {follows}")
    else:
        typer.echo(f"subnet {subnet} has {size_text(wanted)}")


def follows_text(store: PoolStore, subnet: str, scaling: ScalingSpec) -> str:
    """What a subnet is to have, and what that leads to."""
    found = read_scale_status(store, subnet)
    return f"{size_text(scaling)}; {what_follows(found.subnets[0], scaling, found.controller.running)}"
