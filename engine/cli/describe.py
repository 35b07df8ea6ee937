"""`describe`: all that is known of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import Client, Query, connect
from engine.cli.connection import HERE, Connection, When
from engine.cli.diff import difference_lines
from engine.cli.errors import CliError
from engine.cli.look import COLUMNS, problem_line, show
from engine.cli.names import SINGULAR, path_of, split_name
from engine.cli.narrate import narrate
from engine.cli.output import (
    Format,
    local_time,
    print_data,
    print_fields,
    print_table,
    safe,
    say,
    styled,
    tell,
)

RECENT = 10


async def describe(
    kind: str,
    name: str | None = None,
    /,
    *,
    when: When = None,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Show all that is known of one repository, cluster, application, notification or target.

    For example:

        trueup describe shop@prod
        trueup describe application/shop --at 1204
        trueup describe cluster prod -o json
    """
    collection, short = split_name(kind, name)
    if not short:
        raise CliError("name one thing", hint="for example shop@prod, or application/shop")
    async with connect(at) as client:
        item = await client.get(path_of(collection, client.project, short), {"at": when})
        if print_data(output, item):
            return 0
        events = await _recent(client, collection, short, when)
    if collection == "targets":
        _target(item)
    else:
        _resource(item)
    _heading("Recent events")
    for event in events:
        for line in narrate(event):
            tell(f"  {line}")
    return 0


async def _recent(client: Client, collection: str, name: str, when: str | None) -> list[Any]:
    subject = name if collection == "targets" else f"{SINGULAR[collection]}/{name}"
    query: Query = {
        "subject": subject,
        "project": client.project,
        "order": "desc",
        "limit": RECENT,
        "at": when,
    }
    answer = await client.get("/v1/timeline", query)
    return list(reversed(answer["items"]))


def _target(item: Any) -> None:
    status, target = item["status"], item["target"]
    hold, request, suspended = target["hold"], target["request"], target["suspended"]
    print_fields(
        {
            "Target": status["target"],
            "Project": status["project"],
            "Sync": status["sync"],
            "Reason": status["reason"],
            "Health": status["health"],
            "Health message": status["healthMessage"],
            "Revision": status["revision"],
            "Desired revision": status["desiredRevision"],
            "Synced": _when(status.get("syncedAt")),
            "Namespace": target["namespace"],
            "Objects desired": status["objects"],
            "Held": f"{hold['code']}: {hold['message']} (position {hold['position']})"
            if hold
            else "",
            "Suspended": _said(suspended),
            "Rolled back": _said(target.get("pin")),
            "To approve": ", ".join(
                f"override at {each['position']} by {each['actor']}: {each['reason']}"
                for each in target.get("overrides") or ()
            ),
            "Last request": _said(request),
            "Retry": _when(status.get("retryAt")),
            "Position": status["position"],
        }
    )
    _drift(item["drift"])
    _correction(item["corrections"])
    if item["objects"]:
        _heading("Objects")
        rows = [
            [
                entry["object"]["kind"],
                entry["object"]["namespace"],
                entry["object"]["name"],
                entry["presence"],
                entry["health"],
                entry["message"],
            ]
            for entry in item["objects"]
        ]
        header = ["KIND", "NAMESPACE", "NAME", "PRESENCE", "HEALTH", "MESSAGE"]
        print_table(header, rows, flexible=["NAME", "MESSAGE"])


def _drift(drift: Any) -> None:
    case = drift["open"] or drift["last"]
    if not case:
        return
    ended = f", ended {_when(case['endedAt'])}: {safe(case['how'])}" if case.get("endedAt") else ""
    _heading(f"Drift since {_when(case['openedAt'])}{ended} ({drift['cases']} cases in all)")
    for line in difference_lines(case["differences"], "  "):
        say(line)


def _correction(corrections: Any) -> None:
    plan, last = corrections["plan"], corrections["last"]
    if plan:
        _heading("Correction under way")
        print_fields(
            {
                "Since": _when(plan["at"]),
                "Cause": plan["cause"],
                "Commit": plan["commit"],
                "Actions": len(plan["actions"]),
                "Attempt": plan["attempt"],
                "Position": plan["position"],
            },
            "  ",
        )
    if last:
        _heading("Last correction")
        print_fields(
            {
                "Ended": _when(last["at"]),
                "Outcome": f"{last['code']}: {last['message']}" if last.get("code") else "applied",
                "Cause": last["cause"],
                "Commit": last["commit"],
                "Actions": last["actions"],
                "Failures in a row": corrections["failures"] or "",
                "Position": last["position"],
            },
            "  ",
        )


def _resource(item: Any) -> None:
    print_fields(
        {
            item["kind"]: item["name"],
            "Project": item["project"],
            "Sync": item.get("sync"),
            "Health": item.get("health"),
            "Targets synced": f"{item['synced']}/{item['total']}" if "total" in item else "",
            "Suspended": _said(item["suspended"]),
            "Declared": f"{_when(item['at'])} by {item['actor']} (position {item['position']})",
            "Applications": ", ".join(item.get("applications", ())),
        }
    )
    _heading("Declared as")
    for line in _yaml_lines(item["resource"]):
        say(f"  {line}")
    if item["kind"] == "Notification":
        _delivery(item["state"])
        return
    _heading("State")
    print_fields(_flat(item["state"]), "  ")
    _configuration(item)
    targets: Sequence[Any] = item.get("targets", ())
    if targets:
        _heading("Targets")
        show(COLUMNS["targets"], targets, wide=False)


def _delivery(state: Any) -> None:
    """How the delivery of a notification fares."""
    failing, last, tested = state["failing"], state["last"], state["tested"]
    _heading("Delivery")
    print_fields(
        {
            "State": "stopped" if state["stopped"] else "failing" if failing else "ok",
            "Failing since": _when(failing["since"]) if failing else "",
            "Why": f"{failing['code']}: {failing['message']}" if failing else "",
            "Delivered": state["delivered"],
            "Refused": state["refused"] or "",
            "Last": f"{_when(last['at'])} {last['kind']} (position {last['position']})"
            if last
            else "",
            "Through": f"position {state['through']}",
            "Last test": f"{_when(tested['at'])} {tested.get('message') or 'delivered'}"
            if tested
            else "",
        },
        "  ",
    )


def _configuration(item: Any) -> None:
    """What a control repository has put in force, and what is wrong with its last commit."""
    if not item["resource"]["spec"].get("control"):
        return
    configuration = item["state"]["configuration"] or {}
    refused = configuration.get("refused")
    _heading("Configuration")
    print_fields(
        {
            "In force": configuration.get("commit") or "nothing yet",
            "Since": _when(configuration.get("at")),
            "Resources": configuration.get("resources"),
            "Refused": refused["commit"] if refused else "",
        },
        "  ",
    )
    for problem in refused["problems"] if refused else ():
        say(f"    {safe(problem_line(problem))}")


def _flat(state: Any) -> dict[str, object]:
    fields: dict[str, object] = {}
    for name, value in state.items():
        if name == "configuration":
            continue
        if isinstance(value, dict) and name == "kinds":
            unreadable = [kind for kind, of in sorted(value.items()) if of.get("code")]
            fields["kinds"] = f"{len(value)} looked at"
            fields["unreadable kinds"] = ", ".join(unreadable)
        elif isinstance(value, dict):
            fields[name] = f"{value.get('code')}: {value.get('message')}"
        elif isinstance(value, str) and name.endswith(("At", "at", "since")):
            fields[name] = local_time(value)
        elif value not in (0, False, ""):
            fields[name] = value
    return fields


def _yaml_lines(value: Any) -> list[str]:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=76)
    return [safe(line) for line in text.splitlines()]


def _said(what: Any) -> str:
    if not what:
        return ""
    return f"{what['reason']} ({what['actor']}, {_when(what['at'])}, position {what['position']})"


def _when(text: str | None) -> str:
    return local_time(text) if text else ""


def _heading(text: str) -> None:
    say(f"\n{styled(text, 'bold')}")
