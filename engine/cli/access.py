"""`token`: make, list and revoke access tokens."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

from cyclopts import App, Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.output import Format, age, note, print_data, print_table, say

Output = Annotated[Format, Parameter(name=["--output", "-o"])]
HELP = """Make, list and revoke access tokens.

For example:

    trueup token create alice
    trueup token list
"""
token = App(name="token", help=HELP)


@token.command
async def create(name: str, /, *, output: Output = "table", at: Connection = HERE) -> int:
    """Make a token. It is shown this once; the actor of what is done with it is its name.

    For example:

        trueup token create alice
        TRUEUP_TOKEN=$(trueup token create ci) trueup get targets
    """
    async with connect(at) as client:
        answer = await client.write("POST", "/v1/tokens", {"name": name})
    if not print_data(output, answer):
        say(answer["token"])
        note(f"token {name} made (position {answer['position']}); it is not shown again")
    return 0


@token.command
async def revoke(
    name: str,
    /,
    *,
    reason: Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")] = "",
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Revoke a token: it is refused from now on.

    For example:

        trueup token revoke alice --reason "left the team"
    """
    async with connect(at) as client:
        path = f"/v1/tokens/{quote(name, safe='')}"
        answer = await client.write("DELETE", path, query={"reason": reason or None})
    if not print_data(output, answer):
        say(f"token {name} revoked  (position {answer['position']})")
    return 0


@token.command(name="list")
async def list_(*, output: Output = "table", at: Connection = HERE) -> int:
    """List the tokens by name, revoked ones too.

    For example:

        trueup token list
    """
    async with connect(at) as client:
        answer = await client.get("/v1/tokens")
    if not print_data(output, answer, answer["items"]):
        rows = [
            [
                item["name"],
                "revoked" if item["revoked"] else "good",
                age(item["at"], time.time()),
                item["actor"],
                item["reason"],
            ]
            for item in answer["items"]
        ]
        print_table(["TOKEN", "STATE", "AGE", "MADE BY", "REASON"], rows, flexible=["REASON"])
    return 0
