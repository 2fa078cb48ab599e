"""What the provider `baidu` is told: its configuration, its credentials, and labels of subnets and nodes."""

from __future__ import annotations

import os
import stat
import tomllib
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from proxypool.core.config import Seconds
from proxypool.core.model import SubnetSpec
from proxypool.providers.contract import NotAuthorised, Refused

NAME = "baidu"
VPC_LABEL = "baidu-vpc"
SUBNET_LABEL = "baidu-subnet"
SECURITY_GROUPS_LABEL = "baidu-security-groups"
MAX_BYTES = 1 << 16
_FORBIDDEN = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP
"""A group may read: that is how systemd shows a credential to a service's user."""
INSTANCE_LABEL = "baidu-instance"
"""Of a node: the id of its virtual machine."""


class BaiduConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[provider.baidu]`."""

    endpoint: Annotated[str, Meta(pattern=r"^https?://[^/]+\Z")]
    """Of the region, as https://bcc.bj.baidubce.com."""
    havip_vpc: str
    """Id of the function network's VPC."""
    havip_subnet: str
    """Id of the subnet that HaVips are taken from; the nodes are in it."""
    egress: bool = False
    """Each pair gets an egress address too: a HAVIP in the customer's subnet, bound to the cards of the pair."""
    credentials_file: str = "/etc/proxypool/baidu-credentials.toml"
    request_timeout_s: Seconds = 10.0
    """Of one request."""
    poll_interval_s: Seconds = 1.0
    """How often it is asked whether what was asked for has come about."""


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of credentials."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a customer's subnet is in the cloud."""

    vpc: str
    subnet: str
    security_groups: tuple[str, ...]


def read_credentials(path: str) -> Credentials:
    """Read with every call, so that keys can be changed while the controller runs.

    Raises:
        NotAuthorised: there is no such file, it is not one of credentials, or others can read or change it.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & _FORBIDDEN or found.st_uid not in {0, os.geteuid()}:
                raise NotAuthorised(
                    f"others can read or change the credentials in {path} (mode {stat.S_IMODE(found.st_mode):04o}, "
                    f"owner {found.st_uid}): chmod 600 {path}, and give it to the controller's user"
                )
            text = file.read(MAX_BYTES).decode("utf-8")
        return msgspec.convert(tomllib.loads(text), Credentials)
    except OSError as error:
        raise NotAuthorised(f"cannot read the credentials in {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        # Without its text, which may have a key in it.
        raise NotAuthorised(f'{path} must have access_key_id = "…" and secret_access_key = "…"') from error


def place_of(subnet: SubnetSpec) -> Place:
    """From the labels of a subnet.

    Raises:
        Refused: a label is missing.
    """
    for label in (VPC_LABEL, SUBNET_LABEL):
        if not subnet.labels.get(label):
            raise Refused(f"subnet {subnet.id} has no label {label}: subnet add --label {label}=…")
    groups = subnet.labels.get(SECURITY_GROUPS_LABEL, "")
    return Place(
        vpc=subnet.labels[VPC_LABEL],
        subnet=subnet.labels[SUBNET_LABEL],
        security_groups=tuple(group.strip() for group in groups.split(",") if group.strip()),
    )
