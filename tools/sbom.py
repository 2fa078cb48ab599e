# ruff: noqa: INP001 - tools are no package
"""Write the bill of materials of what is installed with proxypool, as CycloneDX 1.6 JSON: `python tools/sbom.py DIR`.

Names, versions and hashes are the locks'; licences and who needs whom the installed packages' own metadata say. What
requirements/runtime.txt has is required; what an extra adds is optional; what builds, tests or checks is not in it.
The same locks give the same bytes: no time, but SOURCE_DATE_EPOCH if it is set, and a serial number made of the rest.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import tomllib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from proxypool import __version__  # noqa: E402 - the checkout must be found first

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]{64}[ \\]*)+)", re.MULTILINE)
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_LICENCE = "License :: OSI Approved :: "
_LONG = 100
"""Characters: some packages have the whole text of their licence in the field for its name."""
Locked = Mapping[str, tuple[str, tuple[str, ...]]]
"""Name -> version, and the hashes of its archives."""


def locked(name: str) -> Locked:
    """What a lock says."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return {
        str(canonicalize_name(found[1])): (found[2], tuple(_HASH.findall(found[3]))) for found in _LOCKED.finditer(text)
    }


def needs(name: str, extras: Iterable[str] = ()) -> Iterator[str]:
    """The packages that an installed one needs here."""
    for text in metadata.requires(name) or ():
        yield from _wanted(Requirement(text), extras)


def _wanted(requirement: Requirement, extras: Iterable[str]) -> Iterator[str]:
    marker: Marker | None = requirement.marker
    if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
        yield str(canonicalize_name(requirement.name))


def closure(requirements: Iterable[str]) -> set[str]:
    """All that these requirements bring."""
    found: set[str] = set()
    todo = [(str(canonicalize_name(one.name)), tuple(one.extras)) for one in map(Requirement, requirements)]
    while todo:
        name, extras = todo.pop()
        if name not in found:
            found.add(name)
            todo += [(below, ()) for below in needs(name, extras)]
    return found


def document() -> dict[str, Any]:
    """The bill of materials.

    Raises:
        KeyError: an extra needs what the lock does not have: run `make lock`.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime, everything = locked("runtime"), locked("dev")
    optional = closure(text for some in project.get("optional-dependencies", {}).values() for text in some)
    chosen = {name: everything[name] for name in sorted({*runtime, *optional})}
    refs = {name: f"pkg:pypi/{name}@{version}" for name, (version, _) in chosen.items()}
    own = f"pkg:pypi/{project['name']}@{__version__}"
    direct = {str(canonicalize_name(Requirement(text).name)) for text in project["dependencies"]}
    direct |= {
        str(canonicalize_name(Requirement(text).name))
        for some in project["optional-dependencies"].values()
        for text in some
    }
    below = [(refs[name], sorted({refs[one] for one in needs(name) if one in refs})) for name in chosen]
    bill: dict[str, Any] = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            **_moment(),
            "tools": {"components": [{"type": "application", "name": "tools/sbom.py", "version": __version__}]},
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": project["name"],
                "version": __version__,
                "purl": own,
                "description": project["description"],
            },
        },
        "components": [
            _component(name, refs[name], *chosen[name], scope="required" if name in runtime else "optional")
            for name in chosen
        ],
        "dependencies": [
            {"ref": ref, "dependsOn": those} for ref, those in [(own, sorted(refs[name] for name in direct)), *below]
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))
    return {**bill, "serialNumber": f"urn:uuid:{serial}"}


def _component(name: str, ref: str, version: str, hashes: Iterable[str], *, scope: str) -> dict[str, Any]:
    """One package. Each archive that the lock allows has a hash: its wheels, and its source."""
    licence = _licence(name)
    return {
        "type": "library",
        "bom-ref": ref,
        "name": name,
        "version": version,
        "scope": scope,
        "purl": ref,
        "hashes": [{"alg": "SHA-256", "content": one} for one in sorted(hashes)],
        **({"licenses": [licence]} if licence else {}),
    }


def _licence(name: str) -> dict[str, Any] | None:
    """As the package says: an SPDX expression, or a name."""
    found = metadata.metadata(name)
    if expression := found.get("License-Expression"):
        return {"expression": expression}
    told = (found.get("License") or "").strip()
    classified = [one.removeprefix(_LICENCE) for one in found.get_all("Classifier") or () if one.startswith(_LICENCE)]
    text = told if told and len(told) <= _LONG and "\n" not in told else " OR ".join(classified)
    return {"license": {"name": text}} if text else None


def _moment() -> dict[str, str]:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch)))} if epoch.isdecimal() else {}


def main(directory: str) -> None:
    """Write it."""
    path = Path(directory) / f"proxypool-{__version__}.cdx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    bill = document()
    path.write_text(json.dumps(bill, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{path}: {len(bill['components'])} packages\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "dist")
