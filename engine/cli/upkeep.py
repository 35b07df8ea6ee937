"""`rebuild`, `token`, `version`: the engine's own upkeep."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of

import orjson
from cyclopts import App

from engine.cli.client import Client, CommandFailed, Common, perform
from engine.cli.output import show

_NONE = Common()
token = App(name="token", help="Make and revoke tokens.")


def rebuild(view: str, *, common: Common = _NONE) -> None:
    """Fold a view anew beside the live one, compare, and put it in its place.

    Examples
    --------
    trueup rebuild targets
    """

    async def work() -> None:
        client = Client(common)
        path = f"/v1/views/{view}/rebuild"
        async for line in client.lines("POST", path, "application/jsonl"):
            step = orjson.loads(line)
            if "error" in step:
                raise CommandFailed(step["error"])
            if "done" in step:
                show(common.output, step["done"], step["done"].items(), ("FIELD", "VALUE"))
            else:
                sys.stderr.write(
                    f"position {step['position']} of {step['head']}, {step['rate']:.0f} events/s\n"
                )

    perform(work)


@token.command
def create(name: str, *, common: Common = _NONE) -> None:
    """Make a token; what is printed now is kept nowhere else.

    Examples
    --------
    trueup token create ada
    """

    async def work() -> None:
        client = Client(common)
        answer = await client.call("POST", "/v1/tokens", {"name": name})
        client.wrote(answer["position"])
        show(common.output, answer, [(answer["name"], answer["token"])], ("NAME", "TOKEN"))

    perform(work)


@token.command
def revoke(name: str, *, reason: str = "", common: Common = _NONE) -> None:
    """Revoke a token.

    Examples
    --------
    trueup token revoke ada --reason "left the team"
    """
    from urllib.parse import quote

    async def work() -> None:
        client = Client(common)
        answer = await client.call("DELETE", f"/v1/tokens/{name}?reason={quote(reason)}")
        client.wrote(answer["position"])
        show(common.output, answer, [(name, answer["position"])], ("REVOKED", "POSITION"))

    perform(work)


def version(*, common: Common = _NONE) -> None:
    """Print this release, and the server's where one can be reached.

    Examples
    --------
    trueup version
    """
    sys.stdout.write(f"trueup {version_of('trueup')}\n")

    async def work() -> None:
        client = Client(common)
        found = await client.call("GET", "/v1/version")
        show(common.output, found, found.items(), ("SERVER", client.url))

    try:
        perform(work)
    except SystemExit:
        sys.stderr.write("no server was asked\n")
