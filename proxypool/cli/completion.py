"""`proxypool completion`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


class Shell(StrEnum):
    """Those that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.", show_default=False)],
) -> None:
    """Print a script that completes commands, options and names in a shell.

    bash: proxypool completion bash > /usr/share/bash-completion/completions/proxypool

    zsh: proxypool completion zsh > /usr/local/share/zsh/site-functions/_proxypool

    fish: proxypool completion fish > /etc/fish/completions/proxypool.fish
    """
    from proxypool.cli import completion_scripts
    from proxypool.cli.tree import whole

    write = {
        Shell.BASH: completion_scripts.bash,
        Shell.ZSH: completion_scripts.zsh,
        Shell.FISH: completion_scripts.fish,
    }[shell]
    typer.echo(write(whole()), nl=False)
