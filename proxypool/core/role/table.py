"""The one place where a role changes. Pure."""

from __future__ import annotations

from enum import StrEnum

from proxypool.core.role.words import Vrrp
from proxypool.core.states import Role


class Trigger(StrEnum):
    """What moves a role."""

    VRRP_MASTER = "keepalived claimed the HaVip"
    VRRP_BACKUP = "keepalived is backup"
    VRRP_BACKUP_UNFIT = "keepalived is backup and the member cannot serve"
    VRRP_FAULT = "keepalived reports a fault"
    VRRP_STOP = "keepalived stopped"
    UNFIT = "the member cannot serve"
    FIT = "the member can serve again"


TRANSITIONS: dict[tuple[Role, Trigger], Role] = {
    (Role.INIT, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.INIT, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.INIT, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.INIT, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.INIT, Trigger.VRRP_STOP): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.BACKUP, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.BACKUP, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.BACKUP, Trigger.VRRP_STOP): Role.FAULT,
    (Role.BACKUP, Trigger.UNFIT): Role.FAULT,
    (Role.BACKUP, Trigger.FIT): Role.BACKUP,
    # No UNFIT: it holds the HaVip until VRRP moves it. As the last one alive it serves as well as it can.
    (Role.MASTER, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.MASTER, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.MASTER, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.MASTER, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.MASTER, Trigger.VRRP_STOP): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_MASTER): Role.MASTER,
    (Role.FAULT, Trigger.VRRP_BACKUP): Role.BACKUP,
    (Role.FAULT, Trigger.VRRP_BACKUP_UNFIT): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_FAULT): Role.FAULT,
    (Role.FAULT, Trigger.VRRP_STOP): Role.FAULT,
    (Role.FAULT, Trigger.UNFIT): Role.FAULT,
    (Role.FAULT, Trigger.FIT): Role.BACKUP,
}
"""UNFIT and FIT move the role only while VRRP says backup; in every other state VRRP alone decides."""
TRIGGER_OF_VRRP = {
    Vrrp.MASTER: Trigger.VRRP_MASTER,
    Vrrp.BACKUP: Trigger.VRRP_BACKUP,
    Vrrp.FAULT: Trigger.VRRP_FAULT,
    Vrrp.STOP: Trigger.VRRP_STOP,
}
