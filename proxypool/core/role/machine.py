"""The role machine's step: what is heard goes in, the next state and what is to be done come out. Pure."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from proxypool.core.role.demand import decide, priority_of
from proxypool.core.role.state import PRIORITY_ASIDE, PRIORITY_CLAIM, MemberState
from proxypool.core.role.table import TRANSITIONS, TRIGGER_OF_VRRP, Trigger
from proxypool.core.role.words import (
    ClaimAllowed,
    CoordinatorChanged,
    Effect,
    Elected,
    ElectionSeen,
    Event,
    GateSeen,
    HealthSeen,
    HeartbeatHeard,
    LeaseSeen,
    OrdersSeen,
    PrioritySeen,
    RoleChanged,
    SetContending,
    SetGate,
    SetPriority,
    UnderlaySeen,
    Vrrp,
    VrrpChanged,
)
from proxypool.core.states import Coordinator, Role


def step(state: MemberState, event: Event, now: float) -> tuple[MemberState, tuple[Effect, ...]]:
    """The next state, and what to do, after `event` at time `now`."""
    new = _take_in(state, event)
    trigger = _trigger(new, event)
    if trigger is not None:
        role = TRANSITIONS[new.role, trigger]
        if role is not new.role:
            new = _but(new, role=role, role_since=now)
    if new.vrrp is not state.vrrp:
        has_claimed = new.vrrp is Vrrp.MASTER and state.track == PRIORITY_CLAIM
        new = _but(new, vrrp_since=now, claimed_at=now if has_claimed else None)
    new = _break_tie(new, event, now) if not new.is_strict else _but(new, is_aside=False, contested_since=None)
    new = _prepare(_follow_election(new, event, now), now)
    done = _done(new)
    return done, _effects(state, new, done, event, trigger.value if trigger else "")


def _but(state: MemberState, **changes: Any) -> MemberState:
    """The state with these fields; the same object if it has them already, as it nearly always has."""
    if all(getattr(state, name) == value for name, value in changes.items()):
        return state
    return replace(state, **changes)


def _take_in(state: MemberState, event: Event) -> MemberState:  # noqa: PLR0911 - one for each kind
    match event:
        case VrrpChanged(vrrp):
            return _but(state, vrrp=vrrp)
        case HealthSeen(reasons, caution):
            return _but(state, health=reasons, caution=caution)
        case OrdersSeen(is_paused, is_strict):
            return _but(state, is_paused=is_paused, is_strict=is_strict)
        case LeaseSeen():
            return _but(state, lease=event)
        case ClaimAllowed():
            return _but(state, is_allowed=state.held_since is not None)
        case ElectionSeen(candidates):
            epoch = candidates[0].epoch if candidates else state.epoch
            if epoch < state.epoch:
                return state
            is_same = (state.candidates or ())[:1] == candidates[:1]
            return _but(state, candidates=candidates, epoch=epoch, elected_at=state.elected_at if is_same else None)
        case CoordinatorChanged(coordinator):
            return _but(state, coordinator=coordinator)
        case UnderlaySeen(is_silent):
            return _but(state, is_deaf=is_silent)
        case PrioritySeen(value):
            is_left_aside = value == PRIORITY_ASIDE and decide(state).priority is None
            return _but(state, track=value, is_aside=state.is_aside or is_left_aside)
        case _:
            return state


def _trigger(state: MemberState, event: Event) -> Trigger | None:
    match event:
        case VrrpChanged(Vrrp.BACKUP) if state.health:
            return Trigger.VRRP_BACKUP_UNFIT
        case VrrpChanged(vrrp):
            return TRIGGER_OF_VRRP.get(vrrp)
        case HealthSeen(reasons) if state.vrrp is Vrrp.BACKUP:
            return Trigger.UNFIT if reasons else Trigger.FIT
        case _:
            return None


def _break_tie(state: MemberState, event: Event, now: float) -> MemberState:
    """Two masters that do not hear each other: the one not elected stands aside; see the module's text."""
    other_is_elected = state.elected is not None and not state.is_elected
    if state.is_aside:
        is_over = state.candidates is not None and not other_is_elected
        if not is_over and state.coordinator is not Coordinator.LOST and not isinstance(event, HeartbeatHeard):
            return state
        return _but(state, is_aside=False, contested_since=None)
    is_contested = other_is_elected and state.coordinator is Coordinator.CONNECTED and state.role is Role.MASTER
    if not is_contested:
        return _but(state, contested_since=None)
    if state.contested_since is None:
        return _but(state, contested_since=now)
    if now >= state.contested_since + state.timers.tie_break_s:
        return _but(state, is_aside=True, contested_since=None)
    return state


def _follow_election(state: MemberState, event: Event, now: float) -> MemberState:
    """What follows from being elected or not; see "No preemption" and "Strict" in the module's text."""
    is_master = state.vrrp is Vrrp.MASTER
    if not state.is_elected:
        elected_at = None
    else:
        began = -math.inf if state.epoch == state.permitted_epoch else now
        elected_at = began if state.elected_at is None else state.elected_at
    if state.claimed_at is not None and isinstance(event, HeartbeatHeard):
        # The other one does not hear us and goes on as master: with a lower priority we would yield to it.
        state = _but(state, claimed_at=now)
    has_settled = state.claimed_at is not None and now >= state.claimed_at + state.timers.settle_s
    if not is_master or has_settled:
        state = _but(state, claimed_at=None)
    if is_master and state.is_elected:
        state = _but(state, served_epoch=state.epoch)
    is_out = state.candidates is not None and all(one.node != state.node for one in state.candidates)
    # What was true when the connection broke may be so no longer.
    is_held = state.is_elected and state.vrrp is Vrrp.BACKUP and state.coordinator is Coordinator.CONNECTED
    is_held = is_held and not (state.is_strict or state.is_aside or state.is_chosen)
    held_since = (now if state.held_since is None else state.held_since) if is_held else None
    state = _but(
        state,
        elected_at=elected_at,
        held_since=held_since,
        is_allowed=state.is_allowed and is_held,
        is_yielding=state.is_yielding and not is_out and not state.is_strict and not is_master,
    )
    if is_held and state.is_anybody_else_standing and now >= state.vrrp_since + state.timers.silent_s:
        state = _but(state, is_yielding=True)
    rival_since = (now if state.rival_since is None else state.rival_since) if state.is_anybody_else_standing else None
    state = _but(state, rival_since=rival_since if state.is_elected else None)
    state = _but(state, must_yield=state.is_to_yield(now))
    is_permitted = state.is_strict and state.has_permission(now)
    return _but(
        state, is_permitted=is_permitted, permitted_epoch=state.epoch if is_permitted else state.permitted_epoch
    )


def _prepare(state: MemberState, now: float) -> MemberState:
    """Make before break: a gate that opens after the claim would lose what arrives until then."""
    is_claiming = (
        not state.is_strict
        and state.health is not None
        and (state.role, state.vrrp) == (Role.BACKUP, Vrrp.BACKUP)
        and priority_of(state) == PRIORITY_CLAIM
    )
    since = (now if state.preparing_since is None else state.preparing_since) if is_claiming else None
    is_preparing = since is not None and now < since + state.timers.prepare_s
    return _but(state, preparing_since=since, is_preparing=is_preparing)


def _done(state: MemberState) -> MemberState:
    """What is known once the effects are done: the track file is written, then the election entered or left."""
    priority = decide(state).priority
    if priority is not None and priority != state.track:
        # A fault of our own making ends here: what keepalived makes of the return it has yet to say.
        is_returning = state.vrrp is Vrrp.FAULT and state.track == PRIORITY_ASIDE
        state = _but(state, track=priority, vrrp=Vrrp.UNKNOWN if is_returning else state.vrrp)
    contend = decide(state).contend
    return state if contend is None else _but(state, contends=contend)


def _effects(old: MemberState, new: MemberState, done: MemberState, event: Event, why: str) -> tuple[Effect, ...]:
    """What leads from `new` to `done`. The gate first: it is what packets wait for. Facts last."""
    effects: list[Effect] = []
    gate = decide(new).gate
    gate_is = event.is_open if isinstance(event, GateSeen) else decide(old).gate
    if gate is not None and gate != gate_is:
        effects.append(SetGate(gate))
    if done.track is not None and done.track != new.track:
        effects.append(SetPriority(done.track))
    if done.contends is not None and done.contends != new.contends:
        effects.append(SetContending(done.contends))
    if new.role is not old.role:
        effects.append(RoleChanged(old.role, new.role, why, new.epoch, old.is_elected))
    if new.elected != old.elected or (new.candidates or ())[:1] != (old.candidates or ())[:1]:
        effects.append(Elected(new.elected, new.epoch))
    return tuple(effects)
