"""`project`: folds shards of the views in a process of its own, so that more cores do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.errors import CliError
from engine.cli.output import note
from engine.cli.run import first_of, with_flags
from engine.settings import SettingsRefused, load

_SETTINGS = frozenset({"database_url", "data_dir", "log_level", "log_format"})


async def _project(
    config: Path | None = None,
    *,
    tied: Annotated[
        bool, Parameter(negative="", help="end when standard input does: with who started it")
    ] = False,
    **flags: Any,
) -> int:
    """Fold shards of the views until SIGTERM or Ctrl-C.

    The engine says how many shards there are (`trueup run --shards N`); every process like this,
    here or elsewhere, takes its share of them, and takes over from one that ends. On the engine's
    machine `trueup run --shards N --workers M` starts them itself.

    For example:

        trueup project --database-url postgresql://trueup@db/trueup
    """
    try:
        settings = load(flags, config=config)
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error
    from engine.process.logs import configure
    from engine.project import serve_projector
    from events.log import LogError
    from events.migrate import SchemaRefused
    from projections.errors import ViewError

    configure(settings.log_level, settings.log_format)
    told = None if tied else lambda: note("folding its share of the shards; stop it with Ctrl-C")
    try:
        await serve_projector(settings, ready=told, tied=tied)
    except* (OSError, ValueError, LogError, ViewError, SchemaRefused) as errors:
        first = first_of(errors)
        code = str(getattr(first, "code", ""))
        raise CliError(f"shards cannot be folded: {first}", code=code) from first
    return 0


project = with_flags(_project, _SETTINGS)
