"""`timeline` and `events`: what happened."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import Client, Query, connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.errors import CliError
from engine.cli.narrate import narrate, trace_id
from engine.cli.output import (
    Format,
    local_time,
    note,
    one_line,
    print_data,
    print_lines,
    safe,
    say,
    tell,
)

Output = Annotated[Format, Parameter(name=["--output", "-o"])]
Follow = Annotated[bool, Parameter(name=["--follow", "-F"], negative="", help="go on, live")]
PAGE = 500


async def timeline(
    subject: str | None = None,
    /,
    *,
    follow: Follow = False,
    limit: Annotated[int, Parameter(name=["--limit", "-n"], help="only the last so many")] = 100,
    after: Annotated[int | None, Parameter(help="only what came after this position")] = None,
    before: Annotated[int | None, Parameter(help="only what came before this position")] = None,
    when: When = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Tell what happened to a subject, oldest first: what, who, why, and each field that changed.

    A subject is a target (app@cluster), application/NAME, cluster/NAME, repository/NAME,
    notification/NAME, a commit (its first 7 digits will do), or an object:
    cluster/namespace/Kind/name. Without one, it is everything.

    For example:

        trueup timeline shop@prod
        trueup timeline prod/shop/Deployment/web --follow
        trueup timeline 1f3c9a2
        trueup timeline shop@prod --at "2h ago" -n 5
    """
    if follow and when:
        raise CliError("--at is for the past: what is followed is still to come")
    async with connect(at) as client:
        query: Query = {"at": when}
        names: dict[str, str] = {}
        if subject is None:
            items = await _last_events(client, query, after, before, limit, names)
            path = "/v1/events"
        else:
            path = "/v1/timeline"
            query = {"subject": subject, "project": client.project, **query}
            items = await _timeline(client, query, after, before, limit, names)
        _tell(items, output, before_more=follow, names=names)
        if follow:
            last = items[-1]["position"] if items else (after or 0)
            async with aclosing(client.follow(path, query, last)) as events:
                async for event in events:
                    _tell([event], output, before_more=True, names=names)
        elif not items:
            note("nothing is recorded of it")
    return 0


async def events(
    *,
    after: Annotated[int | None, Parameter(help="only what came after this position")] = None,
    stream: Annotated[
        str | None, Parameter(help="only this stream: target/default/app@cluster")
    ] = None,
    type_: Annotated[
        list[str] | None, Parameter(name=["--type", "-t"], negative="", help="only these types")
    ] = None,
    follow: Follow = False,
    limit: Annotated[
        int | None,
        Parameter(name=["--limit", "-n"], help="at most so many (default: all after --after)"),
    ] = None,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """List the events of the log in order. Without --after: the last 100.

    For example:

        trueup events --after 1000 --type CorrectionFailed
        trueup events --stream target/default/shop@prod -o jsonl
        trueup events --follow
    """
    async with connect(at) as client:
        query: Query = {"stream": stream, "type": ",".join(type_) if type_ else None}
        start = after
        if start is None:
            head = (await client.get("/v1/version"))["position"]
            start = 0 if stream or type_ else max(0, head - (limit or 100))
        last = await _list(client, query, start, limit, output)
        if follow:
            async with aclosing(client.follow("/v1/events", query, last)) as coming:
                async for event in coming:
                    _print_events([event], output, header=False)
    return 0


async def _list(client: Client, query: Query, after: int, limit: int | None, output: Format) -> int:
    """Print page by page, so that a long log is never held whole. Returns the last position."""
    left = limit
    is_first = True
    gathered: list[Any] = []
    while left is None or left > 0:
        wanted = PAGE if left is None else min(PAGE, left)
        page = await client.get("/v1/events", {**query, "after": after, "limit": wanted})
        items = page["items"]
        if output == "json":
            gathered += items
        else:
            _print_events(items, output, header=is_first)
        is_first = False
        after = items[-1]["position"] if items else after
        left = None if left is None else left - len(items)
        if page["next"] is None:
            break
    if output == "json":
        print_data(output, {"items": gathered})
    return after


async def _timeline(
    client: Client,
    query: Query,
    after: int | None,
    before: int | None,
    limit: int,
    names: dict[str, str],
) -> list[Any]:
    found: list[Any] = []
    while len(found) < limit:
        wanted = min(PAGE, limit - len(found))
        bounds = {"after": after, "before": before, "order": "desc", "limit": wanted}
        page = await client.get("/v1/timeline", {**query, **bounds})
        found += page["items"]
        names.update(page["names"])
        before = page["next"]
        if before is None:
            break
    return list(reversed(found))


async def _last_events(
    client: Client,
    query: Query,
    after: int | None,
    before: int | None,
    limit: int,
    names: dict[str, str],
) -> list[Any]:
    head = (await client.get("/v1/events", {**query, "limit": 1}))["position"]
    end = head + 1 if before is None else before
    start = max(after or 0, end - 1 - limit)
    found: list[Any] = []
    while len(found) < limit:
        page = await client.get("/v1/events", {**query, "after": start, "limit": min(PAGE, limit)})
        found += [item for item in page["items"] if item["position"] < end]
        names.update(page["names"])
        if page["next"] is None or page["next"] >= end:
            break
        start = page["next"]
    return found[:limit]


def _tell(items: list[Any], output: Format, *, before_more: bool, names: Mapping[str, str]) -> None:
    if output == "jsonl" or (output != "table" and output != "wide" and before_more):
        print_lines(items)
    elif not print_data(output, {"items": items}, items):
        for item in items:
            for line in narrate(item, wide=output == "wide", names=names):
                tell(line)
    _flush()


def _print_events(items: list[Any], output: Format, *, header: bool) -> None:
    if output in ("table", "wide"):
        for item in items:
            say(_event_line(item, wide=output == "wide"))
    elif output == "yaml":
        print_data(output, None, items)
    else:
        print_lines(items)
    _flush()


def _event_line(item: Any, *, wide: bool) -> str:
    cells = [
        f"{item['position']:>6}",
        local_time(item["recordedAt"]),
        f"{item['type']:<20}",
        item["stream"],
    ]
    if wide:
        cells += [item["actor"], trace_id(item) or "-", one_line(item["payload"], 200)]
    return safe("  ".join(cells))


def _flush() -> None:
    import sys

    sys.stdout.flush()
