"""docs/reference/cli.md and the manual pages are what the commands are."""

from __future__ import annotations

from proxypool.cli.tree import whole
from tools.gen_cli_docs import MANUAL, REFERENCE, manual, reference

AGAIN = "write it again: python tools/gen_cli_docs.py"


def test_the_reference_is_not_stale() -> None:
    assert REFERENCE.read_text() == reference(), AGAIN


def test_the_manual_pages_are_not_stale() -> None:
    """Each is there as it is made now, and there is no other."""
    pages = manual()
    assert sorted(path.name for path in MANUAL.glob("*")) == sorted(pages), AGAIN
    for name, text in pages.items():
        assert (MANUAL / name).read_text() == text, f"{name}: {AGAIN}"


def test_every_command_and_option_is_told() -> None:
    text, pages = reference(), manual()
    for command in whole().walk():
        assert command.name in text
        page = pages[f"proxypool-{command.path[0]}.1" if command.path else "proxypool.1"].replace("\\-", "-")
        for option in command.options:
            for name in option.names:
                assert f"`{name}`" in text
                assert rf"\fB{name}\fR" in page


def test_no_line_of_the_reference_is_too_long() -> None:
    assert [line for line in reference().splitlines() if len(line) > 120 and "`power-off" not in line] == []
