"""`fsck`: whether the log, its proofs and its views are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.errors import CliError
from engine.cli.output import Format, note, print_data, safe, say

WHOLE, DAMAGED = 0, 1
_LISTED = 1000


async def fsck(
    *,
    data_dir: Annotated[
        Path | None, Parameter(help="check a stopped engine's log, embedded in this folder")
    ] = None,
    database_url: Annotated[
        str | None, Parameter(help="check the log in this database; its engine may run")
    ] = None,
    views: Annotated[bool, Parameter(help="hold the views against a fresh fold too")] = True,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
) -> int:
    """Check that a log is whole: positions, payloads, bodies, tiles, checkpoints and views.

    Everything is read, and nothing written. Says for each thing that is wrong where it is and how
    to mend it. Leaves with 0 where all is well, with 1 where something is not.

    For example:

        trueup fsck
        trueup fsck --database-url postgresql://trueup@db/trueup --no-views
        trueup fsck --data-dir /srv/trueup -o json
    """
    from engine.audit.progress import Meter
    from engine.cli.proof_source import Stopped, database_of
    from engine.clock import SystemClock
    from engine.settings import SettingsRefused, load
    from events.fsck import Finding, LogCheck
    from events.log import LogError
    from events.postgres import reading
    from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
    from projections.batch import Group
    from projections.errors import ViewError
    from projections.fsck import ViewCheck
    from projections.store import Store

    if data_dir is None and database_url is None:
        try:
            settings = load({})
        except SettingsRefused as error:
            raise CliError("the settings cannot be used", lines=error.problems) from error
        data_dir, database_url = settings.directory, settings.database_url
    found: list[Finding] = []
    documents = 0

    def hear(finding: Finding) -> None:
        found.append(finding)
        if output in ("table", "wide") and len(found) <= _LISTED:
            say(f"{safe(finding.where)}: {safe(finding.what)}")
            say(f"  to mend it: {safe(finding.remedy)}")

    stopped = Stopped(data_dir, database_url)
    try:
        async with database_of(stopped) as dsn, reading(dsn) as (pool, log):
            head = await log.head()
            clock = SystemClock()

            def meter(what: str) -> Meter:
                return Meter(head, lambda at: note(f"{what}: {at}"), clock)

            check = LogCheck(pool, log, meter("log").at)
            async for finding in check.findings():
                hear(finding)
            if views and not any(item.code in ("hole", "payload") for item in found):
                group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
                async with Store(pool).session() as session, session.snapshot():
                    fold = ViewCheck(session, log, group, meter("views").at)
                    async for finding in fold.findings():
                        hear(finding)
                    documents = fold.documents
    except (LogError, ViewError) as error:
        raise CliError(str(error), code=error.code) from error
    tally = check.tally
    value: dict[str, Any] = {
        "whole": not found,
        "findings": [
            {"code": item.code, "where": item.where, "what": item.what, "remedy": item.remedy}
            for item in found
        ],
        **{name: getattr(tally, name) for name in tally.__struct_fields__},
        "documents": documents,
    }
    if not print_data(output, value):
        _summary(value)
    return DAMAGED if found else WHOLE


def _summary(value: dict[str, Any]) -> None:
    say(
        f"{value['events']} events in {value['streams']} streams, {value['bodies']} bodies "
        f"({value['erased']} erased), {value['tiles']} tiles, {value['checkpoints']} checkpoints, "
        f"{value['documents']} documents of views"
    )
    if value["unknown"]:
        say(f"{value['unknown']} events of a later release are carried and were not read")
    number = len(value["findings"])
    say("all is well" if value["whole"] else f"{number} things are wrong")
