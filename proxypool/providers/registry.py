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
    found = {point.name: point for point in entry_points(group=GROUP)}
    for name, where in (*((table, f"[provider.{table}]") for table in config.tables), (config.name, "provider.name")):
        if name not in found:
            raise InvalidInput(_unknown(name, where, sorted(found)))
    factory = _load(found[config.name])
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


def _load(point: EntryPoint) -> Factory:
    try:
        factory: Factory = point.load()
    except ImportError as error:
        raise InvalidInput(
            f"the provider {point.name} cannot be imported: {error}.{_what_to_install(point)}"
        ) from error
    except AttributeError as error:
        raise InvalidInput(f"the provider {point.name} is not in its package as {point.value}: {error}") from error
    return factory


def _what_to_install(point: EntryPoint) -> str:
    """Packages keep what only one provider needs in an extra of its name."""
    if point.dist is None:
        return ""
    package = point.dist.name
    if point.name in (point.dist.metadata.get_all("Provides-Extra") or ()):
        return f" Install it: pip install '{package}[{point.name}]'"
    return f" It belongs to the package {package} {point.dist.version}"
