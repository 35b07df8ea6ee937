"""Carries out a plan: wave after wave, each action once, nothing without the lease."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

import anyio
from msgspec import Struct

from engine.decide.order import DEFINITIONS, NAMESPACES
from engine.ports import Answer, ClusterPort
from engine.reconcile.places import Places
from engine.reconcile.requests import apply_of, refusals
from engine.telemetry import spans
from events.catalog import CorrectionPlanned
from events.event import Blob
from events.vocabulary import Action, Outcome, Result, Verb

logger = logging.getLogger(__name__)

ESTABLISHED_TIMEOUT = 60.0
"""Seconds that a new kind may take to be served."""


class Bodies(Protocol):
    """Where the whole bodies of a plan's objects come from."""

    async def of(
        self, plan: CorrectionPlanned, application: str, actions: Sequence[Action]
    ) -> dict[str, dict[str, Any]]:
        """Return each action's body by its `desired` digest, whole, secrets included.

        Raises `BodyRefused` where a body does not derive from the plan's commit any more.
        """
        ...


class BodyRefused(Exception):
    """A body that should be applied is not what the commit renders to."""


class Done(Struct, frozen=True):
    """What a plan came to: a result for each action, in the plan's order, and the bodies named."""

    results: tuple[Result, ...]
    blobs: tuple[Blob, ...]
    retry_after: float = 0.0


async def carry_out(
    plan: CorrectionPlanned,
    application: str,
    port: ClusterPort,
    bodies: Bodies,
    *,
    places: Places,
    width: int,
    check_lease: Callable[[], None],
    dry_run: bool = False,
) -> Done:
    """Do a plan's actions and return what they came to; never raises for a failed action.

    `places` bound the requests of all targets together, `width` those of this one. With `dry_run`
    the server is asked first whether it would take all of them; where it would not, none is sent.
    """
    answers: dict[int, Answer] = {}
    applies = [action for action in plan.actions if action.verb is Verb.APPLY]
    try:
        whole = await bodies.of(plan, application, applies)
    except BodyRefused as refused:
        failed = Answer(outcome=Outcome.FAILED, message=str(refused))
        return _done(plan.actions, dict.fromkeys(range(len(plan.actions)), failed))
    here = anyio.Semaphore(width)
    if dry_run:
        with spans.span("dry-run"):
            answers = await refusals(plan.actions, port, whole, places.one, here, check_lease)
        if answers:
            return _done(plan.actions, answers)

    async def one(index: int, action: Action) -> None:
        async with here, places.one():
            check_lease()
            with spans.span(f"{action.verb.value} {action.ref.kind}", _said(action)) as span:
                answer = answers[index] = await _request(action, port, whole)
                spans.annotate({"trueup.outcome": answer.outcome.value})
                if not answer.outcome.is_success:
                    spans.failed(span, answer.outcome.value)

    numbered = list(enumerate(plan.actions))
    for wave in sorted({action.wave for action in plan.actions}):
        lost = _namespaces_lost(numbered, answers)
        with spans.span("apply", {"trueup.wave": wave}):
            doing: list[tuple[int, Action]] = []
            for index, action in numbered:
                if action.wave == wave:
                    if action.verb is Verb.APPLY and action.ref.namespace in lost:
                        message = f"its namespace {action.ref.namespace} could not be made"
                        answers[index] = Answer(outcome=Outcome.SKIPPED, message=message)
                    else:
                        doing.append((index, action))
            await _each(one, doing)
            if wave == DEFINITIONS:
                with spans.span("established"):
                    await _established(numbered, answers, port)
    return _done(plan.actions, answers)


async def _each(
    one: Callable[[int, Action], Coroutine[Any, Any, None]], doing: Sequence[tuple[int, Action]]
) -> None:
    """Do these at the same time; a single one needs no task of its own."""
    if len(doing) == 1:
        await one(*doing[0])
        return
    async with anyio.create_task_group() as group:
        for index, action in doing:
            group.start_soon(one, index, action)


async def _request(action: Action, port: ClusterPort, whole: dict[str, dict[str, Any]]) -> Answer:
    if action.verb is Verb.DELETE:
        return await port.delete(action.ref, action.uid, action.resource_version, action.observed)
    if action.verb is Verb.REMOVE:
        return await port.remove_fields(action.ref, action.uid, action.observed, action.paths)
    return await port.apply(apply_of(action, whole[action.desired]))


_NAMED = frozenset(
    {
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "Namespace",
        "PersistentVolumeClaim",
        "Pod",
        "ReplicaSet",
        "Service",
        "StatefulSet",
    }
)
"""Kinds whose names have an attribute of their own in OpenTelemetry's conventions."""


def _said(action: Action) -> spans.Attributes:
    ref = action.ref
    said: dict[str, spans.Attribute] = {
        "k8s.namespace.name": ref.namespace,
        "trueup.object": str(ref),
        "trueup.reason": action.reason,
    }
    if ref.kind in _NAMED:
        said[f"k8s.{ref.kind.lower()}.name"] = ref.name
    return said


def _namespaces_lost(
    numbered: Sequence[tuple[int, Action]], answers: dict[int, Answer]
) -> set[str]:
    return {
        action.ref.name
        for index, action in numbered
        if action.wave == NAMESPACES
        and action.ref.kind == "Namespace"
        and index in answers
        and not answers[index].outcome.is_success
    }


async def _established(
    numbered: Sequence[tuple[int, Action]], answers: dict[int, Answer], port: ClusterPort
) -> None:
    """Wait until the new kinds are served; one that is not yet is found out by the next look."""
    async with anyio.create_task_group() as group:
        for index, action in numbered:
            if action.wave == DEFINITIONS and answers[index].outcome.is_success:
                group.start_soon(_wait_established, port, action.ref.name)


async def _wait_established(port: ClusterPort, name: str) -> None:
    if not await port.established(name, ESTABLISHED_TIMEOUT):
        logger.warning("kind is not served yet", extra={"crd": name})


def _done(actions: Sequence[Action], answers: dict[int, Answer]) -> Done:
    results: list[Result] = []
    blobs: list[Blob] = []
    for index, action in enumerate(actions):
        answer = answers[index]
        blobs.extend(answer.blobs)
        results.append(
            Result(
                verb=action.verb,
                ref=action.ref,
                outcome=answer.outcome,
                desired=action.desired,
                uid=answer.uid,
                resource_version=answer.resource_version,
                kept=answer.kept,
                observed=answer.observed,
                mutated=tuple(answer.mutated),
                message=answer.message,
                managers=answer.managers,
                left=tuple(rule for rule in action.leave if not rule.adopted),
            )
        )
    retry_after = max((answer.retry_after or 0.0 for answer in answers.values()), default=0.0)
    return Done(tuple(results), tuple(blobs), retry_after)
