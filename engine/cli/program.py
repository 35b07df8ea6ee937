"""The commands and what is common to them: exit codes, errors, interruption.

Modules are imported when their command is called, so that help and completion are quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, Group

from engine.cli.errors import CliError

START = Group("Start", sort_key=1)
DECLARE = Group("Declare", sort_key=2)
LOOK = Group("Look", sort_key=3)
OPERATE = Group("Operate", sort_key=4)
KEEP = Group("Keep", sort_key=5)

COMMANDS: tuple[tuple[str, str, Group, str], ...] = (
    ("run", "engine.cli.run:run", START, "Run the engine and its API until it is stopped"),
    ("project", "engine.cli.project:project", START, "Fold shards of the views, beside the engine"),
    ("signer", "engine.cli.signer:signer", START, "Sign checkpoints, apart from the engine"),
    ("demo", "engine.cli.demo:demo", START, "Tell the whole story on simulated clusters"),
    ("simulate", "engine.cli.simulate:simulate", START, "Serve simulated clusters to try things"),
    ("apply", "engine.cli.declare:apply", DECLARE, "Declare the resources in files"),
    ("delete", "engine.cli.declare:delete", DECLARE, "Take a declared resource back"),
    ("get", "engine.cli.look:get", LOOK, "List resources and targets, and how they stand"),
    ("describe", "engine.cli.describe:describe", LOOK, "Show all that is known of one of them"),
    ("why", "engine.cli.why:why", LOOK, "Say why a target is, or is not, synced"),
    ("diff", "engine.cli.diff:diff", LOOK, "Compare desired and live, field by field"),
    ("drift", "engine.cli.drift:drift", LOOK, "List drift: who, since when, and what was done"),
    ("timeline", "engine.cli.history:timeline", LOOK, "Tell what happened, and why"),
    ("actor", "engine.cli.people:actor", LOOK, "Tell who is behind an author's pseudonym"),
    ("events", "engine.cli.history:events", LOOK, "List the events of the log"),
    ("sync", "engine.cli.operate:sync", OPERATE, "Ask for a sync, now"),
    ("wait", "engine.cli.operate:wait", OPERATE, "Wait until a target is synced or healthy"),
    ("plan", "engine.cli.steer:plan", OPERATE, "Show what would be done to a target now"),
    ("approve", "engine.cli.steer:approve", OPERATE, "Approve a plan, or an overridden window"),
    ("accept", "engine.cli.drift:accept", OPERATE, "Accept drift as it is, for a while"),
    ("adopt", "engine.cli.drift:adopt", OPERATE, "Take over what other tools manage"),
    ("rollback", "engine.cli.steer:rollback", OPERATE, "Go back to an earlier commit, and stay"),
    ("suspend", "engine.cli.operate:suspend", OPERATE, "Correct nothing until resumed"),
    ("resume", "engine.cli.operate:resume", OPERATE, "Lift a suspension"),
    ("notify", "engine.cli.notify:notify", OPERATE, "Try notifications, and deliver alerts again"),
    ("login", "engine.cli.login:login", KEEP, "Print a link that logs a browser in"),
    ("token", "engine.cli.access:token", KEEP, "Make, list and revoke access tokens"),
    ("audit", "engine.cli.audit:audit", KEEP, "Prove that the log was not altered, and verify it"),
    ("views", "engine.cli.keep:views", KEEP, "List the views, how far they are, what is parked"),
    ("rebuild", "engine.cli.keep:rebuild", KEEP, "Fold a view anew from the log"),
    ("replay", "engine.cli.why:replay", KEEP, "Make recorded decisions again, and compare"),
    ("fsck", "engine.cli.fsck:fsck", KEEP, "Check that log, proofs and views are whole"),
    ("redact", "engine.cli.keep:redact", KEEP, "Erase a body that should not have been kept"),
    ("forget", "engine.cli.people:forget", KEEP, "Forget who is behind an author's pseudonym"),
    ("version", "engine.cli.keep:version", KEEP, "Say which release this is, and the server's"),
    ("doctor", "engine.cli.doctor:doctor", KEEP, "Check everything the engine stands on"),
    ("explain", "engine.cli.explain:explain", KEEP, "Tell what a field or an error's code means"),
    ("completion", "engine.cli.completion:completion", KEEP, "Print a shell's completion script"),
    ("names", "engine.cli.completion:names", KEEP, "Print names of targets, for completion"),
)
"""Each command: its name, where it is, its group, and its line in the overview."""
COMMAND_NAMES = frozenset(name for name, _, _, _ in COMMANDS)
HELP = """Bring clusters into line with Git, and enter every correction in the books.

Begin with 'trueup demo', or with 'trueup run' and 'trueup apply -f DIR'."""


def make_app(called: str = "") -> App:
    """Return the command line's structure.

    The command that is called tells its own help, from its docstring; of the others a line is
    enough, so that their modules need not be imported.
    """
    app = App(
        name="trueup",
        help=HELP,
        version=release,
        version_flags=["--version"],
        # Reading Markdown costs a third of the time that the overview takes.
        help_format="markdown" if called in COMMAND_NAMES else "plaintext",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for name, place, group, line in COMMANDS:
        app.command(place, name=name, group=group, help=None if name == called else line)
    return app


def release() -> str:
    """Return which release this is."""
    from importlib.metadata import version

    return version("trueup")


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit code: 2 for whatever could not be done as it was asked."""
    try:
        guard_packages()
        result: object = make_app(next(iter(arguments), ""))(list(arguments), exit_on_error=True)
        sys.stdout.flush()
    except CliError as error:
        return _ended_by(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough (`| head`). Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def guard_packages() -> None:
    """Stop where another distribution has put its files in the place of ours."""
    import events
    import projections

    for package, word in ((events, "FACTS"), (projections, "VIEWS")):
        if not (package.__doc__ or "").startswith(word):
            raise CliError(
                f"the package {package.__name__} at {package.__file__} is not Trueup's",
                hint="install Trueup in an environment of its own (pipx, uv tool, container)",
            )


def _ended_by(error: CliError) -> int:
    from engine.cli.output import print_error

    print_error(error)
    return error.exit_code
