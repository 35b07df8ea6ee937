"""`get`: resources and targets in tables, or whole."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from msgspec import Struct

from engine.cli.client import Client, Query, connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.errors import CliError
from engine.cli.names import path_of, split_name
from engine.cli.output import Format, age, note, print_data, print_lines, print_table
from engine.cli.watch import Change, watch
from engine.resources.parse import Problem

Item = dict[str, Any]


class Column(Struct, frozen=True):
    """A column of a table: its header, its value, and whether it is for `-o wide` only."""

    header: str
    value: Callable[[Item], object]
    wide: bool = False
    flexible: bool = False


async def get(
    kind: str,
    name: str | None = None,
    /,
    *,
    application: Annotated[str | None, Parameter(help="only targets of this one")] = None,
    cluster: Annotated[str | None, Parameter(help="only targets on this one")] = None,
    when: When = None,
    follow: Annotated[
        bool,
        Parameter(name=["--watch", "-w"], negative="", help="then show what changes, until Ctrl-C"),
    ] = False,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """List repositories, clusters, applications, notifications or targets, and how they stand.

    For example:

        trueup get targets
        trueup get targets --cluster prod -o wide
        trueup get application shop -o yaml
        trueup get targets --watch
        trueup get targets --at 2026-03-03T14:00Z
        trueup get targets -o jsonl | jq -r 'select(.sync != "synced") | .target'
    """
    collection, short = split_name(kind, name)
    if follow:
        _check_watch(short, when, output)
    async with connect(at) as client:
        if short and collection == "targets":
            shown = await client.get(path_of(collection, client.project, short), {"at": when})
            items = [shown["status"]]
        elif short:
            items = [await client.get(path_of(collection, client.project, short), {"at": when})]
        else:
            filters = {"application": application, "cluster": cluster}
            query = {"at": when, **(filters if collection == "targets" else {})}
            if follow:
                return await _watch(client, collection, query, output)
            items = await client.pages(f"/v1/{collection}/{client.project}", query)
    value = items[0] if short else {"items": items}
    if not print_data(output, value, items):
        show(COLUMNS[collection], items, wide=output == "wide")
        if not items:
            note(f"there are no {collection} in project {client.project}")
    return 0


def _check_watch(short: str | None, when: str | None, output: Format) -> None:
    if when:
        raise CliError("--watch shows what changes now: it goes with no --at")
    if output in ("json", "yaml"):
        raise CliError(f"--watch never ends, and -o {output} is one document", hint="-o jsonl")
    if short:
        raise CliError("--watch takes a list", hint="`trueup timeline NAME --follow` follows one")


async def _watch(client: Client, collection: str, query: Query, output: Format) -> int:
    """Print the list, and each item again when it has changed."""
    is_first = True

    def tell(change: Change) -> None:
        nonlocal is_first
        if output == "jsonl":
            print_lines(change.items)
        elif change.items or is_first:
            show(COLUMNS[collection], change.items, wide=output == "wide", header=is_first)
        for name in change.gone:
            note(f"{name} is gone")
        is_first = False
        sys.stdout.flush()

    key = "target" if collection == "targets" else "name"
    path = f"/v1/{collection}/{client.project}"
    await watch(client, path, query, key, tell)
    return 0


def show(
    columns: Sequence[Column], items: Sequence[Item], *, wide: bool, header: bool = True
) -> None:
    """Print items as a table."""
    shown = [column for column in columns if wide or not column.wide]
    print_table(
        [column.header for column in shown],
        [[column.value(item) for column in shown] for item in items],
        # Who asks for a wide table wants to read it whole.
        flexible=[] if wide else [column.header for column in shown if column.flexible],
        with_header=header,
    )


def labels(item: Item) -> str:
    """Write a resource's labels."""
    found = item["resource"]["metadata"].get("labels", {})
    return ",".join(f"{key}={value}" for key, value in found.items())


def short(commit: object) -> str:
    """Write a commit's id as people do."""
    return str(commit or "")[:10]


def _since(text: str | None) -> str:
    return age(text, time.time())


def _ref(item: Item) -> str:
    ref = item["resource"]["spec"].get("ref", {})
    return (
        next((str(value)[:30] for value in ref.values()), "")
        or item["state"]["ref"].rpartition("/")[2]
    )


def _source_state(item: Item) -> str:
    failure = item["state"]["failure"]
    if failure:
        return f"failed: {failure['message']}"
    refused = (item["state"]["configuration"] or {}).get("refused")
    if refused and item["resource"]["spec"].get("control"):
        return f"refused: {problem_of(refused)}"
    return "ok" if item["state"]["commit"] else "pending"


def _control(item: Item) -> str:
    if not item["resource"]["spec"].get("control"):
        return ""
    return short((item["state"]["configuration"] or {}).get("commit")) or "pending"


def problem_of(refused: Item) -> str:
    """Write the first problem of a refused configuration, and how many more there are."""
    more = len(refused["problems"]) + refused.get("omitted", 0) - 1
    return problem_line(refused["problems"][0]) + (f" (and {more} more)" if more else "")


def problem_line(problem: Item) -> str:
    """Write one problem as `apply` does: file, line, field, what is wrong, and a remedy."""
    return str(msgspec.convert(problem, Problem))


def _cluster_state(item: Item) -> str:
    lost = item["state"]["lost"]
    if lost:
        return "lost"
    return "connected" if item["state"]["connected"] else "pending"


def _cluster_why(item: Item) -> str:
    lost = item["state"]["lost"]
    return lost["message"] if lost else ""


def _unreadable(item: Item) -> str:
    kinds = item["state"]["kinds"]
    return ",".join(kind for kind, state in sorted(kinds.items()) if state.get("code"))


COLUMNS: dict[str, tuple[Column, ...]] = {
    "targets": (
        Column("TARGET", lambda item: item["target"], flexible=True),
        Column("SYNC", lambda item: item["sync"]),
        Column("HEALTH", lambda item: item["health"]),
        Column("REVISION", lambda item: short(item["revision"])),
        Column("DESIRED", lambda item: short(item["desiredRevision"]), wide=True),
        Column("OBJECTS", lambda item: item["objects"], wide=True),
        Column("DRIFT", lambda item: item["differences"], wide=True),
        Column("SYNCED", lambda item: _since(item.get("syncedAt")), wide=True),
        Column("POSITION", lambda item: item["position"], wide=True),
        Column("REASON", lambda item: item["reason"], flexible=True),
    ),
    "applications": (
        Column("APPLICATION", lambda item: item["name"], flexible=True),
        Column("SYNC", lambda item: "suspended" if item["suspended"] else item["sync"]),
        Column("TARGETS", lambda item: f"{item['synced']}/{item['total']}"),
        Column("HEALTH", lambda item: item["health"]),
        Column("RENDERED", lambda item: short(item["state"]["commit"])),
        Column("OBJECTS", lambda item: item["state"]["count"], wide=True),
        Column("DECLARED", lambda item: _since(item["at"]), wide=True),
        Column("BY", lambda item: item["actor"], wide=True),
        Column("POSITION", lambda item: item["position"], wide=True),
        Column("SOURCE", lambda item: _source(item), flexible=True),
    ),
    "clusters": (
        Column("CLUSTER", lambda item: item["name"], flexible=True),
        Column("STATE", _cluster_state),
        Column("VERSION", lambda item: item["state"]["serverVersion"]),
        Column("SINCE", lambda item: _since(item["state"]["since"])),
        Column("UNREADABLE", _unreadable, wide=True),
        Column("POSITION", lambda item: item["position"], wide=True),
        Column("WHY", _cluster_why, wide=True),
        Column("LABELS", labels, flexible=True),
    ),
    "notifications": (
        Column("NOTIFICATION", lambda item: item["name"], flexible=True),
        Column("STATE", lambda item: _told_state(item)),
        Column("TO", lambda item: _receiver(item)),
        Column("DELIVERED", lambda item: item["state"]["delivered"]),
        Column("LAST", lambda item: _told_last(item)),
        Column("URL", lambda item: _receiver_url(item), wide=True),
        Column("THROUGH", lambda item: item["state"]["through"], wide=True),
        Column("POSITION", lambda item: item["position"], wide=True),
        Column("WHY", lambda item: _told_why(item), flexible=True),
    ),
    "repositories": (
        Column("REPOSITORY", lambda item: item["name"], flexible=True),
        Column("REF", _ref, flexible=True),
        Column("COMMIT", lambda item: short(item["state"]["commit"])),
        Column("SINCE", lambda item: _since(item["state"]["movedAt"])),
        Column("CONTROL", _control, wide=True),
        Column("POSITION", lambda item: item["position"], wide=True),
        Column("URL", lambda item: item["resource"]["spec"]["url"], wide=True),
        Column("STATE", _source_state, flexible=True),
    ),
}


def _told_state(item: Item) -> str:
    state = item["state"]
    failing = state["failing"]
    if state["stopped"]:
        return "stopped"
    return "failing" if failing else "ok"


def _told_why(item: Item) -> str:
    failing = item["state"]["failing"]
    return f"{failing['message']} (for {_since(failing['since'])})" if failing else ""


def _told_last(item: Item) -> str:
    last = item["state"]["last"]
    return _since(last["at"]) if last else ""


def _receiver(item: Item) -> str:
    return "slack" if "slack" in item["resource"]["spec"] else "webhook"


def _receiver_url(item: Item) -> str:
    return str(item["resource"]["spec"].get("webhook", {}).get("url", "in a file"))


def _source(item: Item) -> str:
    source = item["resource"]["spec"]["source"]
    path = source.get("path", ".")
    return str(source["repository"]) + ("" if path == "." else f":{path}")
