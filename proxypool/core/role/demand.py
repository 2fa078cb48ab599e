"""What a state demands of the world: the gate, the priority, the candidate. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from proxypool.core.role.state import (
    PRIORITY_ASIDE,
    PRIORITY_CLAIM,
    PRIORITY_DAMPED,
    PRIORITY_ELECTED,
    PRIORITY_NORMAL,
    PRIORITY_STARTING,
    MemberState,
)
from proxypool.core.role.words import Caution, Vrrp
from proxypool.core.states import PRIORITY_UNFIT, Coordinator, Role


@dataclass(frozen=True, slots=True)
class Decision:
    """What must be true of the world in a state. None: leave it as it is."""

    gate: bool | None
    priority: int | None
    contend: bool | None


def decide(state: MemberState) -> Decision:
    """What a state demands. Pure function of the state, so that effects can be repeated without harm."""
    gate = _gate(state)
    if state.health is None:
        return Decision(gate, None, None)
    if state.is_strict:
        return Decision(gate, _strict_priority(state), _strict_contend(state))
    contend = state.can_be_elected
    return Decision(gate, priority_of(state), False if contend and state.is_yielding else contend)


def _gate(state: MemberState) -> bool | None:
    """Where the HaVip is, or is about to be.

    Who stands aside closes it at once: its keepalived may be stopped, and never give it up.
    """
    if state.role is Role.INIT:
        return None
    is_fenced = state.is_strict and state.lease is not None and (not state.is_permitted or state.must_yield)
    return (state.role is Role.MASTER or state.is_preparing) and not state.is_aside and not is_fenced


def priority_of(state: MemberState) -> int | None:
    """What the track file must say in mode fast; None: as it is."""
    if state.is_aside or state.is_deaf or state.vrrp is Vrrp.STOP:
        # A keepalived that was stopped may still think that it is master, without the HaVip that we took away: it
        # begins anew from a fault.
        return PRIORITY_ASIDE
    is_backup = state.vrrp is not Vrrp.MASTER
    if state.is_paused and not is_backup:
        return PRIORITY_ELECTED
    if not state.is_fit or (is_backup and state.caution is Caution.DOUBTFUL):
        return None if _is_new(state) and state.is_paused else PRIORITY_UNFIT
    if is_backup and state.caution is Caution.DAMPED:
        return PRIORITY_DAMPED
    if not state.candidates and state.coordinator is Coordinator.CONNECTED:
        # Nobody is elected yet: the election comes in milliseconds, and a claim before it would be one too many.
        return None
    if not is_backup:
        return _master_priority(state) if state.is_elected else PRIORITY_NORMAL
    return _claim(state)


def _master_priority(state: MemberState) -> int:
    return PRIORITY_ELECTED if state.claimed_at is None else PRIORITY_CLAIM


def _claim(state: MemberState) -> int | None:
    """A fit member that is not master: whoever is elected becomes it where there is none, and takes it from nobody."""
    is_starting = state.caution is Caution.STARTING
    if state.is_elected and not (state.is_paused or is_starting) and (state.is_chosen or state.is_allowed):
        return PRIORITY_CLAIM
    usual = PRIORITY_STARTING if is_starting else PRIORITY_NORMAL
    if _is_new(state) and (state.is_elected or state.is_paused):
        # A predecessor may have been master: what it left stays until VRRP has spoken.
        return None if state.track in {None, PRIORITY_ELECTED, PRIORITY_CLAIM} else usual
    return usual


def _is_new(state: MemberState) -> bool:
    return state.role is Role.INIT and state.vrrp is Vrrp.UNKNOWN


def _strict_priority(state: MemberState) -> int | None:
    if state.lease is None:
        # What a predecessor left stays: its lease in the kernel ends without us.
        return None
    if not state.is_permitted or state.must_yield:
        return PRIORITY_ASIDE
    return _master_priority(state) if state.vrrp is Vrrp.MASTER else PRIORITY_CLAIM


def _strict_contend(state: MemberState) -> bool | None:
    """It leaves only when its gate is closed: whoever is elected after it relies on that."""
    if state.must_yield:
        return bool(_gate(state))
    return state.can_be_elected
