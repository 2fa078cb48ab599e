"""The command line without a pool: help, versions, configuration, usage."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import proxypool
from proxypool.cli.exits import ExitCode
from proxypool.cli.main import COMMANDS, app
from proxypool.cli.tree import whole
from proxypool.core.errors import InvalidInput, PermanentError, TransientError


def run(*words: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    variables = {"PROXYPOOL_CONFIG": "", "PROXYPOOL_ZOOKEEPER": "", "PROXYPOOL_POOL": "", **environment}
    result = CliRunner().invoke(app, words, env=variables, prog_name="proxypool")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_version() -> None:
    """For bug reports."""
    assert run("version") == (0, f"proxypool {proxypool.__version__}\n", "")


def test_help_lists_every_command_in_order() -> None:
    """With its summary, without loading it."""
    code, out, _ = run("--help")
    assert code == 0
    found = [out.index(f"\n  {name} ") for name, _, _ in COMMANDS]
    assert found == sorted(found)


@pytest.mark.parametrize(("name", "module", "summary"), COMMANDS)
def test_a_command_says_of_itself_what_the_list_says(name: str, module: str, summary: str) -> None:
    """The list's summaries are copies, as its modules are not loaded for it."""
    command = get_command(importlib.import_module(module).app)
    assert (command.help or "").splitlines()[0].removesuffix(" SIGTERM ends it; traffic goes on.") == summary
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: proxypool {name} ")


@pytest.mark.parametrize("name", [name for name, module, _ in COMMANDS if name not in ("status", "version", "lab")])
def test_every_option_and_command_has_a_help_text(name: str) -> None:
    """Short, and a sentence."""
    module = next(module for known, module, _ in COMMANDS if known == name)
    group = get_command(importlib.import_module(module).app)
    for command in getattr(group, "commands", {"": group}).values():
        assert command.help.strip().splitlines()[0].endswith(".")
        for parameter in command.params:
            assert parameter.help or parameter.name in ("node", "host"), f"{command.name} {parameter.name}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("statsu",), "No such command 'statsu'. Did you mean 'status'?"),
        (("pol", "show"), "Did you mean 'pool'?"),
        (("pool", "aply", "-"), "Did you mean 'apply'?"),
        (("--zokeeper", "x", "status"), "--zookeeper"),
        (("pool", "init", "--tunnel", "ipip"), "'ipip' is not one of 'gre', 'vxlan'"),
    ],
)
def test_usage_errors_exit_with_2_and_suggest(words: tuple[str, ...], message: str) -> None:
    """Nothing on standard output."""
    code, out, err = run(*words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in err


def test_without_words_the_help_is_shown() -> None:
    """As most programs of this kind do."""
    code, out, err = run()
    assert code == ExitCode.USAGE
    assert "Commands:" in out + err


def test_config_check_names_what_was_meant(tmp_path: Path) -> None:
    """Exit 1 and one line for a file that is wrong; what it says for one that is right."""
    file = tmp_path / "proxypool.toml"
    file.write_text('pool = "p"\n[node]\nunderlay = "eth0"\n')
    assert run("config", "check", str(file)) == (
        0,
        f"{file}: ok - pool p, ZooKeeper 127.0.0.1:2181, roles: node\n",
        "",
    )
    assert run("--config", str(file), "config", "check")[0] == 0
    assert run("config", "check", PROXYPOOL_CONFIG=str(file))[0] == 0
    file.write_text('[node]\nunderley = "eth0"\n')
    code, out, err = run("config", "check", str(file))
    assert (code, out) == (ExitCode.FAILED, "")
    assert err == f"error: {file}: line 2: unknown key node.underley: did you mean node.underlay?\n"


def test_a_label_that_is_none_is_refused_before_anything_is_asked() -> None:
    for label in ("baidu-vpc", "=x"):
        code, _, err = run("subnet", "add", "s1", "--cidr", "172.16.101.0/24", "--label", label)
        assert (code, err) == (1, f"error: --label {label!r} is not KEY=VALUE\n")


def test_config_check_looks_at_the_provider(tmp_path: Path) -> None:
    """It is there, and its table is one that it understands."""
    file = tmp_path / "proxypool.toml"
    file.write_text('[provider]\nname = "command"\n[provider.command]\nprogram = ["/etc/proxypool/provider"]\n')
    assert run("config", "check", str(file))[0] == 0
    file.write_text('[provider]\nname = "command"\n[provider.command]\nprogramm = ["/etc/proxypool/provider"]\n')
    code, _, err = run("config", "check", str(file))
    meant = "did you mean provider.command.program?"
    assert (code, err) == (1, f"error: {file}: unknown key provider.command.programm: {meant}\n")


def test_config_check_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    """The path is in the message."""
    missing = tmp_path / "none.toml"
    code, _, err = run("config", "check", str(missing))
    assert (code, err) == (1, f"error: cannot read the configuration {missing}: No such file or directory\n")


@pytest.mark.parametrize("role", ["node", "host"])
def test_a_daemon_without_its_section_says_what_is_missing(tmp_path: Path, role: str) -> None:
    """Before anything is imported or touched."""
    file = tmp_path / "proxypool.toml"
    file.write_text('pool = "p"\n')
    code, _, err = run("run", role, "--config", str(file))
    assert code == ExitCode.FAILED
    assert f"{file} has no section [{role}]" in err


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidInput("x"), 1), (PermanentError("x"), 1), (TransientError("x"), 1), (KeyboardInterrupt(), 130)],
)
def test_errors_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int
) -> None:
    """Without a traceback."""

    def fail(_path: object) -> None:
        raise error

    monkeypatch.setattr("proxypool.cli.config.read_config", fail)
    found, out, err = run("config", "check", "x")
    assert (found, out) == (code, "")
    assert err == ("" if code == 130 else "error: x\n")


def test_ctrl_c_is_quiet_from_the_first_moment_on() -> None:
    """Also while modules are still being imported."""
    code = (
        "import sys\n"
        "class Impatient:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'proxypool.cli.settings': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Impatient())\n"
        "from proxypool.cli.start import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (ExitCode.INTERRUPTED, "", "")


CHANGES_NOTHING = frozenset({"status", "list", "show", "plan", "history", "simulate", "attachments", "check", "schema"})
"""Last words of commands that only look."""
OTHERS_WITHOUT_REHEARSAL = frozenset({
    "explain", "doctor", "upgrade-check", "bundle", "completion", "version", "run node", "run host", "run controller",
    # On the path of every cold start; `host detach` takes it back.
    "host attach",
})  # fmt: skip


def test_every_command_that_changes_something_can_be_rehearsed() -> None:
    """With --dry-run. The lab is for breaking things."""
    leaves = [command for command in whole().walk() if not command.commands and command.path[0] != "lab"]
    assert len(leaves) > 30
    lacking = {
        " ".join(command.path)
        for command in leaves
        if command.path[-1] not in CHANGES_NOTHING
        and "--dry-run" not in {name for one in command.options for name in one.names}
    }
    assert lacking <= OTHERS_WITHOUT_REHEARSAL | {"topology", "events"}


def test_what_removes_something_asks_first() -> None:
    """Or can be taken back at once: `--yes` is there where it asks."""
    found = {" ".join(one.path): {name for option in one.options for name in option.names} for one in whole().walk()}
    for name in ("pair remove", "subnet remove", "node drain", "pair switchover"):
        assert "--yes" in found[name]
    for name in ("pair remove", "pair drain", "pair set", "pool apply"):
        assert "--accept-risk" in found[name]


@pytest.mark.parametrize(
    ("code", "title"),
    [("PP007", "# PP007 member-not-reporting"), ("pd013", "# PD013 keepalived-"), ("PU002", "# PU002 no-fit-")],
)
def test_a_codes_runbook_is_printed_without_a_pool(code: str, title: str) -> None:
    """At 3 a.m. ZooKeeper may be what is away."""
    status, out, err = run("explain", code)
    assert (status, err) == (0, "")
    assert out.startswith(title)
    assert "## What to type" in out


def test_a_code_that_there_is_not_is_said_so() -> None:
    assert run("explain", "PP999") == (
        1,
        "",
        "error: there is no code PP999: `proxypool status`, `proxypool doctor` and `proxypool upgrade-check` name those there are\n",
    )
