"""`fsck`: whether the log, its proofs and its views are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from engine.cli.errors import CliError
from engine.cli.output import Format, note, print_data, safe, say
from engine.cli.proof_source import Stopped

if TYPE_CHECKING:
    from events.fsck import Finding

WHOLE, DAMAGED = 0, 1
_LISTED = 1000
_IN_USE = "stop the engine first; only a log in a database of one's own can be checked meanwhile"


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
    from events.log import LogError
    from projections.errors import ViewError

    if data_dir is None and database_url is None:
        data_dir, database_url = _configured()
    shown = 0

    def hear(finding: Finding) -> None:
        nonlocal shown
        shown += 1
        if output in ("table", "wide") and shown <= _LISTED:
            say(f"{safe(finding.where)}: {safe(finding.what)}")
            say(f"  to mend it: {safe(finding.remedy)}")

    try:
        value = await _check(Stopped(data_dir, database_url, _IN_USE), views, hear)
    except (LogError, ViewError) as error:
        raise CliError(str(error), code=error.code) from error
    if not print_data(output, value):
        _summary(value)
    return WHOLE if value["whole"] else DAMAGED


def _configured() -> tuple[Path, str | None]:
    """Return where the settings say that the log is."""
    from engine.settings import SettingsRefused, load

    try:
        settings = load({})
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error
    return settings.directory, settings.database_url


async def _check(stopped: Stopped, views: bool, hear: Callable[[Finding], None]) -> dict[str, Any]:
    """Go through log and views; return what was found and gone through, as plain data."""
    from engine.audit.progress import Meter
    from engine.cli.proof_source import database_of
    from engine.process.clock import SystemClock
    from events.fsck import LogCheck
    from events.postgres import reading
    from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
    from projections.batch import Group
    from projections.fsck import ViewCheck
    from projections.store import Store

    found: list[Finding] = []
    documents = 0
    async with database_of(stopped) as dsn, reading(dsn) as (pool, log):
        head, clock = await log.head(), SystemClock()

        def meter(what: str) -> Meter:
            return Meter(head, lambda at: note(f"{what}: {at}"), clock)

        check = LogCheck(pool, log, meter("log").at)
        async for finding in check.findings():
            found.append(finding)
            hear(finding)
        # Views of a log that is not whole would differ for that alone.
        if views and not any(item.code in ("hole", "payload") for item in found):
            group = Group(DOCUMENT_VIEWS, SUBJECT_VIEWS)
            async with Store(pool).session() as session, session.snapshot():
                fold = ViewCheck(session, log, group, meter("views").at)
                async for finding in fold.findings():
                    found.append(finding)
                    hear(finding)
                documents = fold.documents
    return {
        "whole": not found,
        "findings": [
            {"code": item.code, "where": item.where, "what": item.what, "remedy": item.remedy}
            for item in found
        ],
        **{name: getattr(check.tally, name) for name in check.tally.__struct_fields__},
        "documents": documents,
    }


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
