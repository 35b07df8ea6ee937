"""`doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from engine.cli.client import connect
from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.output import Format, print_data, print_table, safe, say, styled, word
from engine.doctor.check import Check, State, worst

_NOBODY = frozenset({"unreachable", "no-server"})


async def doctor(
    *,
    config: Annotated[Path | None, Parameter(help="the settings file (TOML)")] = None,
    database_url: Annotated[
        str | None, Parameter(help="the database to look at where no server runs")
    ] = None,
    data_dir: Annotated[
        Path | None, Parameter(help="the data folder to look at where no server runs")
    ] = None,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Check database, disk, clocks, renderer, repositories and clusters, and print remedies.

    Asks the server, which looks at everything that it stands on. Where none runs, it looks at
    this machine and at the database of the settings. Ends with 1 where a check failed.

    For example:

        trueup doctor
        trueup doctor -o json
        trueup doctor --database-url postgresql://trueup@db/trueup
    """
    try:
        async with connect(at) as client:
            answer = await client.get("/v1/doctor")
            checks = msgspec.convert(answer["checks"], list[Check])
    except CliError as error:
        if error.code not in _NOBODY:
            raise
        checks = await _alone(config, database_url, data_dir)
    state = worst(checks)
    found = {"state": str(state), "checks": [msgspec.to_builtins(check) for check in checks]}
    if not print_data(output, found):
        _print(checks, state)
    return 1 if state is State.FAIL else 0


async def _alone(
    config: Path | None, database_url: str | None, data_dir: Path | None
) -> list[Check]:
    from engine.doctor.look import without_a_server
    from engine.process.clock import SystemClock
    from engine.settings import SettingsRefused, load

    try:
        settings = load({"database_url": database_url, "data_dir": data_dir}, config=config)
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error
    return await without_a_server(settings, SystemClock())


def _print(checks: list[Check], state: State) -> None:
    rows = [[check.state, check.area, check.name, check.message] for check in checks]
    print_table(["STATE", "AREA", "CHECK", "FOUND"], rows, flexible=["CHECK", "FOUND"])
    wrong = [check for check in checks if check.state is not State.OK]
    for check in wrong:
        say()
        say(f"{word(str(check.state))} {check.area}: {safe(check.name)}")
        say(textwrap.fill(safe(check.message), 78, initial_indent="  ", subsequent_indent="  "))
        if check.remedy:
            label = styled("what to do:", "bold")
            text = textwrap.fill(safe(check.remedy), 65, subsequent_indent=" " * 14)
            say(f"  {label} {text}")
        if check.code:
            say(f"  more: trueup explain error {check.code}")
    say()
    number = len(checks) - len(wrong)
    say(f"{number} of {len(checks)} checks are well; the worst is {word(str(state))}")
