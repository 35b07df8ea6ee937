"""The commands of `trueup`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of

from cyclopts import App

from engine.cli.demo import demo
from engine.cli.history import events, timeline
from engine.cli.resources import apply, delete, describe, get
from engine.cli.run import run
from engine.cli.simulate import simulate
from engine.cli.targets import diff, resume, suspend, sync, wait
from engine.cli.upkeep import rebuild, token, version

app = App(
    name="trueup",
    help="An event-sourced GitOps engine: from commit to corrected cluster, on the record.",
    version=version_of("trueup"),
    result_action="return_value",
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    run,
    apply,
    delete,
    get,
    describe,
    diff,
    sync,
    wait,
    suspend,
    resume,
    timeline,
    events,
    rebuild,
    version,
    demo,
    simulate,
)
for _command in _COMMANDS:
    app.command(_command)
app.command(token)
app.register_install_completion_command(name="completion")
