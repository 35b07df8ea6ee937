"""`run`: the engine itself."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Container
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import Group, Parameter

from engine.cli.errors import CliError
from engine.cli.output import note
from engine.settings import FIELDS, SettingsRefused, exports, flag_of, load

SETTINGS = Group(
    "Settings", help="Each can be set in the environment and a file too: docs/settings.md"
)

_COLLECT = (5_000, 20, 20)
"""How many more objects before the cyclic collector looks at the youngest, and how often at all."""


def _run(config: Path | None = None, **flags: Any) -> int:
    """Run the engine and its API until SIGTERM or Ctrl-C.

    Without --database-url it keeps a Postgres of its own in --data-dir.

    For example:

        trueup run --repository-roots ~/git --kubeconfig-roots ~/.kube
        trueup run --control https://git.example.com/platform.git --control-path fleet
        trueup run --database-url postgresql://trueup@db/trueup --listen 127.0.0.1:9000
    """
    try:
        settings = load(flags, config=config)
        exports()
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error
    import uvloop

    from engine.compose import serve
    from engine.embedded.folder import EmbeddedPostgresError
    from engine.process.logs import configure
    from engine.render.confine import ConfinementRefused
    from events.log import LogError
    from events.migrate import SchemaRefused
    from projections.errors import ViewError

    known = (LogError, ViewError, SchemaRefused, EmbeddedPostgresError, ConfinementRefused)
    configure(settings.log_level, settings.log_format)
    try:
        # Many short waits: the standard loop's own share of the CPU is a sixth of all.
        uvloop.run(serve(settings, ready=_ready))
    except* (OSError, ValueError, *known) as errors:
        first = first_of(errors)
        code = str(getattr(first, "code", ""))
        raise CliError(f"the engine cannot run: {first}", code=code) from first
    return 0


def _ready(url: str) -> None:
    # What is loaded by now stays: gone through again and again it costs a tenth of the CPU.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)
    note(f"Trueup serves {url} (`trueup login` prints a link to look at it); stop it with Ctrl-C")


def first_of(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error of a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def with_flags(function: Callable[..., Any], only: Container[str] = FIELDS) -> Callable[..., Any]:
    """Give a function a keyword for every setting (or those of `only`): none can be forgotten."""
    parameters = [
        inspect.Parameter(
            "config",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[Path | None, Parameter(help="the settings file (TOML)")],
        )
    ]
    hints = get_type_hints(function, include_extras=True)
    for name, own in inspect.signature(function).parameters.items():
        if own.kind is inspect.Parameter.KEYWORD_ONLY:
            parameters.append(own.replace(annotation=hints[name]))
    for name, field in FIELDS.items():
        if name not in only:
            continue
        kind: Any = str
        if field.kind.startswith("list"):
            kind = list[str]
        elif field.kind == "yes or no":
            kind = bool
        default = f" (default: {field.default})" if field.default else ""
        about = Parameter(
            name=flag_of(name), help=field.description + default, group=SETTINGS, negative=""
        )
        parameters.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, about],
            )
        )
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    return function


run = with_flags(_run)
