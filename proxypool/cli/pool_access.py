"""`proxypool pool credentials` and `proxypool pool secure`: who may use a pool."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxypool.cli.confirm import YesOption, require_confirmation, unbroken
from proxypool.cli.settings import Settings
from proxypool.core.access import ADMIN, MACHINE, Access, AccessRole, Grant, digest_of
from proxypool.core.errors import InvalidInput

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import Difference

SUFFIX = ".secret"
Directories = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="DIRECTORY", help="Of `pool credentials`. Two while secrets are changed.", show_default=False
    ),
]


def credentials(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Made if need be.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which would be made.")] = False,
) -> None:
    """Make a secret for each role, in files of a directory. Those that are there already are kept.

    Nothing is sent anywhere. Give each machine the one of its role, as zookeeper.secret_file, and put the directory
    where only you can read it.
    """
    from proxypool.adapters.secret_file import make_secret

    if not dry_run:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"cannot make {directory}: {error.strerror}") from error
    for role in AccessRole:
        path = directory / f"{role}{SUFFIX}"
        if path.exists():
            typer.echo(f"kept {path}")
        elif dry_run:
            typer.echo(f"would make {path}")
        else:
            make_secret(path)
            typer.echo(f"made {path}")


def secure(
    context: typer.Context,
    directories: Directories = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which nodes would change, and how.")] = False,
    take_away: Annotated[
        bool, typer.Option("--open", help="Take all access lists away: everybody may do everything again.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Give every node of the pool in ZooKeeper its access list, so that each role may do its part and no more.

    All daemons and commands must have their user and secret first: whoever has none can do nothing afterwards. Doing
    it again is fine; it does what is left, and gives hosts that have registered since what is theirs.
    """
    settings: Settings = context.obj
    if bool(directories) is take_away:
        raise InvalidInput("give the directory of the secrets, or --open")
    wanted = _access(directories) if directories else None
    from proxypool.adapters.zookeeper import Securing

    pool = settings.load().pool
    with settings.session() as session:
        securing = Securing(session)
        securing.read()
        if dry_run:
            _rehearse(securing.differences(wanted))
            return
        if wanted is None:
            require_confirmation(f"Open pool {pool} to everybody who reaches ZooKeeper?", yes=yes)
            with unbroken("the access lists are being taken away"):
                changed = securing.open()
            typer.echo(f"pool {pool} is open to everybody who reaches ZooKeeper: {_lists(changed)} taken away")
            return
        with unbroken("the access lists are being written"):
            changed = securing.secure(wanted)
    roles = ", ".join(dict.fromkeys(who.partition(":")[0] for who in wanted.digests))
    typer.echo(f"pool {pool} is open to {roles} alone: {_lists(changed)} changed")


def _lists(count: int) -> str:
    return f"{count} access list{'' if count == 1 else 's'}"


def _access(directories: Iterable[Path]) -> Access:
    """Everybody who has a secret in one of the directories.

    Raises:
        InvalidInput: there is no administrator among them.
        AccessDenied: a secret cannot be read, or others could read it.
    """
    from proxypool.adapters.secret_file import read_secret

    found = []
    for directory in directories:
        if not directory.is_dir():
            raise InvalidInput(f"{directory} is no directory: make it with `proxypool pool credentials {directory}`")
        files = [(role, directory / f"{role}{SUFFIX}") for role in AccessRole]
        found += [digest_of(role, read_secret(str(path))) for role, path in files if path.exists()]
    if not any(who.startswith(f"{ADMIN}:") for who in found):
        where = " or ".join(str(directory) for directory in directories)
        raise InvalidInput(f"there is no {ADMIN}{SUFFIX} in {where}: nobody could change the pool any more")
    return Access(digests=tuple(dict.fromkeys(found)))


def _rehearse(differences: Iterable[Difference]) -> None:
    count = 0
    for count, one in enumerate(differences, 1):  # noqa: B007 - the last one is how many there are
        typer.echo(f"{one.path}: {_text(one.now)} -> {_text(one.wanted)}")
    typer.echo(f"would change {_lists(count)}" if count else "unchanged")


def _text(grants: Iterable[Grant]) -> str:
    """Who may do what, without the digests."""
    return " ".join(f"{_name(one)}={one.permissions}" for one in grants) or "nobody"


def _name(grant: Grant) -> str:
    name = grant.who.partition(":")[0]
    return "its-host" if name == MACHINE else name
