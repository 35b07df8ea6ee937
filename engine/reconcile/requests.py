"""From planned actions to requests; and, by dry runs, whether the server would take them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio

from engine.ports import Answer, ApplyRequest, ClusterPort
from events.vocabulary import Action, Outcome, Verb

_FLEETING = "ttlSecondsAfterFinished"
_CRD = "CustomResourceDefinition"
Room = Callable[[], AbstractAsyncContextManager[object]]
"""Opens a block in which one request may be sent."""
Answers = dict[int, Answer]
"""Answers by the place of their action in the plan."""


def apply_of(action: Action, body: dict[str, Any]) -> ApplyRequest:
    """Return the apply of an action's body, whole."""
    return ApplyRequest(
        ref=action.ref,
        body=_sent(action, body),
        desired=action.desired,
        force=action.force,
        uid=action.uid,
        resource_version=action.resource_version,
        observed=action.observed,
        leave=action.leave,
        adopt=action.adopt,
        managers=action.managers,
        owners=action.owners,
    )


def placed(body: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return a body with the namespace that it goes to; without one where there is none."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "namespace"}
    if namespace:
        metadata["namespace"] = namespace
    return body | {"metadata": metadata}


async def rehearse(
    actions: Sequence[Action],
    port: ClusterPort,
    whole: Mapping[str, dict[str, Any]],
    room: Room,
    here: anyio.Semaphore,
    check_lease: Callable[[], None] = lambda: None,
) -> Answers:
    """Ask the server about each action by a dry run; what cannot be asked yet is SKIPPED.

    `whole` has bodies by digest; `room` bounds the requests of all targets, `here` those of this.
    """
    answers: Answers = {}

    async def one(index: int, action: Action) -> None:
        why = await _not_yet(action, actions, port)
        if why:
            answers[index] = Answer(outcome=Outcome.SKIPPED, message=why)
            return
        async with here, room():
            check_lease()
            if action.verb is Verb.DELETE:
                answers[index] = await port.rehearse_delete(action.ref, action.uid)
            else:
                answers[index] = await port.rehearse(apply_of(action, whole[action.desired]))

    async with anyio.create_task_group() as group:
        for index, action in enumerate(actions):
            group.start_soon(one, index, action)
    return answers


async def refusals(
    actions: Sequence[Action],
    port: ClusterPort,
    whole: Mapping[str, dict[str, Any]],
    room: Room,
    here: anyio.Semaphore,
    check_lease: Callable[[], None],
) -> Answers:
    """Return what a plan comes to where the server would refuse some of it; else nothing."""
    answers = await rehearse(actions, port, whole, room, here, check_lease)
    refused = {index for index, answer in answers.items() if _is_refusal(answer)}
    if not refused:
        return {}
    first = actions[min(refused)].ref
    skipped = Answer(outcome=Outcome.SKIPPED, message=f"not sent: a dry run of {first} failed")
    return {
        index: _in_dry_run(answers[index]) if index in refused else skipped
        for index in range(len(actions))
    }


def _is_refusal(answer: Answer) -> bool:
    return not (answer.outcome.is_success or answer.outcome is Outcome.SKIPPED)


def _in_dry_run(answer: Answer) -> Answer:
    """Return an answer as that of a deed which was not done."""
    return Answer(
        outcome=answer.outcome,
        message=f"dry run: {answer.message}",
        managers=answer.managers,
        retry_after=answer.retry_after,
    )


async def _not_yet(action: Action, actions: Sequence[Action], port: ClusterPort) -> str:
    """Say what has to be there before a dry run of an action can tell anything; "" for nothing."""
    if action.verb is Verb.REMOVE:
        return "fields are taken out as they are found then: there is no dry run of that"
    applied = [each.ref for each in actions if each.verb is Verb.APPLY and not each.uid]
    for ref in applied:
        if ref.kind == "Namespace" and ref.name == action.ref.namespace:
            return f"no dry run before its namespace {ref.name} is there"
    defines = any(ref.kind == _CRD for ref in applied)
    if defines and await port.kind(action.ref.api_version, action.ref.kind) is None:
        return f"no dry run before the kind {action.ref.kind} is served"
    return ""


def _sent(action: Action, body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as it goes to its place: a hook's under the name of its sync.

    A Job that deletes itself could be gone before it was seen to end; we delete what hooks leave.
    """
    body = placed(body, action.ref.namespace)
    if not action.hook:
        return body
    body = {**body, "metadata": body["metadata"] | {"name": action.ref.name}}
    if action.ref.kind == "Job" and isinstance(body.get("spec"), dict):
        spec = {key: value for key, value in body["spec"].items() if key != _FLEETING}
        body["spec"] = spec
    return body
