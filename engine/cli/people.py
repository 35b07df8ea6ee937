"""`actor` and `forget`: who is behind a pseudonym, and forgetting them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.output import Format, local_time, print_data, print_fields, safe, say

Output = Annotated[Format, Parameter(name=["--output", "-o"])]


async def actor(who: str, /, *, output: Output = "table", at: Connection = HERE) -> int:
    """Tell who is behind a pseudonym, as long as nobody asked to forget it.

    An e-mail address is turned into its pseudonym here, and is not sent.

    For example:

        trueup actor git:3f2a90c1b7de
        trueup actor ada@example.org
    """
    async with connect(at) as client:
        answer = await client.get(_path(who))
    if not print_data(output, answer):
        gone = answer["forgotten"]
        print_fields(
            {
                "Actor": answer["actor"],
                "Name": answer["name"] or ("forgotten" if gone else "not kept"),
                "E-mail": answer["email"],
                "Forgotten": f"{gone['reason']} ({gone['actor']}, {local_time(gone['at'])}, "
                f"position {gone['position']})"
                if gone
                else "",
            }
        )
    return 0


async def forget(
    who: str,
    /,
    *,
    reason: Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")],
    output: Output = "table",
    at: Connection = HERE,
) -> int:
    """Forget who is behind a pseudonym, for good: the key that opens the name is destroyed.

    Every event stays as it is, and so does the proof. Later commits of the same pseudonym are not
    named either. What was written to disk before (Postgres' files and its WAL, backups) is not
    reached: docs/forgetting.md says what to do about that. The reason stays: name nobody in it.

    For example:

        trueup forget git:3f2a90c1b7de --reason "erasure request 17"
        trueup forget ada@example.org --reason "left the company"
    """
    async with connect(at) as client:
        answer = await client.write("POST", f"{_path(who)}/forget", {"reason": reason})
    if not print_data(output, answer):
        what = "forgotten" if answer["changed"] else "was forgotten already"
        say(f"{safe(answer['subject'])} {what}  (position {answer['position']})")
    return 0


def _path(who: str) -> str:
    from events.sealed import git_actor

    is_address = "@" in who and not who.startswith("git:")
    name = git_actor(who.encode("utf-8", "surrogateescape")) if is_address else who
    return f"/v1/actors/{quote(name, safe=':')}"
