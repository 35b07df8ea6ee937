"""The hooks of a sync: which there are, how each stands, and which objects of theirs may go. Pure.

A hook runs once in a sync. That it is about to is in the log before anything is sent (its plan),
and a Job or a Pod gets a name that belongs to this sync alone: so whoever goes on after a crash
finds it by that name, and sending it again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from engine.decide.compare import Findings, delete, is_applied
from engine.decide.order import is_protected, runs_to_completion, wave_of
from engine.decide.situation import Situation
from engine.objects import staging
from events.catalog import HookEnded
from events.vocabulary import Action, Desired, Health, ObjectRef, Presence, Verb
from projections.corrections import Hook

HOOK, LEFT_BY_HOOK = "hook", "its hook has run"
"""The reasons of actions that are about hooks."""
PHASES = (staging.PRE_SYNC, staging.SYNC, staging.POST_SYNC, staging.SYNC_FAIL)
_PHASE_OF = {
    **{phase: phase for phase in PHASES},
    staging.PRE_INSTALL: staging.PRE_SYNC,
    staging.PRE_UPGRADE: staging.PRE_SYNC,
    staging.POST_INSTALL: staging.POST_SYNC,
    staging.POST_UPGRADE: staging.POST_SYNC,
}
_INSTALLS = frozenset({staging.PRE_INSTALL, staging.POST_INSTALL})
_UPGRADES = frozenset({staging.PRE_UPGRADE, staging.POST_UPGRADE})
_LONGEST_NAME = 63
"""A Job's name becomes a label of its Pods."""


class State(Enum):
    """How a hook stands in the sync at hand."""

    NEW = auto()
    RUNNING = auto()
    SUCCEEDED = auto()
    FAILED = auto()


class Turn(Struct, frozen=True):
    """A hook that has its turn in a phase of the sync at hand."""

    desired: Desired
    ref: ObjectRef
    phase: str
    state: State
    message: str = ""


def turns(situation: Situation, found: Findings) -> list[Turn]:
    """Return the hooks of the sync that the target is in, in order."""
    known = {
        (hook.ref.identity, hook.phase): hook
        for hook in situation.corrections.hooks
        if hook.run == situation.run
    }
    result = []
    for desired, declared in found.hooks:
        for phase in _phases(situation, desired):
            ref = _named(situation, desired, declared, phase)
            hook = known.get((ref.identity, phase))
            state, message = _state(situation, hook) if hook else (State.NEW, "")
            result.append(Turn(desired, ref, phase, state, message))
    return sorted(result, key=lambda turn: (turn.desired.wave, wave_of(turn.ref, Verb.APPLY)))


def run_of(situation: Situation, turn: Turn) -> Action:
    """Return the action that runs a hook."""
    observed = situation.observed.get(turn.ref.identity)
    is_there = observed is not None and observed.presence is Presence.PRESENT
    return Action(
        verb=Verb.APPLY,
        ref=turn.ref,
        reason=HOOK,
        desired=turn.desired.digest,
        secret=turn.desired.secret,
        uid=observed.uid if observed and is_there else "",
        resource_version=observed.resource_version if observed and is_there else "",
        observed=observed.digest if observed and is_there else "",
        force=is_there,
        wave=wave_of(turn.ref, Verb.APPLY),
        hook=turn.phase,
    )


def ended(situation: Situation) -> Iterator[HookEnded]:
    """Yield what has run to its end and is not on record yet, of whichever sync."""
    for hook in situation.corrections.hooks:
        if hook.ended or hook.gone:
            continue
        state, message = _state(situation, hook)
        if state in (State.SUCCEEDED, State.FAILED):
            is_good = state is State.SUCCEEDED
            yield HookEnded(hook.ref, hook.phase, hook.run, is_good, message)


def left_over(situation: Situation, found: Findings, now: list[Turn]) -> Iterator[Action]:
    """Yield the deletions of what hooks have left that may go now.

    Of the sync at hand, what a hook's policy says; of earlier ones everything, except that one
    that still runs is let be unless a person has asked for this sync.
    """
    policies = {(turn.ref.identity, turn.phase): turn for turn in now}
    needed = {turn.ref.identity for turn in now}
    needed |= {ref.identity for _, ref in found.hooks if not runs_to_completion(ref)}
    done: set[str] = set()
    for hook in situation.corrections.hooks:
        identity = hook.ref.identity
        observed = situation.observed.get(identity)
        if observed is None or observed.presence is not Presence.PRESENT or identity in done:
            continue
        if is_protected(hook.ref) or not is_applied(situation, observed):
            continue
        if hook.run == situation.run:
            turn = policies.get((identity, hook.phase))
            is_over = (
                turn is not None
                and turn.state in _POLICY
                and (_POLICY[turn.state] in turn.desired.cleanup)
            )
            others = any(
                other.ref.identity == identity and other.state in (State.NEW, State.RUNNING)
                for other in now
            )
            goes = is_over and not others
        else:
            goes = identity not in needed and not is_in_the_way(situation, hook)
        if goes:
            done.add(identity)
            yield replace(delete(observed, LEFT_BY_HOOK), hook=hook.phase)


_POLICY = {State.SUCCEEDED: staging.SUCCEEDED, State.FAILED: staging.FAILED}


def in_the_way(situation: Situation) -> ObjectRef | None:
    """Return a hook of an earlier sync that still runs, so that this one has to wait for it."""
    return next((h.ref for h in situation.corrections.hooks if is_in_the_way(situation, h)), None)


def is_in_the_way(situation: Situation, hook: Hook) -> bool:
    """Whether a hook of an earlier sync still runs; a person's request does not wait for it."""
    if hook.run == situation.run or hook.ended or hook.gone:
        return False
    request = situation.target.request
    if request and request.position == situation.run:
        return False
    return _state(situation, hook)[0] is State.RUNNING


def _phases(situation: Situation, desired: Desired) -> list[str]:
    """Return the phases in which a hook has its turn: Helm's know installs from upgrades."""
    others = _UPGRADES if situation.is_first else _INSTALLS
    wanted = {_PHASE_OF[word] for word in desired.hooks if word not in others}
    return [phase for phase in PHASES if phase in wanted]


def _named(situation: Situation, desired: Desired, ref: ObjectRef, phase: str) -> ObjectRef:
    """Return where a hook runs: what runs to completion is named for this sync."""
    if not runs_to_completion(ref):
        return ref
    words = f"{situation.run} {situation.desired.commit} {phase} {desired.digest}"
    suffix = hashlib.sha256(words.encode()).hexdigest()[:8]
    stem = ref.name[: _LONGEST_NAME - len(suffix) - 1].rstrip("-.")
    return replace(ref, name=f"{stem}-{suffix}")


def _state(situation: Situation, hook: Hook) -> tuple[State, str]:
    if hook.ended:
        return (State.SUCCEEDED if hook.succeeded else State.FAILED), hook.message
    observed = situation.observed.get(hook.ref.identity)
    if observed is None or observed.presence is Presence.ABSENT:
        if hook.applied:
            return State.FAILED, "it was deleted before it was seen to end"
        return State.NEW, ""
    if not hook.applied and not runs_to_completion(hook.ref):
        # It may be there since an earlier sync: sending it again changes nothing then.
        return State.NEW, ""
    if observed.health is Health.HEALTHY:
        return State.SUCCEEDED, observed.message
    if observed.health is Health.DEGRADED:
        return State.FAILED, observed.message
    return State.RUNNING, observed.message
