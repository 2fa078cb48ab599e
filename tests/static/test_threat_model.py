"""Every test that the threat model names is there: what is said to be tested is tested."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security" / "threat-model.md"
NAMED = re.compile(r"`(tests/[a-z_/]+\.py)(?:::(test_\w+))?`")


def test_every_named_test_exists() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 40, "the page is written in this way"
    wrong = []
    for file, name in named:
        path = ROOT / file
        if not path.is_file():
            wrong.append(file)
        elif name and f"def {name}(" not in path.read_text():
            wrong.append(f"{file}::{name}")
    assert wrong == []


def test_every_file_of_fuzz_tests_is_a_door_of_the_page() -> None:
    named = {file for file, _ in NAMED.findall(PAGE.read_text())}
    assert {f"tests/fuzz/{path.name}" for path in (ROOT / "tests" / "fuzz").glob("test_*.py")} <= named
