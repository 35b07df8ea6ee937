"""`plan`, `approve`, `rollback`: what a person decides about one target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.diff import difference_lines, object_name
from engine.cli.errors import CliError
from engine.cli.names import actable, path_of
from engine.cli.operate import Output, Reason
from engine.cli.output import print_data, print_table, safe, say
from events.vocabulary import Outcome

NOTHING, SOMETHING, REFUSED = 0, 1, 3
_REFUSED = {str(each) for each in Outcome if not each.is_success and each is not Outcome.SKIPPED}


async def plan(
    target: str,
    /,
    *,
    dry_run: Annotated[
        Literal["server"] | None,
        Parameter(help="ask the cluster by dry runs what each action would come to"),
    ] = None,
    when: When = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Show what would be done to a target now, and what keeps it from being done.

    Leaves with 0 where there is nothing to do, with 1 where there is, and with 3 where a dry run
    says that the cluster would refuse some of it. The plan's digest can be
    given to `trueup approve`; it names just these actions on just what was observed.

    For example:

        trueup plan shop@prod
        trueup plan shop@prod --dry-run server
        trueup plan shop@prod -o json | jq -r .plan
    """
    async with connect(at) as client:
        path = path_of("targets", client.project, _target(target), "plan")
        answer = await client.get(path, {"at": when, "dryRun": dry_run})
    if not print_data(output, answer):
        _print(answer)
    if any(item["outcome"] in _REFUSED for item in answer["dryRun"] or ()):
        return REFUSED
    return SOMETHING if answer["actions"] else NOTHING


def _print(answer: Any) -> None:
    actions = answer["actions"]
    if not actions:
        say(f"{safe(answer['target'])}: nothing to do")
    else:
        rows = [
            [item["verb"], object_name(item["ref"]), item["reason"], str(item.get("wave", 0))]
            for item in actions
        ]
        header = ["VERB", "OBJECT", "WHY", "WAVE"]
        if answer["dryRun"]:
            header.append("DRY RUN")
            for row, item in zip(rows, answer["dryRun"], strict=True):
                row.append(item["outcome"])
        print_table(header, rows, flexible=["OBJECT"])
        _print_dry_run(actions, answer["dryRun"] or ())
        say(f"plan {answer['plan']}")
    if answer["approved"]:
        say("approved")
    elif answer["hold"]:
        say(f"held: {safe(answer['hold']['message'])} ({answer['hold']['code']})")
    for item in answer["held"]:
        say(f"left: {safe(item['message'])} ({item['code']})")


def _print_dry_run(actions: Sequence[Any], answers: Sequence[Any]) -> None:
    """Say of each action what the cluster would not take as it is."""
    for action, item in zip(actions, answers, strict=False):
        name = object_name(action["ref"])
        if item["message"]:
            say(f"{item['outcome']}: {safe(name)}: {safe(item['message'])}")
        for line in difference_lines(item["mutated"], "  "):
            say(line)


async def approve(
    target: str,
    plan: Annotated[
        str | None, Parameter(help="the plan's digest, as `trueup plan` shows it")
    ] = None,
    /,
    *,
    reason: Reason,
    override: Annotated[
        int | None, Parameter(help="approve that the sync at this position overrode a window")
    ] = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Approve a plan: it is carried out, though sync.mode is manual, while it fits the facts.

    For example:

        trueup approve shop@prod sha256:5f0c... --reason "looked at together"
        trueup approve shop@prod --override 812 --reason "incident 7, afterwards"
    """
    if (plan is None) == (override is None):
        raise CliError("name a plan, or --override POSITION: one of them")
    body = {"reason": reason, **({"plan": plan} if plan else {"override": override})}
    return await _do(target, "approve", body, "approved", output, at)


async def rollback(
    target: str,
    /,
    *,
    reason: Reason,
    to: Annotated[
        str | None, Parameter(help="the commit to go back to: its first 7 digits, or more")
    ] = None,
    lift: Annotated[bool, Parameter(negative="", help="follow commits again")] = False,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Go back to an earlier commit's state and stay there, newer commits masked, until lifted.

    Drift is corrected to that state meanwhile. `trueup timeline` shows what a target was in.

    For example:

        trueup rollback shop@prod --to 1f3c9a2 --reason "incident 7"
        trueup rollback shop@prod --lift --reason "fixed in 9d2e0b1"
    """
    if (to is None) != lift:
        raise CliError("say --to COMMIT, or --lift: one of them")
    if lift:
        body = {"reason": reason}
        return await _do(target, "lift-rollback", body, "follows commits again", output, at)
    return await _do(
        target, "rollback", {"reason": reason, "revision": to}, "goes back", output, at
    )


async def _do(
    target: str, verb: str, body: dict[str, Any], what: str, output: Output, at: Connection
) -> int:
    async with connect(at) as client:
        path = path_of("targets", client.project, _target(target), verb)
        answer = await client.write("POST", path, body)
    if not print_data(output, answer):
        to = f" to {safe(answer['revision'][:12])}" if "revision" in answer else ""
        say(f"{safe(answer['subject'])} {what}{to}  (position {answer['position']})")
    return 0


def _target(name: str) -> str:
    collection, short = actable(name)
    if collection != "targets":
        raise CliError(f"{name} is no target", hint="write application@cluster")
    return short
