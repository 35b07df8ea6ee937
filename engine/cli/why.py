"""`why` and `replay`: the reasons of a target's state, and of every decision about it."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.errors import CliError
from engine.cli.names import actable, path_of
from engine.cli.output import Format, local_time, note, one_line, print_data, safe, say, styled

Output = Annotated[Format, Parameter(name=["--output", "-o"])]
SAME, DIFFERENT = 0, 1


async def why(
    target: str, /, *, when: When = None, output: Output = "table", at: Connection = HERE
) -> int:
    """Say why a target is, or is not, synced: what it has to pass, and where it stands.

    Leaves with 0 where it passes everything, with 1 where something holds it up.

    For example:

        trueup why shop@prod
        trueup why shop@prod --at 2026-03-03T14:00Z
    """
    async with connect(at) as client:
        answer = await client.get(
            path_of("targets", client.project, _name(target), "why"), {"at": when}
        )
    if not print_data(output, answer):
        _print(answer)
    return SAME if answer["standsAt"] is None else DIFFERENT


def _print(answer: Any) -> None:
    status = answer["status"]
    say(f"{styled(safe(answer['target']), 'bold')}: {status['sync']}, {status['health']}")
    is_first = True
    for guard in answer["guards"]:
        mark = styled("ok", "green")
        if not guard["passes"]:
            mark, is_first = (styled("->", "red"), False) if is_first else ("- ", False)
        since = f" since {local_time(guard['at'])}" if guard.get("at") else ""
        until = f", until {local_time(guard['until'])}" if guard.get("until") else ""
        place = f" (position {guard['position']})" if guard["position"] else ""
        say(f"  {mark} {guard['name']:<13} {safe(guard['message'])}{since}{until}{place}")


async def replay(
    target: Annotated[str | None, Parameter(help="the target; else, all of the project")] = None,
    *,
    from_: Annotated[
        int | None, Parameter(name="--from", help="only decisions after this position")
    ] = None,
    to: Annotated[str | None, Parameter(help="up to a position, or a time")] = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Make every recorded decision again, on the facts that it was made on, and compare.

    Leaves with 0 where all come out the same, with 1 where one does not. What this release would
    decide otherwise is shown field by field; what the release that recorded a decision did not know
    yet does not count.

    For example:

        trueup replay shop@prod
        trueup replay --target shop@prod --from 1000 --to 2026-03-03
    """
    found: list[Any] = []
    async with connect(at) as client:
        for name in [_name(target)] if target else await _all(client):
            items = [item async for item in _decisions(client, name, from_, to)]
            found += [{"target": name, **item} for item in items]
            if output in ("table", "wide"):
                _tell(name, items)
    differing = sum(item["same"] is False for item in found)
    unknown = sum(item["same"] is None for item in found)
    value = {"decisions": len(found), "differing": differing, "unknown": unknown, "items": found}
    if not print_data(output, value, found):
        more = f", {unknown} could not be made again" if unknown else ""
        same = len(found) - differing - unknown
        say(f"{len(found)} decisions: {same} came out the same, {differing} did not{more}")
    return DIFFERENT if differing else SAME


async def _all(client: Client) -> list[str]:
    items = await client.pages(f"/v1/targets/{client.project}", {"all": "true"})
    return [item["target"] for item in items]


async def _decisions(client: Client, name: str, after: int | None, to: str | None) -> Any:
    path = path_of("targets", client.project, name, "replay")
    while True:
        page = await client.get(path, {"after": after, "to": to})
        for item in page["items"]:
            yield item
        after = page["next"]
        if after is None:
            return
        note(f"{safe(name)}: at {after} of {page['position']}")


def _tell(name: str, items: list[Any]) -> None:
    for item in items:
        if item["same"]:
            continue
        places = ", ".join(map(str, item["positions"]))
        if item["same"] is None:
            note(f"{safe(name)} at {places}: {safe(item['problem'])}")
            continue
        say(f"{safe(name)} at {places}, seen at {item['seen']}: {styled('not the same', 'red')}")
        if item["problem"]:
            say(f"  {safe(item['problem'])}")
        for field in item["differing"]:
            then, now = one_line(field["then"], 200), one_line(field["now"], 200)
            say(f"  {safe(field['path'])}: then {safe(then)}, now {safe(now)}")


def _name(target: str) -> str:
    collection, short = actable(target)
    if collection != "targets":
        raise CliError(f"{target} is no target", hint="write application@cluster")
    return short
