"""Whether what differs may be corrected now, and all of it. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from engine.decide.compare import Findings, Held
from engine.decide.order import in_order
from engine.decide.situation import Situation
from engine.resources.windows import closed
from events.catalog import ReconcileHeld
from events.event import Micros
from events.vocabulary import Action, Difference, Presence, Verb
from projections.corrections import Ended
from projections.targets import Approval, Request

PRUNE_CONFIRM, PRUNE_LIMIT = "prune-confirm", "prune-limit"
"""Codes of prunes that wait for a person's say-so."""


def proposed(found: Findings) -> tuple[Action, ...]:
    """Return everything that would be done if nothing held it."""
    return in_order([*found.changes, *found.repairs, *found.prunes])


def plan_digest(situation: Situation, found: Findings, actions: Sequence[Action]) -> str:
    """Name a plan by what it does to what: `sha256:` over its canonical JSON.

    Of an object that was applied before, what counts is what it goes from: what was applied, and
    in which fields it differs from that. So the name changes as soon as these do, and not where
    an object merely fares otherwise, which an earlier wave of the same plan can bring about. Of
    every other object all counts that was observed of it.
    """
    drift: dict[str, list[Difference]] = {}
    for difference in found.drift:
        drift.setdefault(difference.ref.identity, []).append(difference)
    bare: list[object] = []
    for action in actions:
        known = situation.observed.get(action.ref.identity)
        applied = known.applied if known is not None and action.verb is Verb.APPLY else None
        if applied is None:
            bare.append(replace(action, resource_version=""))
        else:
            goes_from = [applied.desired, drift.get(action.ref.identity, [])]
            bare += [replace(action, resource_version="", observed=""), goes_from]
    written = msgspec.json.encode([situation.desired.commit, bare])
    return "sha256:" + hashlib.sha256(written).hexdigest()


def approval_of(situation: Situation, found: Findings) -> Approval | None:
    """Return a person's approval of just what would be done now, or of what is left of that."""
    approval, last = situation.target.approval, situation.corrections.last
    if approval is None:
        return None
    digest = plan_digest(situation, found, proposed(found))
    is_rest = last and last.approval == approval.position and not last.code and last.rest == digest
    return approval if is_rest or approval.plan == digest else None


def granted_request(situation: Situation) -> Request | None:
    """Return the sync that a person asked for, once the look that it asked for has gone well."""
    return situation.open_request if situation.is_fetched else None


def objects(number: int, verb: str) -> str:
    """Say what so many objects do, for example `objects(2, "differ")`."""
    if number != 1:
        return f"{number} objects {verb}"
    return f"1 object {_OF_ONE.get(verb, verb)}"


_OF_ONE = {"are": "is", "differ": "differs"}


def withhold_prunes(situation: Situation, found: Findings) -> Findings:
    """Take the deletions out that nobody has confirmed, where somebody must."""
    spec, request = situation.spec, granted_request(situation)
    if spec is None or not found.prunes or (request and request.prune):
        return found
    number = len(found.prunes)
    present = sum(document.presence is Presence.PRESENT for document in situation.observed.values())
    if spec.sync.confirm_prune:
        code, why = PRUNE_CONFIRM, "sync.confirmPrune is on"
    elif number * 100 > spec.sync.prune_limit * present:
        code, why = PRUNE_LIMIT, f"more than {spec.sync.prune_limit} % of {present} (pruneLimit)"
    else:
        return found
    message = (
        f"{objects(number, 'are')} no longer desired; {why}: sync with --prune, or approve a plan"
    )
    first = found.prunes[0].ref
    return replace(found, prunes=[], held=[*found.held, Held(first, code, message)])


def allowed(situation: Situation, found: Findings) -> tuple[Action, ...]:
    """Return the actions that policy lets happen, in order; whether now is for `hold` to say."""
    spec = situation.spec
    repairing = spec is not None and (spec.sync.self_heal or situation.is_fetched)
    return in_order([*found.changes, *(found.repairs if repairing else ()), *found.prunes])


def permitted(
    situation: Situation, found: Findings
) -> tuple[Findings, tuple[Action, ...], Approval | None]:
    """Return what is found without what a person has to confirm, what may be done, and by whose
    approval."""
    approval = approval_of(situation, found)
    if approval is not None:
        return found, proposed(found), approval
    found = withhold_prunes(situation, found)
    return found, allowed(situation, found), None


def paused(situation: Situation) -> ReconcileHeld | None:
    """Return why nothing whatever may be done about a target now."""
    suspension = situation.suspension
    if suspension:
        message = f"suspended by {suspension.actor}: {suspension.reason}"
        return ReconcileHeld("suspended", message, until=suspension.until)
    if not situation.cluster.connected:
        lost = situation.cluster.lost
        reason = f"{lost.code}: {lost.message}" if lost else "it was never reached"
        return ReconcileHeld("cluster-lost", f"cluster {situation.target.cluster}: {reason}")
    return None


def hold(
    situation: Situation, found: Findings, approval: Approval | None, *, hooks: bool = False
) -> ReconcileHeld | None:
    """Return what keeps the whole target from being corrected now, where there is work.

    `hooks` says whether hooks are to run, which is work although nothing differs.
    """
    spec = situation.spec
    is_work = bool(found.changes or found.repairs or found.prunes)
    if spec is None or not (is_work or hooks):
        return None
    pause = paused(situation)
    if pause:
        return pause
    request = granted_request(situation)
    window = closed(spec.sync.windows, Micros(situation.now))
    if window and not (request and request.override):
        return ReconcileHeld("window", window.message, until=window.until)
    if request or approval:
        return None
    last = situation.corrections.last
    limit, failures = spec.sync.retry.limit, situation.corrections.failures
    if limit and failures >= limit and last and last.code and not is_news_since(situation, last):
        message = f"given up after {failures} attempts (sync.retry.limit): {last.message}"
        return ReconcileHeld("retries-exhausted", message)
    number = len(found.changes) + len(found.repairs) + len(found.prunes)
    if not is_work and situation.corrections.run == situation.run:
        # A sync that was begun comes to its end.
        return None
    if spec.sync.mode == "manual":
        what = objects(number, "differ") if is_work else "hooks are to run"
        return ReconcileHeld("manual", f"{what}; sync.mode is manual")
    if not spec.sync.self_heal and not (found.changes or found.prunes or hooks):
        return ReconcileHeld("self-heal-off", f"{objects(number, 'drifted')}; sync.selfHeal is off")
    return None


def back_off(situation: Situation) -> int:
    """Return until when a failed correction is left alone; 0 where it may be tried now."""
    last = situation.corrections.last
    if last is None or not last.code or is_news_since(situation, last):
        return 0
    return last.waits_until(situation.now)


def is_news_since(situation: Situation, last: Ended) -> bool:
    """Whether something happened after a correction that makes another try worth while.

    A render, a declaration, a request, an approval, a rollback, a take-over, a cluster back.
    """
    application, target = situation.application, situation.target
    asked = (application, target.request, target.approval, target.pin, target.adoption)
    news = max(situation.desired.position, *(each.position if each else 0 for each in asked))
    return news > last.position or situation.cluster.since > last.at


def attempt(situation: Situation) -> int:
    """Return which attempt in a row another try would be, from 1."""
    last = situation.corrections.last
    if last and is_news_since(situation, last):
        return 1
    return situation.corrections.failures + 1
