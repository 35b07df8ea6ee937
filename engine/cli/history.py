"""`timeline`, `events`: what happened."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from cyclopts import Parameter

from engine.cli.client import Client, Common, perform
from engine.cli.output import event_lines, show

_NONE = Common()


def timeline(
    subject: str | None = None,
    *,
    limit: int = 50,
    follow: Annotated[bool, Parameter(name=["--follow", "-F"])] = False,
    common: Common = _NONE,
) -> None:
    """Tell what happened to a target, application, cluster, repository, commit or object.

    A subject is app@cluster, application/NAME, cluster/NAME, repository/NAME, a commit, or
    cluster/namespace/Kind/name. Without one, everything is told.

    Examples
    --------
    trueup timeline shop@prod --follow
    """

    async def work() -> None:
        client = Client(common)
        if subject is None:
            path = "/v1/events?limit=200"
        else:
            path = f"/v1/timeline?subject={quote(subject)}&project={client.project}&limit={limit}"
        await _tell(client, path, follow, common.output)

    perform(work)


def events(
    *,
    after: int = 0,
    stream: str = "",
    type: str = "",  # noqa: A002
    follow: Annotated[bool, Parameter(name=["--follow", "-F"])] = False,
    limit: int = 200,
    common: Common = _NONE,
) -> None:
    """List the log's events after a position, of one stream or some types.

    Examples
    --------
    trueup events --type DriftDetected,DriftResolved -o jsonl
    """

    async def work() -> None:
        path = f"/v1/events?after={after}&stream={quote(stream)}&type={quote(type)}&limit={limit}"
        await _tell(Client(common), path, follow, common.output)

    perform(work)


async def _tell(client: Client, path: str, follow: bool, form: str) -> None:
    if follow:
        async for line in client.lines("GET", path, "text/event-stream"):
            if line.startswith("data:"):
                _write(orjson.loads(line[5:]), form)
        return
    newest = "/v1/timeline" in path
    found = await client.call("GET", path + ("&order=desc" if newest else ""))
    items = list(reversed(found["items"])) if newest else found["items"]
    if form in ("table", "wide"):
        for event in items:
            _write(event, form)
    else:
        show(form, items, (), ())


def _write(event: dict[str, Any], form: str) -> None:
    if form in ("table", "wide"):
        sys.stdout.write("\n".join(event_lines(event)) + "\n")
    else:
        sys.stdout.write(orjson.dumps(event).decode() + "\n")
    sys.stdout.flush()
