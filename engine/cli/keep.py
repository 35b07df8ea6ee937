"""`views`, `rebuild`, `redact`, `version`, `completion`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.output import Format, note, print_data, print_fields, print_table, safe, say

Output = Annotated[Format, Parameter(name=["--output", "-o"])]


async def rebuild(
    view: str,
    /,
    *,
    drop_previous: Annotated[
        bool,
        Parameter(negative="", help="remove the generation before, once the new one is live"),
    ] = False,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Fold a view anew from the log, beside the live one, and put it in its place.

    The generation before stays until the next rebuild, so that the two can be compared.

    For example:

        trueup rebuild targets
        trueup rebuild targets --drop-previous
    """
    from urllib.parse import quote

    last: Any = {}
    async with connect(at) as client:
        path = f"/v1/views/{quote(view, safe='')}/rebuild"
        if drop_previous:
            path += "?dropPrevious=true"
        async with aclosing(client.lines("POST", path)) as lines:
            async for last in lines:
                if "position" in last:
                    share = 100 * last["position"] // max(1, last["head"])
                    note(f"{safe(view)}: {last['position']} of {last['head']} events ({share} %)")
    if "error" in last:
        raise CliError(last["error"], code=last["code"])
    if "done" not in last:
        raise CliError(f"the rebuild of {view} broke off", hint="is the server being stopped?")
    done = last["done"]
    if not print_data(output, done):
        same = "as before" if done["equal"] else f"{len(done['differing'])} differed before"
        say(f"{safe(view)} rebuilt: {done['documents']} documents at {done['position']}, {same}")
        if done["dropped"]:
            say(f"generations before it that were removed: {done['dropped']}")
        for key in done["differing"]:
            say(f"  {safe(key)}")
    return 0


async def views(*, output: Output = "table", at: Connection = HERE) -> int:
    """List the views: how far each is behind the log, and what of it is parked.

    Leaves with 1 where something is parked: a fold failed there, and the document stays as it was.

    For example:

        trueup views
        trueup views -o json | jq '.items[].lag'
    """
    async with connect(at) as client:
        answer = await client.get("/v1/views")
    items = answer["items"]
    if not print_data(output, answer, items):
        header = ["VIEW", "POSITION", "LAG", "DOCUMENTS", "PARKED", "ABOUT"]
        rows = [
            [
                item["name"],
                item["position"],
                item["lag"],
                "" if item["documents"] is None else item["documents"],
                item["parkedCount"],
                item["about"],
            ]
            for item in items
        ]
        print_table(header, rows, flexible=[] if output == "wide" else ["ABOUT"])
        note(f"the log is at {answer['head']}, and grew by {answer['rate']:.1f} events/s of late")
        for item in items:
            for each in item["parked"]:
                say(
                    f"{item['name']}: {each['scope']} {safe(each['name'])} is parked since "
                    f"position {each['position']}: {safe(each['message'])}"
                )
                say(f"  to mend it: trueup rebuild {item['name']}, with a release that folds it")
    return 1 if any(item["parkedCount"] for item in items) else 0


async def redact(
    digest: str,
    /,
    *,
    reason: Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")],
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Erase a body that should never have been kept, for good, and say so on the record.

    Its digest stays, and so do the events that name it and the proof over them. An apply that
    needs the body renders it again; a difference that it would tell is unknown from then on. What
    was written to disk before (Postgres' files and its WAL, backups, exports) is not reached.

    For example:

        trueup redact sha256:9f86d0… --reason "a password in a ConfigMap"
    """
    from urllib.parse import quote

    async with connect(at) as client:
        path = f"/v1/blobs/{quote(digest, safe=':')}/redact"
        answer = await client.write("POST", path, {"reason": reason})
    if not print_data(output, answer):
        what = f"{answer['size']} bytes erased" if answer["changed"] else "was erased already"
        say(f"{safe(digest)} {what}  (position {answer['position']})")
    return 0


async def version(
    *,
    client: Annotated[
        bool, Parameter(name="--client", negative="", help="only this command's, ask no server")
    ] = False,
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Say which release this is, and the server's, and how far its log and views are.

    For example:

        trueup version
        trueup version --client
    """
    from engine.cli.program import release

    value: dict[str, Any] = {"client": release()}
    problem = ""
    if not client:
        try:
            async with connect(at) as found:
                value["server"] = {"url": found.place.url, **await found.get("/v1/version")}
        except CliError as error:
            if error.status:
                raise
            problem = error.message
    if not print_data(output, value):
        server = value.get("server", {})
        print_fields(
            {
                "client": value["client"],
                "server": server.get("version"),
                "url": server.get("url"),
                "log": server.get("logId"),
                "position": server.get("position"),
                "views at": server.get("views"),
                "you are": server.get("actor"),
            }
        )
    if problem:
        note(f"no server: {safe(problem)}")
    return 0
