"""Finds the provider that the configuration names, and makes it.

Ours and others' are found in the same way, by entry point; a package that is installed beside proxypool is enough.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

from proxypool.core.config import ProviderConfig
from proxypool.core.errors import InvalidInput
from proxypool.providers.contract import GROUP, Factory, PoolView, Provider


def create(config: ProviderConfig, view: Callable[[], PoolView]) -> Provider:
    """The configured provider.

    Args:
        config: the section `[provider]`.
        view: what the controller knows of the pool, whenever it is asked.

    Raises:
        InvalidInput: there is no such provider, it cannot be imported, or its table is not valid.
    """
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    for name, where in (*((table, f"[provider.{table}]") for table in config.tables), (config.name, "provider.name")):
        if name not in found:
            raise InvalidInput(_unknown(name, where, sorted(found)))
    factory = _load(_only(found[config.name]))
    return factory(config.tables.get(config.name, {}), view)


def check(config: ProviderConfig) -> None:
    """Whether the configured provider can be made.

    Raises:
        InvalidInput: see `create`.
    """
    create(config, PoolView)


def _unknown(name: str, where: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{where}: there is no provider {name!r}; {hint}Installed are: {', '.join(known)}"


def _only(points: list[EntryPoint]) -> EntryPoint:
    if len(points) > 1:
        packages = " and ".join(sorted(_package(point) for point in points))
        raise InvalidInput(f"{packages} both have a provider {points[0].name}: remove one of them")
    return points[0]


def _load(point: EntryPoint) -> Factory:
    try:
        factory: Factory = point.load()
    except ImportError as error:
        raise InvalidInput(f"the provider {point.name} cannot be imported: {error}. {_what_to_do(point)}") from error
    except Exception as error:
        text = f"the provider {point.name}, {point.value}, cannot be imported: {type(error).__name__}: {error}."
        raise InvalidInput(f"{text} It belongs to {_package(point)}") from error
    return factory


def _what_to_do(point: EntryPoint) -> str:
    """Packages keep what only one provider needs in an extra of its name."""
    if point.dist is not None and point.name in (point.dist.metadata.get_all("Provides-Extra") or ()):
        return f"Install it: pip install '{point.dist.name}[{point.name}]'"
    return f"It belongs to {_package(point)}"


def _package(point: EntryPoint) -> str:
    return f"the package {point.dist.name} {point.dist.version}" if point.dist is not None else "no package"
