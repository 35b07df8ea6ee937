"""`drift`, `accept`, `adopt`: what differs without a commit, and what a person says to it."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.diff import difference_lines
from engine.cli.errors import CliError
from engine.cli.names import actable, path_of
from engine.cli.operate import Output, Reason
from engine.cli.output import age, note, print_data, print_table, safe, say
from engine.resources import duration

_SHOWN = 3


async def drift(
    subject: str | None = None,
    /,
    *,
    state: Annotated[
        Literal["open", "ended", "all"], Parameter(help="which cases; of one target: all of them")
    ] = "open",
    when: When = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """List drift cases: who, since when, for how long, and what was done about it.

    Of a target every case, open and past, with its differences; else those that are open.

    For example:

        trueup drift
        trueup drift shop@prod
        trueup drift --state all -o json
    """
    target = _target(subject) if subject else ""
    application, _, cluster = target.rpartition("@")
    query: dict[str, str | int | None] = {
        "application": application or None,
        "cluster": cluster or None,
        "state": None if target or state == "all" else state,
        "at": when,
    }
    async with connect(at) as client:
        items = await client.pages(f"/v1/drift/{client.project}", query)
    if not print_data(output, {"items": items}, items):
        _print(items, whole=bool(target) or output == "wide")
        if not items:
            note("there is no drift" + (f" of {target}" if target else ""))
    return 0


def _print(items: list[Any], *, whole: bool) -> None:
    now = time.time()
    if not whole:
        rows = [
            [
                item["case"].partition("/")[2],
                "ended" if item["ended"] else "open",
                age(item["openedAt"], now),
                len(item["differences"]) + item["omitted"],
                _who(item),
                _done(item),
            ]
            for item in items
        ]
        header = ["CASE", "STATE", "OPENED", "DIFFERENCES", "BY", "DONE"]
        print_table(header, rows, flexible=["DONE"])
        return
    for item in items:
        length = _length(item)
        say(f"{safe(item['case'])}  {item['openedAt']}  by {safe(_who(item))}{length}")
        say(f"  {safe(_done(item))}")
        for line in difference_lines(item["differences"][:_SHOWN], "  "):
            say(line)
        more = len(item["differences"]) + item["omitted"] - _SHOWN
        if more > 0:
            say(f"  and {more} more")


def _who(item: Any) -> str:
    return ", ".join(item["managers"]) or "nobody on record"


def _length(item: Any) -> str:
    if not item["endedAt"]:
        return ""
    began, ended = (datetime.fromisoformat(item[name]) for name in ("openedAt", "endedAt"))
    return f", for {duration.spell((ended - began).total_seconds())}"


def _done(item: Any) -> str:
    tries = item["corrections"] + item["failures"]
    tried = f", {tries} correction{'s' if tries != 1 else ''}" if tries else ""
    failed = f", {item['failures']} failed" if item["failures"] else ""
    if not item["ended"]:
        return f"open{tried}{failed}"
    accepted = ""
    if item["acceptedBy"] and item["how"] == "accepted":
        until = f" until {item['until']}" if item["until"] else ""
        accepted = f" by {item['acceptedBy']}{until}: {item['reason']}"
    return f"{item['how']}{accepted}{tried}{failed}"


async def accept(
    target: str,
    /,
    *,
    reason: Reason,
    case: Annotated[str | None, Parameter(help="the case, to be sure of it")] = None,
    for_: Annotated[
        str | None, Parameter(name="--for", help="for how long, as in 2h; else until ended")
    ] = None,
    until: Annotated[str | None, Parameter(help="until when, as in 2026-03-03T14:00:00Z")] = None,
    end: Annotated[bool, Parameter(negative="", help="accept nothing any more")] = False,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Accept a target's open drift case as it is, for a while: what it names is left until then.

    Whatever changes besides, or again, is drift like any other.

    For example:

        trueup accept shop@prod --for 2h --reason "incident 7: scaled by hand"
        trueup accept shop@prod --end --reason "incident 7 is over"
    """
    if end and (for_ or until or case):
        raise CliError("--end goes with none of --case, --for, --until")
    if for_ and until:
        raise CliError("say --for or --until, and not both")
    said = {"case": case, "duration": for_, "until": until, "end": end or None}
    body = {"reason": reason, **{key: value for key, value in said.items() if value}}
    what = "accepts no drift any more" if end else "drift accepted"
    return await _do(target, "accept", body, what, output, at)


async def adopt(
    target: str,
    /,
    *,
    reason: Reason,
    manager: Annotated[
        list[str] | None,
        Parameter(negative="", help="a field manager besides those that are known; repeatable"),
    ] = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Take over objects that kubectl, Helm, Argo CD or Flux manage: their fields become ours.

    Nothing in the objects changes by that, so no pod is restarted; what they have and Git does
    not declare goes with the next sync. Stop the other tool first, or it takes them back.

    For example:

        trueup adopt shop@prod --reason "moved from Helm"
        trueup adopt shop@prod --manager deploy-script --reason "the script is gone"
    """
    body = {"reason": reason, **({"managers": manager} if manager else {})}
    return await _do(target, "adopt", body, "takes over what is there", output, at)


async def _do(
    target: str, verb: str, body: dict[str, Any], what: str, output: Output, at: Connection
) -> int:
    name = _target(target)
    async with connect(at) as client:
        answer = await client.write("POST", path_of("targets", client.project, name, verb), body)
    if not print_data(output, answer):
        say(f"{safe(answer['subject'])} {what}  (position {answer['position']})")
    return 0


def _target(name: str) -> str:
    collection, short = actable(name)
    if collection != "targets":
        raise CliError(f"{name} is no target", hint="write application@cluster")
    return short
