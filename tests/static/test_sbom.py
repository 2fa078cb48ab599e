"""The bill of materials says what the locks say, and nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """As `make sbom` writes it."""
    return json.loads(written(tmp_path_factory.mktemp("sbom")))  # type: ignore[no-any-return]


def written(folder: Path) -> bytes:
    subprocess.run([sys.executable, ROOT / "tools" / "sbom.py", folder], check=True, capture_output=True, timeout=60)
    (path,) = folder.iterdir()
    return path.read_bytes()


def lock(name: str) -> dict[str, tuple[str, set[str]]]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    heads = [(block.split("==")[0], re.split(r"==|\s", block)[1], block) for block in blocks]
    return {name: (version, set(re.findall("sha256:([0-9a-f]+)", block))) for name, version, block in heads}


def test_what_is_installed_is_in_it_with_the_versions_and_hashes_of_the_lock(bill: dict[str, Any]) -> None:
    runtime, everything = lock("runtime"), lock("dev")
    found = {one["name"]: one for one in bill["components"]}
    assert {name for name, one in found.items() if one["scope"] == "required"} == set(runtime)
    assert "bce-python-sdk" in found, "of the extra"
    assert not {"pytest", "ruff", "mypy", "pip-audit"} & set(found), "no tools"
    for name, one in found.items():
        version, hashes = everything[name]
        assert (one["version"], {each["content"] for each in one["hashes"]}) == (version, hashes)
        assert one["purl"] == f"pkg:pypi/{name}@{version}"


def test_who_needs_whom_leads_to_packages_that_are_in_it(bill: dict[str, Any]) -> None:
    refs = {one["bom-ref"] for one in bill["components"]}
    own = bill["metadata"]["component"]["bom-ref"]
    graph = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert set(graph) == {*refs, own}
    reached, todo = set[str](), [own]
    while todo:
        ref = todo.pop()
        if ref not in reached:
            reached.add(ref)
            todo += graph[ref]
    assert reached == {*refs, own}, "everything is there for something"


def test_most_packages_say_their_licence(bill: dict[str, Any]) -> None:
    assert [one["name"] for one in bill["components"] if "licenses" not in one] == []


def test_the_same_locks_make_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert written(tmp_path / "one") == written(tmp_path / "two")
