"""What the global options, the environment and the configuration file say, and the pool they lead to."""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from proxypool.cli.reading import MAX_CONFIG, read_text
from proxypool.core import config_file
from proxypool.core.access import AccessRole
from proxypool.core.config import DEFAULT_PATH, PATH_VARIABLE, Config
from proxypool.core.endpoints import parse_endpoint
from proxypool.core.errors import InvalidInput
from proxypool.core.validation import NAME_PATTERN, NAME_RULE

if TYPE_CHECKING:
    from proxypool.adapters.zookeeper import PoolSession, PoolStore

ZOOKEEPER_VARIABLE = "PROXYPOOL_ZOOKEEPER"
POOL_VARIABLE = "PROXYPOOL_POOL"
USER_VARIABLE = "PROXYPOOL_USER"
SECRET_VARIABLE = "PROXYPOOL_SECRET_FILE"  # noqa: S105 - a variable's name
CONNECT_WITHIN_S = 5.0
MAX_REASON = 200
"""Characters of a reason that are kept."""


def read_config(path: str | Path) -> Config:
    """The configuration in a file.

    Raises:
        InvalidInput: it cannot be read, or is not valid.
    """
    return config_file.parse(read_text(str(path), MAX_CONFIG, "the configuration "), what=str(path))


def default_path() -> str:
    """Where the configuration is unless an option says otherwise."""
    return os.environ.get(PATH_VARIABLE) or DEFAULT_PATH


def operator() -> str:
    """user@host of whoever runs the command; with sudo, of whoever called it."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # The user has no name on this machine, as in containers.
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _as_user(config: Config) -> Config:
    """Who the environment says we are: the file is the daemon's, and the operator is somebody else.

    Raises:
        InvalidInput: there is no such user, or half of it is missing.
    """
    user, secret = os.environ.get(USER_VARIABLE), os.environ.get(SECRET_VARIABLE)
    if not user and not secret:
        return config
    if not user or not secret:
        raise InvalidInput(f"${USER_VARIABLE} and ${SECRET_VARIABLE} belong together: set both or neither")
    if user not in list(AccessRole):
        raise InvalidInput(f"${USER_VARIABLE}: there is no user {user!r}; there are {', '.join(AccessRole)}")
    zookeeper = msgspec.structs.replace(config.zookeeper, user=AccessRole(user), secret_file=secret)
    return msgspec.structs.replace(config, zookeeper=zookeeper)


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options."""

    config: str | None = None
    zookeeper: str | None = None
    pool: str | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    """Key of the configuration -> what said it instead of the file: `option --pool`, `environment PROXYPOOL_POOL`."""

    def path(self) -> str:
        """Where the configuration is, whether it is there or not."""
        return self.config or default_path()

    def load(self, path: str | None = None) -> Config:
        """The configuration, with what options and environment override. Without a file: the defaults.

        Raises:
            InvalidInput: a file that was named cannot be read, or a value is not valid.
        """
        named = path or self.config or os.environ.get(PATH_VARIABLE)
        config = read_config(named or DEFAULT_PATH) if named or Path(DEFAULT_PATH).exists() else Config()
        if self.zookeeper:
            hosts = tuple(server.strip() for server in self.zookeeper.split(",") if server.strip())
            for server in hosts:
                parse_endpoint(server, what="--zookeeper")
            zookeeper = msgspec.structs.replace(config.zookeeper, hosts=hosts)
            config = msgspec.structs.replace(config, zookeeper=zookeeper)
        config = _as_user(config)
        if self.pool:
            if not NAME_PATTERN.fullmatch(self.pool):
                raise InvalidInput(f"--pool {self.pool!r} is not a valid name: {NAME_RULE}")
            config = msgspec.structs.replace(config, pool=self.pool)
        return config

    def load_or_default(self) -> Config:
        """As `load`; of a file that is not valid, what options and environment say, and the defaults."""
        try:
            return self.load()
        except InvalidInput:
            config = Config()
        hosts = tuple((self.zookeeper or "").split(",")) if self.zookeeper else config.zookeeper.hosts
        zookeeper = msgspec.structs.replace(config.zookeeper, hosts=hosts)
        return msgspec.structs.replace(config, pool=self.pool or config.pool, zookeeper=zookeeper)

    def as_options(self) -> list[str]:
        """The same, as words for another `proxypool`."""
        given = (("--config", self.config), ("--zookeeper", self.zookeeper), ("--pool", self.pool))
        return [word for option, value in given if value for word in (option, value)]

    @contextmanager
    def session(self) -> Iterator[PoolSession]:
        """A connected session.

        Raises:
            ZooKeeperUnreachable: no server answers.
        """
        from proxypool.adapters.zookeeper import PoolSession

        # What a command has to say it says itself; without a handler, Python would print warnings beside it.
        logging.getLogger("proxypool").addHandler(logging.NullHandler())
        config = self.load()
        session = PoolSession(config.zookeeper, config.pool)
        is_connected = False
        try:
            session.connect(CONNECT_WITHIN_S)
            is_connected = True
            yield session
        finally:
            session.stop(close_session=is_connected)

    @contextmanager
    def store(self) -> Iterator[PoolStore]:
        """The pool, through a session of its own."""
        from proxypool.adapters.zookeeper import PoolStore

        with self.session() as session:
            yield PoolStore(session)
