"""`diff`, `sync`, `wait`, `suspend`, `resume`: what is asked of targets and applications."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal
from urllib.parse import quote

from cyclopts import Parameter

from engine.cli.client import Client, CommandFailed, Common, perform
from engine.cli.output import difference_line, show
from engine.resources.duration import seconds

_NONE = Common()
_TROUBLE = 2


def diff(subject: str, *, common: Common = _NONE) -> None:
    """Compare desired and live: exit 0 for the same, 1 for different, more for an error.

    Examples
    --------
    trueup diff shop@prod
    """

    async def work() -> int:
        try:
            client = Client(common)
            found = [
                await client.call(
                    "GET", f"/v1/targets/{client.project}/{quote(name, safe='@')}/diff"
                )
                for name in await _targets(client, subject)
            ]
        except CommandFailed as failed:
            raise CommandFailed(str(failed), _TROUBLE) from None
        if common.output not in ("table", "wide"):
            show(common.output, found, (), ())
        else:
            for target in found:
                _show_diff(target)
        return 0 if all(target["same"] for target in found) else 1

    raise SystemExit(perform(work))


def sync(
    subject: str,
    *,
    reason: Annotated[str, Parameter(help="why; it is kept in the log")],
    revision: str = "",
    common: Common = _NONE,
) -> None:
    """Fetch now and correct what differs: a target (app@cluster) or an application.

    Examples
    --------
    trueup sync shop@prod --reason "release 1.1" && trueup wait shop@prod --for synced
    """
    body = {"reason": reason} | ({"revision": revision} if revision else {})
    _act(subject, "sync", body, common)


def suspend(subject: str, *, reason: str, common: Common = _NONE) -> None:
    """Correct nothing here until it is resumed.

    Examples
    --------
    trueup suspend shop@prod --reason "freeze for the sale"
    """
    _act(subject, "suspend", {"reason": reason}, common)


def resume(subject: str, *, reason: str, common: Common = _NONE) -> None:
    """Lift a suspension.

    Examples
    --------
    trueup resume shop@prod --reason "the sale is over"
    """
    _act(subject, "resume", {"reason": reason}, common)


def wait(
    subject: str,
    *,
    wanted: Annotated[Literal["synced", "healthy"], Parameter(name="--for")] = "synced",
    revision: str = "",
    after: int | None = None,
    timeout: str = "60s",
    common: Common = _NONE,
) -> None:
    """Wait until a target, or every target of an application, is synced or healthy.

    Without --after it waits past your last write. Exit 0 when it is, 1 when time is up.

    Examples
    --------
    trueup wait shop@prod --for healthy --timeout 5m
    """

    async def work() -> None:
        client = Client(common)
        try:
            left = seconds(timeout)
        except ValueError as error:
            raise CommandFailed(f"--timeout: {error}", _TROUBLE) from None
        past = client.last_write if after is None else after
        while True:
            step = min(left, 30.0)
            query = (
                f"subject={quote(subject)}&project={client.project}&for={wanted}"
                f"&revision={revision}&after={past}&timeout={step:g}s"
            )
            try:
                found = await client.call("GET", f"/v1/wait?{query}")
            except CommandFailed:
                left -= step
                if left <= 0:
                    raise
                continue
            rows = [
                (t["target"], t["sync"], t["health"], t["revision"][:10]) for t in found["targets"]
            ]
            show(common.output, found, rows, ("TARGET", "SYNC", "HEALTH", "REVISION"))
            return

    perform(work)


def _act(subject: str, verb: str, body: dict[str, str], common: Common) -> None:
    async def work() -> None:
        client = Client(common)
        collection = "targets" if "@" in subject else "applications"
        path = f"/v1/{collection}/{client.project}/{quote(subject, safe='@')}/{verb}"
        answer = await client.call("POST", path, body)
        client.wrote(answer["position"])
        rows = [(subject, verb, answer["position"])]
        show(common.output, answer, rows, ("SUBJECT", "ASKED", "POSITION"))

    perform(work)


async def _targets(client: Client, subject: str) -> list[str]:
    if "@" in subject:
        return [subject]
    path = f"/v1/targets/{client.project}?application={quote(subject)}"
    found = [str(item["target"]) for item in await client.pages(path)]
    if not found:
        raise CommandFailed(f"{subject} is no application that goes to a cluster")
    return found


def _show_diff(target: dict[str, Any]) -> None:
    state = "same" if target["same"] else "different"
    sys.stdout.write(f"{target['target']}: {state}, at position {target['position']}\n")
    for difference in target["differences"]:
        sys.stdout.write(f"  {difference_line(difference)}\n")
    for kind in target["unknown"]:
        sys.stdout.write(f"  unknown      {kind}\n")
    if target["omitted"]:
        sys.stdout.write(f"  and {target['omitted']} more\n")
