"""Secrets come from files, or from systemd credentials, which are files too; never from words of a command line.

A secret that others could have read is none: such a file is refused, not used with a warning.
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
from pathlib import Path

from proxypool.core.errors import AccessDenied

CREDENTIAL = "credential:"
DIRECTORY_VARIABLE = "CREDENTIALS_DIRECTORY"
OF_SERVICES = Path("/run/credentials")
"""Where systemd keeps those of running services: a directory for each unit, which its user and root may enter."""
UNITS = ("proxypool-node.service", "proxypool-host.service", "proxypool-controller.service")
SERVICE_USER = "proxypool"
"""Whose the files of a controller are: root's commands there read them too."""
MAX_CHARACTERS = 4096
MIN_CHARACTERS = 16
"""Less can be guessed."""
_FORBIDDEN = stat.S_IRWXO | stat.S_IRWXG
_FORBIDDEN_WITH_GROUP = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
"""Also of credentials: systemd shows the mask of an access list in the bits of the group."""


def path_of(name: str) -> Path:
    """The file that a configuration's value means. Of a credential, in a command of root's, that of the service that
    runs on this machine.

    Raises:
        AccessDenied: a credential that systemd has given neither this process nor a service of ours.
    """
    if not name.startswith(CREDENTIAL):
        return Path(name)
    short = name.removeprefix(CREDENTIAL)
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if directory:
        return Path(directory, short)
    for unit in UNITS:
        path = OF_SERVICES / unit / short
        if os.access(path, os.R_OK):
            return path
    raise AccessDenied(
        f"{name}: systemd has given this process no credentials (${DIRECTORY_VARIABLE} is not set), and no service of "
        f"ours that we may look at runs with this one: name a file, add `LoadCredential={short}:FILE` to the unit and "
        "restart it, or run the command as root"
    )


def require_private(name: str, *, may_group_read: bool = False) -> Path:
    """Make sure that nobody else can read or change a file, but for its group, if that may read; its path.

    Raises:
        AccessDenied: others can, or it cannot be looked at.
    """
    path = path_of(name)
    try:
        found = os.stat(path)
    except OSError as error:
        raise AccessDenied(f"cannot use {path}, which keeps a secret: {error.strerror}") from error
    _check(path, found, may_group_read=may_group_read or name.startswith(CREDENTIAL))
    return path


def read_secret(name: str, *, may_group_read: bool = False) -> str:
    """The secret in a file, without white space around it.

    Raises:
        AccessDenied: it cannot be read, others can read or change it, or it is too short to be a secret.
    """
    path = path_of(name)
    try:
        with path.open(encoding="utf-8") as file:
            # Of what was opened, not of what has the name now.
            _check(path, os.fstat(file.fileno()), may_group_read=may_group_read or name.startswith(CREDENTIAL))
            secret = file.read(MAX_CHARACTERS).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AccessDenied(f"cannot read the secret in {path}: {why}") from error
    if len(secret) < MIN_CHARACTERS:
        raise AccessDenied(
            f"the secret in {path} has {len(secret)} characters and needs {MIN_CHARACTERS} or more: "
            f"`(umask 077; head -c 32 /dev/urandom | base64 > {path})`"
        )
    return secret


def make_secret(path: Path) -> str:
    """Write a new secret, of 256 bits, that only we can read.

    Raises:
        AccessDenied: there is such a file already, or it cannot be made.
    """
    secret = secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise AccessDenied(f"cannot write a secret to {path}: {error.strerror}") from error
    return secret


def _check(path: Path, found: os.stat_result, *, may_group_read: bool) -> None:
    forbidden = _FORBIDDEN_WITH_GROUP if may_group_read else _FORBIDDEN
    if found.st_mode & forbidden or not _is_ours(found.st_uid):
        raise AccessDenied(
            f"{path} keeps a secret and can be read or written by others (mode {stat.S_IMODE(found.st_mode):04o}, "
            f"owner {found.st_uid}): `chown {_own_name()} {path}; chmod 600 {path}`, and make a new secret if somebody "
            "may have read it"
        )


def _is_ours(owner: int) -> bool:
    if owner in {0, os.geteuid()}:
        return True
    try:
        return os.geteuid() == 0 and owner == pwd.getpwnam(SERVICE_USER).pw_uid
    except KeyError:
        return False


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
