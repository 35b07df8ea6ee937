"""`login`: a link that logs a browser in."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.output import Format, note, print_data, say


async def login(
    *,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Print a link that logs a browser in, as whose token this is; good once, for a minute.

    What is done on the pages is recorded under that name. A session ends by itself after some
    hours, with `Log out`, and with its token.

    For example:

        trueup login
        xdg-open "$(trueup login)"
    """
    async with connect(at) as client:
        answer = await client.write("POST", "/v1/login-links")
        url = client.place.url + answer["path"]
    if not print_data(output, {"url": url, "seconds": answer["seconds"]}):
        say(url)
        note(f"open it within {answer['seconds']:g} s: it is good once")
    return 0
