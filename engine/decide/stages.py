"""Which step of a sync is next: hooks before, wave after wave, hooks after, hooks on failure. Pure.

A plan holds one step. The next decision goes on when its objects are healthy and its hooks have
run, so a crash in between loses nothing: where a sync stands is in the views. What drifted is put
right at once, whatever its wave; deletions go with the last wave.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from engine.decide import hooks
from engine.decide.compare import NEW, REPAIRS, Findings
from engine.decide.hooks import State, Turn
from engine.decide.order import NAMESPACES, in_order
from engine.decide.situation import Dependency, Situation
from engine.objects.staging import POST_SYNC, PRE_SYNC, SYNC, SYNC_FAIL
from engine.resources.duration import seconds
from engine.resources.model import Waves
from events.catalog import HookEnded, ReconcileHeld
from events.vocabulary import Action, Verb

DEPENDENCY = "dependency"
WAVE = "wave"
WAVE_TIMED_OUT = "wave-timed-out"
HOOK_RUNNING = "hook-running"
HOOK_FAILED = "hook-failed"
_LOOK_AGAIN = 60_000_000
"""Microseconds after which a dependency is looked at again, should nothing tell of it."""


class Step(Struct, frozen=True):
    """What to do now, or what is waited for; `until` is when to look again. `stage` names it.

    `hooks` says whether the actions run a hook, which is work although nothing differs.
    """

    actions: tuple[Action, ...] = ()
    hold: ReconcileHeld | None = None
    stage: str = ""
    until: int = 0
    ended: tuple[HookEnded, ...] = ()
    hooks: bool = False


class _Next(Struct, frozen=True):
    """The next step of the sync itself: actions, or a hold, or neither where it is complete."""

    actions: list[Action] = []
    hold: ReconcileHeld | None = None
    stage: str = ""
    until: int = 0
    failed: bool = False


def step(situation: Situation, found: Findings, actions: Sequence[Action]) -> Step:
    """Return the next step of a sync that is to do `actions`, those that policy allows."""
    now = hooks.turns(situation, found) if situation.in_run else []
    repairs = [action for action in actions if action.reason in REPAIRS]
    work = [action for action in actions if action.reason not in REPAIRS]
    left = list(hooks.left_over(situation, found, now))
    is_needed = bool(work) or any(turn.state is State.NEW for turn in now if _is_usual(turn))
    following = _held_before(situation) if is_needed else None
    if following is None:
        following = _next(situation, found, work, now)
        if following.failed:
            following = _on_failure(situation, following, now)
    done = [*repairs, *following.actions, *left]
    return Step(
        actions=in_order(done),
        hold=following.hold,
        stage=following.stage or ("clean-up" if left else ""),
        until=following.until,
        ended=tuple(hooks.ended(situation)),
        hooks=any(action.hook for action in done),
    )


def unmet(situation: Situation) -> Dependency | None:
    """Return the first dependency that is not synced and healthy."""
    return next((each for each in situation.dependencies if not each.met), None)


def _is_usual(turn: Turn) -> bool:
    return turn.phase != SYNC_FAIL


def _held_before(situation: Situation) -> _Next | None:
    """Return what the sync as a whole waits for."""
    waiting = unmet(situation)
    if waiting is not None:
        message = f"waits for application {waiting.name} on this cluster: {waiting.stands}"
        hold = ReconcileHeld(DEPENDENCY, message, waits_for=waiting.stream)
        return _Next(hold=hold, until=situation.now + _LOOK_AGAIN)
    earlier = hooks.in_the_way(situation)
    if earlier is not None:
        message = f"waits for {earlier}, a hook of an earlier sync that still runs"
        return _Next(hold=ReconcileHeld(HOOK_RUNNING, message))
    return None


def _next(
    situation: Situation, found: Findings, work: Sequence[Action], now: Sequence[Turn]
) -> _Next:
    before = _hooks_in(situation, now, PRE_SYNC)
    if before is not None:
        # Hooks need somewhere to run.
        spaces = [a for a in work if a.reason == NEW and a.wave == NAMESPACES]
        return _Next(spaces, stage="namespaces") if before.actions and spaces else before
    by_wave: dict[int, list[Action]] = {}
    last = max([0, *found.waves.values()])
    for action in work:
        is_prune = action.verb is Verb.DELETE
        wave = last if is_prune else found.waves.get(action.ref.identity, 0)
        by_wave.setdefault(wave, []).append(action)
    of_waves = [turn for turn in now if turn.phase == SYNC]
    waves = sorted({*by_wave, *(turn.desired.wave for turn in of_waves)})
    is_staged = bool(found.waves or now)
    after = any(turn.phase == POST_SYNC and turn.state is not State.SUCCEEDED for turn in now)
    for wave in waves:
        here = [turn for turn in of_waves if turn.desired.wave == wave]
        has_turn = any(turn.state is not State.SUCCEEDED for turn in here)
        if not by_wave.get(wave) and not has_turn:
            continue
        waiting = _unwell(situation, found, wave)
        if waiting is not None:
            return waiting
        new = [turn for turn in here if turn.state is State.NEW]
        actions = [*by_wave.get(wave, ()), *(hooks.run_of(situation, turn) for turn in new)]
        if actions:
            return _Next(actions, stage=f"wave {wave}" if is_staged else "")
        standing = _standing(here)
        if standing is not None:
            return standing
    if after:
        waiting = _unwell(situation, found, None)
        if waiting is not None:
            return waiting
        return _hooks_in(situation, now, POST_SYNC) or _Next()
    return _Next()


def _hooks_in(situation: Situation, now: Sequence[Turn], phase: str) -> _Next | None:
    """Return the next step among the hooks of a phase; None once all have run."""
    mine = [turn for turn in now if turn.phase == phase]
    for wave in sorted({turn.desired.wave for turn in mine}):
        here = [turn for turn in mine if turn.desired.wave == wave]
        new = [hooks.run_of(situation, turn) for turn in here if turn.state is State.NEW]
        if new:
            return _Next(new, stage=phase)
        standing = _standing(here)
        if standing is not None:
            return standing
    return None


def _standing(turns: Sequence[Turn]) -> _Next | None:
    """Return what hooks that were run are waited for, or have failed; None once all are through."""
    for turn in turns:
        if turn.state is State.FAILED:
            message = f"the {turn.phase} hook {turn.ref} failed: {turn.message}"
            hold = ReconcileHeld(HOOK_FAILED, message, objects=(turn.ref,))
            return _Next(hold=hold, failed=True)
    for turn in turns:
        if turn.state is State.RUNNING:
            message = f"waits for the {turn.phase} hook {turn.ref} to end"
            return _Next(hold=ReconcileHeld(HOOK_RUNNING, message, objects=(turn.ref,)))
    return None


def _unwell(situation: Situation, found: Findings, before: int | None) -> _Next | None:
    """Return what is waited for of the waves before one (None: of all); None where nothing is."""
    first = min(
        (each for each in found.unwell if before is None or each.wave < before),
        key=lambda each: (each.wave, each.ref),
        default=None,
    )
    if first is None:
        return None
    policy = situation.spec.sync.waves if situation.spec else Waves()
    until = _since(situation) + int(seconds(policy.timeout) * 1_000_000)
    what = f"wave {first.wave} waits for {first.ref}"
    if until > situation.now:
        message = f"{what} to be healthy: it is {first.health}"
        hold = ReconcileHeld(WAVE, message, until=until, objects=(first.ref,))
        return _Next(hold=hold, until=until)
    if policy.on_failure == "continue":
        return None
    message = f"{first.ref} of wave {first.wave} was not healthy after {policy.timeout}"
    message += f" (sync.waves.timeout): it is {first.health}"
    hold = ReconcileHeld(WAVE_TIMED_OUT, message, objects=(first.ref,))
    return _Next(hold=hold, failed=True)


def _since(situation: Situation) -> int:
    """Return since when the objects of a wave have had time to get healthy."""
    corrections, target = situation.corrections, situation.target
    times = [situation.desired.at, target.turned_at]
    if corrections.run == situation.run:
        times.append(corrections.stepped_at)
    if target.request and target.request.position == situation.run:
        times.append(target.request.at)
    return max(times)


def _on_failure(situation: Situation, failed: _Next, now: Sequence[Turn]) -> _Next:
    """Return the hooks that run because a sync failed, which goes on being held for that."""
    following = _hooks_in(situation, now, SYNC_FAIL)
    if following is None or not following.actions:
        return failed
    return following
