# ruff: noqa: INP001 - tools are no package
"""Write docs/reference/config.md from the types of the configuration: `python tools/gen_config_docs.py`.

tests/unit/test_reference_docs.py fails when the page is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

from msgspec import Struct

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool.core.config import DEFAULT_PATH, PATH_VARIABLE, Config  # noqa: E402 - the checkout must be found first
from proxypool.core.config_file import PER_SUBNET  # noqa: E402
from proxypool.core.reloading import is_reloaded  # noqa: E402
from tools.struct_docs import Field, attribute_docs, cell, fields, one_line  # noqa: E402

TARGET = ROOT / "docs" / "reference" / "config.md"
HEAD = f"""# Configuration

Written by `tools/gen_config_docs.py` from `proxypool/core/config.py`; do not edit.

One TOML file for all daemons and commands of a machine: `--config`, else `${PATH_VARIABLE}`, else
`{DEFAULT_PATH}`. `proxypool config check` reads it, and names the key that was meant when one is not
known. A daemon needs its own section (`[node]`, `[host]`, `[controller]`), which may be empty where nothing in it is
required, and reads the file when it starts.

SIGHUP (`systemctl reload`) has a daemon read it again. It takes all of it over, or nothing: a file that is not valid,
or in which a key of that daemon was changed that needs a restart (column *change*), is refused, and the old one stays
in force. `systemctl reload` fails then, and the daemon says why: [A changed configuration](../how-to/upgrade.md).
"""


def render() -> str:
    """The whole page."""
    tables = _sections("", Config)
    return HEAD + "".join(tables)


def _sections(path: str, kind: type[Struct]) -> list[str]:
    """The table of a section and of the sections in it."""
    nested = _nested(kind)
    left_out = {*nested, *(PER_SUBNET if path == "controller.policy" else ())}
    own = [one for one in fields(kind) if one.name not in left_out]
    title = f"`[{path}]`" if path else "At the top of the file"
    text = one_line(kind.__doc__ or "")
    found = [f"\n## {title}\n\n{'' if not path else text + chr(10) + chr(10)}{_table(path, own)}"]
    if path == "provider":
        found.append(PROVIDERS)
    for name, inner in nested.items():
        found += _sections(f"{path}.{name}" if path else name, inner)
    return found


PROVIDERS = """
The tables of the providers that come with proxypool are in [providers](../providers.md): `[provider.command]`,
`[provider.baidu]`.
"""


def _nested(kind: type[Struct]) -> dict[str, type[Struct]]:
    """Fields that are sections of their own."""
    found: dict[str, type[Struct]] = {}
    for name, hint in get_type_hints(kind).items():
        options = [one for one in getattr(hint, "__args__", (hint,)) if isinstance(one, type)]
        inner = next((one for one in options if issubclass(one, Struct)), None)
        if inner is not None:
            found[name] = inner
    return found


def _table(path: str, own: list[Field]) -> str:
    rows = [
        f"| `{one.name}` | {cell(_kind(one))} | {cell(one.default)} | {_change(path, one.name)} "
        f"| {cell(_meaning(one))} |\n"
        for one in own
    ]
    return "| key | value | default | change | |\n| --- | --- | --- | --- | --- |\n" + "".join(rows)


def _change(path: str, name: str) -> str:
    return "reload" if is_reloaded(f"{path}.{name}" if path else name) else "restart"


def keys(path: str = "", kind: type[Struct] = Config) -> Iterator[str]:
    """Every key, with its sections before it."""
    nested = _nested(kind)
    for one in fields(kind):
        name = f"{path}.{one.name}" if path else one.name
        if one.name in nested:
            yield from keys(name, nested[one.name])
        else:
            yield name


def _kind(one: Field) -> str:
    if one.name == "tables":
        return "`[provider.NAME]`"
    return f"{one.kind}, in {one.unit}" if one.unit and one.kind.startswith(("integer", "number")) else one.kind


def _meaning(one: Field) -> str:
    return re.sub(r"docs/([a-z-]+)\.md", r"[\1](../\1.md)", one.meaning)


def undocumented(path: str = "", kind: type[Struct] = Config) -> Iterator[str]:
    """Keys that nothing is said about in the source."""
    nested = _nested(kind)
    said = attribute_docs(kind)
    for one in fields(kind):
        name = f"{path}.{one.name}" if path else one.name
        if one.name in nested:
            yield from undocumented(name, nested[one.name])
        elif one.name not in said and name not in {f"controller.policy.{key}" for key in PER_SUBNET}:
            yield name


if __name__ == "__main__":
    TARGET.write_text(render())
