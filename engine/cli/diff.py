"""`diff`: desired against live, field by field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.names import actable, path_of
from engine.cli.output import Format, note, one_line, print_data, safe, say, styled
from engine.cli.unified import alike, hunks

SAME, DIFFERENT = 0, 1
_SIGNS = {
    "missing": ("-", "red"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "reordered": ("~", "yellow"),
    "recreated": ("~", "yellow"),
    "extra": ("+", "cyan"),
    "foreign": ("+", "dim"),
    "mutated-on-admission": ("~", "dim"),
    "ownership-lost": ("~", "dim"),
    "ignored": ("~", "dim"),
    "accepted": ("~", "dim"),
}


async def diff(
    subject: str,
    /,
    *,
    unified: Annotated[
        bool, Parameter(name=["--unified", "-u"], negative="", help="as YAML, with - and +")
    ] = False,
    against: Annotated[
        str | None, Parameter(help="live, an earlier commit, or an earlier time")
    ] = None,
    when: When = None,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Compare what should be with what is, on a target or on all of an application's.

    Against a commit, what Git says now with what it said then; against a time, what is on the
    cluster now with what was. Targets that differ in the same way are shown together.

    Leaves with 0 where nothing differs that a sync would correct, with 1 where something does, with
    more where that could not be told. Fields of other managers are shown, and do not count.

    For example:

        trueup diff shop@prod
        trueup diff shop@prod --unified
        trueup diff shop@prod --at "10m ago"
        trueup diff shop@prod --against 1f3c9a2
        trueup diff shop@prod --against "1h ago" -u
        trueup diff shop || trueup sync shop --reason "put it right"
    """
    async with connect(at) as client:
        answers = [
            await client.get(
                path_of("targets", client.project, target, "diff"),
                {"at": when, "against": against},
            )
            for target in await _targets(client, subject, when)
        ]
    value = answers[0] if "@" in subject and answers else {"items": answers}
    if not print_data(output, value, answers):
        for targets, answer in alike(answers):
            _print(", ".join(map(safe, targets)), answer, unified=unified)
        if not answers:
            note(f"{subject} goes to no cluster yet")
    if any(not answer["same"] and not answer["differences"] for answer in answers):
        return DIFFERENT + 1
    return SAME if all(answer["same"] for answer in answers) else DIFFERENT


async def _targets(client: Client, subject: str, when: str | None) -> list[str]:
    collection, name = actable(subject)
    if collection == "targets":
        return [name]
    shown = await client.get(path_of(collection, client.project, name), {"at": when})
    return [item["target"] for item in shown["targets"] if item["code"] != "assigning"]


def _print(target: str, answer: Any, *, unified: bool) -> None:
    found = answer["differences"]
    count = len(found) + answer["omitted"]
    if answer["same"]:
        others = f" ({count} shown that a sync leaves alone)" if count else ""
        say(f"{styled(target, 'bold')}: no difference{others}")
    else:
        say(f"{styled(target, 'bold')}: {count} difference{'s' if count != 1 else ''}")
    for line in _unified(found) if unified else difference_lines(found, "  "):
        say(line)
    if answer["omitted"]:
        note(f"  and {answer['omitted']} more")
    for kind in answer["unknown"]:
        say(f"  {styled('?', 'red')} {safe(kind['kind'])}: {safe(kind['message'])}")


def _unified(differences: list[Any]) -> Iterable[str]:
    styles = {"-": "red", "+": "green", "@": "cyan"}
    for line in hunks(differences):
        sign = "" if line.sign == "@" else line.sign
        style = styles.get(line.sign)
        text = f"{sign}{safe(line.text)}"
        yield styled(text, style) if style else text


def difference_lines(differences: Iterable[Any], indent: str) -> Iterable[str]:
    """Write differences, a line each."""
    for item in differences:
        path = safe(item.get("path", ""))
        what = f"{path}: {_values(item)}" if path else _whole(item)
        yield f"{indent}{_sign(item['kind'])} {object_name(item['ref'])} {what}{_by(item)}"


def object_name(ref: Any) -> str:
    """Write which object: `namespace/Kind/name`."""
    place = f"{ref['namespace']}/" if ref.get("namespace") else ""
    return safe(f"{place}{ref['kind']}/{ref['name']}")


def _sign(kind: str) -> str:
    sign, style = _SIGNS.get(kind, ("~", ""))
    return styled(sign, style)


def _whole(item: Any) -> str:
    what = {"missing": "is missing", "extra": "is no longer desired"}.get(item["kind"])
    return what or f"{item['kind']}: {one_line(item.get('after'))}"


def _values(item: Any) -> str:
    before, after = one_line(item.get("before")), one_line(item.get("after"))
    match item["kind"]:
        case "foreign":
            return f"{after} (not declared, left alone)"
        case "removed":
            return f"{before} -> removed"
        case "ignored":
            return f"{before} -> {after} (ignored, left alone)"
        case "accepted":
            return f"{before} -> {after} (accepted, left alone)"
        case "mutated-on-admission":
            return f"{before} -> {after} (by admission, left alone)"
    return f"{before} -> {after}"


def _by(item: Any) -> str:
    manager = item.get("manager")
    return f"  by {safe(manager)}" if manager else ""
