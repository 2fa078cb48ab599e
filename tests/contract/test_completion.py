"""The scripts of `proxypool completion` in the shells they are for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from proxypool.cli.tree import whole
from tests.unit.test_cli_commands import run

FAKE = """#!/bin/sh
case "$1 $2" in
    "subnet list") printf 'SUBNET  LEVEL\\ns1  ok\\ns2  ok\\n' ;;
    "pair list") printf 'SUBNET  PAIR\\n%s  p-of-%s\\n' "$3" "$3" ;;
    "node list") printf 'NODE  ALIVE\\nnode-a  yes\\n' ;;
    *) exit 9 ;;
esac
"""
BASH = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_proxypool
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() { : }
_files() { print -l -- files }
_describe() { print -l -- ${${(P)2}%%:*} }
compadd() { shift; print -l -- "$@" }
source "$1"
shift
words=("$@")
CURRENT=$#words
_proxypool
"""
# The last word is what is being typed: empty after a blank.
CASES = [
    ((), "status", "pair completion"),
    (("sta",), "status", None),
    (("pair", ""), "add", "switchover"),
    (("--pool", "x", "pair", ""), "add", "switchover"),
    (("subnet", "spare", ""), "add", "list"),
    (("pair", "show", ""), "s1", "s2"),
    (("pair", "show", "s2", ""), "p-of-s2", None),
    (("pair", "drain", "--timeout", "5", "s1", ""), "p-of-s1", None),
    (("node", "show", ""), "node-a", None),
    (("status", "-o", ""), "json", "yaml"),
    (("pair", "add", "s1", "p1", "--mode", ""), "strict", "fast"),
    (("pair", "drain", "s1", "p1", "--"), "--accept-risk", "--dry-run"),
    (("doctor", "--role", ""), "controller", "node"),
    (("completion", ""), None, None),
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A `proxypool` whose pool is always the same."""
    program = tmp_path / "proxypool"
    program.write_text(FAKE)
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}


def script(shell: str, directory: Path) -> Path:
    """As it is printed."""
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    path = directory / f"script.{shell}"
    path.write_text(out)
    return path


def completed(shell: str, directory: Path, environment: dict[str, str], words: tuple[str, ...]) -> list[str]:
    """What the shell offers for the last word."""
    path = script(shell, directory)
    line = ["proxypool", *(words or ("",))]
    command = {
        "bash": ["bash", "--norc", "-c", BASH, "bash", str(path), *line],
        "zsh": ["zsh", "-f", "-c", ZSH, "zsh", str(path), *line],
        "fish": ["fish", "--no-config", "-c", f'source {path}; complete -C "{" ".join(line)}"'],
    }[shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return [line.split("\t")[0] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(("words", "first", "second"), CASES)
def test_words_are_completed(
    shell: str,
    words: tuple[str, ...],
    first: str | None,
    second: str | None,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    """Commands, options, choices, and names that the pool is asked for; nothing where there is nothing to say."""
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}: apt-get install {shell}")
    found = completed(shell, tmp_path, environment, words)
    if first is None:
        assert set(found) <= {"bash", "zsh", "fish"}
    else:
        assert first in found
        assert all(word in found for word in (second or "").split())
        assert not any(word.startswith("-") for word in found) or words[-1].startswith("-")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(shell: str, tmp_path: Path) -> None:
    """Made of the tree of commands itself."""
    text = script(shell, tmp_path).read_text()
    for command in whole().walk():
        assert " ".join(command.path) in text
        for option in command.options:
            for name in option.names:
                assert (name if shell != "fish" else name.lstrip("-")) in text


def test_of_other_shells_it_says_which_there_are() -> None:
    code, out, err = run("completion", "tcsh")
    assert (code, out) == (2, "")
    assert "'bash', 'zsh', 'fish'" in err
