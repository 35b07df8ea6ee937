"""`signer`: signs checkpoints in a process of its own, so that the engine needs no private key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.cli.errors import CliError
from engine.cli.output import note
from engine.cli.run import first_of, with_flags
from engine.settings import SettingsRefused, load

_SETTINGS = frozenset(
    {
        "data_dir",
        "database_url",
        "signing_key_file",
        "checkpoint_interval",
        "checkpoint_url",
        "checkpoint_region",
        "checkpoint_credentials_file",
        "log_level",
        "log_format",
    }
)


async def _signer(config: Path | None = None, **flags: Any) -> int:
    """Sign the log's checkpoints until SIGTERM or Ctrl-C.

    Run it where the engine cannot reach: its folder (--data-dir) has the signing key and the last
    head. The engine itself runs with `--signing external` and needs no private key. One signs; a
    second one stands by.

    For example:

        trueup signer --database-url postgresql://signer@db/trueup --data-dir /var/lib/signer
    """
    try:
        settings = load({**flags, "signing": "external"}, config=config)
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error
    from engine.process.logs import configure
    from engine.signing.serve import serve_signer
    from events.log import LogError
    from events.migrate import SchemaRefused
    from projections.errors import ViewError

    configure(settings.log_level, settings.log_format)
    try:
        await serve_signer(settings, ready=lambda: note("signing; stop it with Ctrl-C"))
    except* (OSError, ValueError, LogError, ViewError, SchemaRefused) as errors:
        first = first_of(errors)
        code = str(getattr(first, "code", ""))
        raise CliError(f"the signer cannot run: {first}", code=code) from first
    return 0


signer = with_flags(_signer, _SETTINGS)
