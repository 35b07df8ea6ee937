"""`notify`: try notifications out, and deliver alerts again."""

from __future__ import annotations

import time
from typing import Annotated, Any

import anyio
from cyclopts import App, Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import HERE, Connection
from engine.cli.names import path_of
from engine.cli.output import Format, note, print_data, safe, say
from engine.resources import duration

POLL = 0.25
Output = Annotated[Format, Parameter(name=["--output", "-o"])]
Reason = Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")]
HELP = """Try notifications out, and deliver alerts again.

For example:

    trueup notify test on-call
"""
notify = App(name="notify", help=HELP)


@notify.command(name="test")
async def try_out(
    name: str,
    /,
    *,
    reason: Reason = "",
    timeout: Annotated[str, Parameter(help="how long to wait for what comes of it")] = "30s",
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Send a test to a notification's receiver, and say what came of it.

    Leaves with 0 where it was taken, with 1 where not.

    For example:

        trueup notify test ops
    """
    deadline = time.monotonic() + duration.seconds(timeout)
    async with connect(at) as client:
        asked = await client.write("POST", _path(client, name, "test"), {"reason": reason})
        while True:
            item = await client.get(path_of("notifications", client.project, name))
            tested = item["state"]["tested"]
            if tested and tested["requested"] >= asked["position"]:
                return _told(output, name, tested)
            if time.monotonic() >= deadline:
                note(f"nothing came of it within {timeout}: see `trueup describe notification`")
                return 1
            await anyio.sleep(POLL)


def _told(output: Format, name: str, tested: Any) -> int:
    code = tested.get("code", "")
    if not print_data(output, tested):
        said = f"not delivered: {safe(tested['message'])} ({safe(code)})" if code else "delivered"
        say(f"notification/{name} test {said}  (position {tested['requested']})")
    return 1 if code else 0


@notify.command
async def replay(
    name: str,
    /,
    *,
    start: Annotated[int, Parameter(name="--from", help="the position to begin at")],
    reason: Reason = "",
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Deliver the alerts from a position on, again where they were delivered before.

    Each goes out under the same id as the first time. A notification that was stopped because
    its receiver was away too long goes on with this.

    For example:

        trueup notify replay ops --from 1042 --reason "the receiver lost its disk"
    """
    async with connect(at) as client:
        body = {"reason": reason, "from": start}
        answer = await client.write("POST", _path(client, name, "replay"), body)
    if not print_data(output, answer):
        say(f"notification/{name} begins again at {start}  (position {answer['position']})")
    return 0


def _path(client: Client, name: str, verb: str) -> str:
    return path_of("notifications", client.project, name, verb)
