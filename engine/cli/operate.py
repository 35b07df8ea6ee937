"""`sync`, `wait`, `suspend`, `resume`: what a person asks of targets."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.look import COLUMNS, show
from engine.cli.names import actable, path_of
from engine.cli.output import Format, note, print_data, safe, say
from engine.resources import duration

POLL = 25.0
"""Seconds that one request waits at most: proxies cut what is quiet for a minute."""
Reason = Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")]
Output = Annotated[Format, Parameter(name=["--output", "-o"])]


async def sync(
    subject: str,
    /,
    *,
    reason: Reason,
    revision: Annotated[
        str | None, Parameter(help="the commit that is expected, all 40 digits")
    ] = None,
    prune: Annotated[
        bool, Parameter(negative="", help="confirm that what is no longer desired is deleted")
    ] = False,
    override_window: Annotated[
        bool,
        Parameter(
            negative="", help="go ahead though a sync window is closed; to be approved later"
        ),
    ] = False,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Ask for a sync of a target, or of each of an application's, now: Git is looked at first.

    Returns as soon as that is on the record; `trueup wait` waits for its end.

    For example:

        trueup sync shop@prod --reason "hotfix 42"
        trueup sync shop@prod --override-window --reason "incident 7"
        trueup sync shop --reason "after the outage" && trueup wait shop --for synced
    """
    async with connect(at) as client:
        body = {
            "reason": reason,
            "revision": revision or "",
            "prune": prune,
            "override": override_window,
        }
        answer = await _ask(client, subject, "sync", body)
    if not print_data(output, answer):
        for target in answer["targets"]:
            say(f"{safe(target)} sync requested  (position {answer['position']})")
        if answer["suspended"] is not None:
            note(f"it is suspended ({safe(answer['suspended'])}): nothing happens until resumed")
        if override_window:
            position = answer["position"]
            say(f"to approve of it: trueup approve TARGET --override {position} --reason ...")
    return 0


async def suspend(
    subject: str,
    /,
    *,
    reason: Reason,
    for_: Annotated[
        str | None, Parameter(name="--for", help="for how long, as in 2h; else until resumed")
    ] = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Correct nothing on a target, or on any of an application's, until it is resumed.

    For example:

        trueup suspend shop@prod --for 2h --reason "load test"
        trueup suspend shop@prod --reason "incident 7: hands off"
        trueup suspend application/shop --reason freeze
    """
    async with connect(at) as client:
        answer = await _ask(client, subject, "suspend", {"reason": reason, "duration": for_ or ""})
    _say_changed(output, answer, "suspended")
    return 0


async def resume(
    subject: str, /, *, reason: Reason, output: Output = "table", at: Connection = HERE
) -> int:
    """Lift a suspension.

    For example:

        trueup resume shop@prod --reason "incident 7 is over"
    """
    async with connect(at) as client:
        answer = await _ask(client, subject, "resume", {"reason": reason})
    _say_changed(output, answer, "resumed")
    return 0


async def wait(
    subject: str,
    /,
    *,
    state: Annotated[
        Literal["synced", "healthy"], Parameter(name="--for", help="what to wait for")
    ] = "synced",
    revision: Annotated[
        str | None, Parameter(help="only at this commit (its first digits will do)")
    ] = None,
    after: Annotated[
        int | None,
        Parameter(help="only what is known after this position; default: the last write from here"),
    ] = None,
    timeout: Annotated[str, Parameter(help="for how long")] = "60s",
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Wait until a target, or every target of an application, is synced or healthy.

    Leaves with 0 once it is, with 1 when the time is over: then it says why. What was so before
    the last write from here (or before --after) never counts.

    For example:

        trueup wait shop@prod --for healthy --timeout 5m
        trueup wait shop --revision 1f3c9a2
    """
    try:
        seconds = duration.seconds(timeout) if not timeout.isdigit() else float(timeout)
    except ValueError as error:
        raise CliError(f"--timeout: {error}") from error
    _, name = actable(subject)
    async with connect(at) as client:
        position = await client.last_write() if after is None else after
        query = {
            "subject": name,
            "project": client.project,
            "for": state,
            "revision": revision,
            "after": position,
        }
        return await _wait(client, query, seconds, output)


async def _wait(
    client: Client, query: dict[str, str | int | None], seconds: float, output: Format
) -> int:
    deadline = time.monotonic() + seconds
    told = ""
    while True:
        left = max(0.0, deadline - time.monotonic())
        try:
            answer = await client.get("/v1/wait", {**query, "timeout": f"{min(left, POLL):.3f}"})
        except CliError as error:
            if error.code != "not-satisfied":
                raise
            if time.monotonic() >= deadline:
                return _timed_out(error, seconds, output)
            if error.message != told:
                told = error.message
                note(f"waiting: {safe(told)}")
            continue
        if not print_data(output, answer, answer["targets"]):
            show(COLUMNS["targets"], answer["targets"], wide=output == "wide")
        return 0


def _timed_out(error: CliError, seconds: float, output: Format) -> int:
    print_data(output, error.problem, error.problem.get("targets", ()))
    note(f"not so within {duration.spell(seconds)}: {safe(error.message)}")
    return 1


async def _ask(client: Client, subject: str, verb: str, body: dict[str, Any]) -> Any:
    collection, name = actable(subject)
    return await client.write("POST", path_of(collection, client.project, name, verb), body)


def _say_changed(output: Format, answer: Any, what: str) -> None:
    if print_data(output, answer):
        return
    if answer["changed"]:
        say(f"{safe(answer['subject'])} {what}  (position {answer['position']})")
    else:
        say(f"{safe(answer['subject'])} {safe(answer['detail'])}  (position {answer['position']})")
