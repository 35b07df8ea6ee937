"""Events told to people: a line for each, and what it found or did in lines below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from engine.cli.diff import difference_lines, object_name
from engine.cli.output import local_time, one_line, safe, styled
from engine.resources.parse import Problem
from engine.tell import given_reason, said
from events import catalog as c
from events.catalog import CATALOG, Fact
from events.vocabulary import ConfigurationProblem, Outcome

MAX_LINES = 12
INDENT = "    "


def narrate(
    event: Any, *, wide: bool = False, names: Mapping[str, str] = MappingProxyType({})
) -> Iterator[str]:
    """Yield the lines that tell an event (as the API gives it); `wide` with position and trace.

    `names` has what some actors are called.
    """
    fact = _fact(event)
    what = said(fact) if fact is not None else f"{event['type']} {one_line(event['payload'])}"
    if reason := given_reason(fact):
        what += f": {reason}"
    time = styled(local_time(event["recordedAt"]), "dim")
    mark = f"#{event['position']} " if wide else ""
    name = names.get(event["actor"], "")
    actor = styled(f"[{safe(event['actor'])}{f' {safe(name)}' if name else ''}]", "dim")
    trace = trace_id(event) if wide else ""
    where = styled(f" trace {trace}", "dim") if trace else ""
    label = styled(safe(_label(event["stream"])), "bold")
    yield f"{time} {mark}{label}: {safe(what)} {actor}{where}"
    yield from _below(fact)


def trace_id(event: Any) -> str:
    """Return the id of the trace that an event was written in; "" where there was none."""
    parts = str(event["traceparent"]).split("-")
    return safe(parts[1]) if len(parts) == 4 else ""


def _fact(event: Any) -> Fact | None:
    cls = CATALOG.get(event["type"])
    if cls is None or cls.schema != event["schema"]:
        return None
    try:
        return msgspec.convert(event["payload"], cls)
    except msgspec.ValidationError:
        return None


def _label(stream: str) -> str:
    kind, _, rest = stream.partition("/")
    project, _, name = rest.partition("/")
    shown = name if kind == "target" else f"{_KINDS.get(kind, kind)}/{name}"
    return shown if project == "default" else f"{project}:{shown}"


_KINDS = {"repo": "repository", "app": "application"}


def _below(fact: Fact | None) -> Iterator[str]:
    lines: Iterable[str] = ()
    omitted = 0
    match fact:
        case c.DriftDetected():
            lines = difference_lines(_plain(fact.differences), INDENT)
            omitted = fact.omitted
        case c.ConfigurationRefused():
            lines = (f"{INDENT}{safe(problem_line(found))}" for found in fact.problems)
            omitted = fact.omitted
        case c.CorrectionPlanned():
            lines = (
                f"{INDENT}{action.verb} {object_name(_plain(action.ref))} ({safe(action.reason)})"
                for action in fact.actions
            )
        case c.CorrectionApplied() | c.CorrectionFailed():
            lines = _result_lines(fact.results)
        case c.ReconcileHeld():
            lines = (f"{INDENT}{object_name(_plain(ref))}" for ref in fact.objects)
        case c.ObjectsObserved():
            lines = (
                f"{INDENT}{object_name(_plain(seen.ref))} {seen.presence}, {seen.health}"
                for seen in fact.objects
            )
    yield from _capped(lines, omitted)


def _result_lines(results: Iterable[Any]) -> Iterator[str]:
    for result in results:
        if result.outcome is Outcome.UNCHANGED and not result.mutated:
            continue
        why = f": {safe(result.message)}" if result.message else ""
        managers = f" (managed by {safe(', '.join(result.managers))})" if result.managers else ""
        yield f"{INDENT}{object_name(_plain(result.ref))} {result.outcome}{why}{managers}"
        yield from difference_lines(_plain(result.mutated), INDENT * 2)


def problem_line(found: ConfigurationProblem) -> str:
    """Write what is wrong with a control repository as `trueup apply` would."""
    return str(Problem(found.file, found.line, found.field, found.message, found.hint))


def _capped(lines: Iterable[str], omitted: int) -> Iterator[str]:
    for place, line in enumerate(lines):
        if place < MAX_LINES:
            yield line
        else:
            omitted += 1
    if omitted:
        yield f"{INDENT}and {omitted} more"


def _plain(value: object) -> Any:
    return msgspec.to_builtins(value)
