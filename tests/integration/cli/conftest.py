"""The command line against a server in the same process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec import Struct

from engine.cli.program import run
from tests.serving import Bench, bench


class Done(Struct, frozen=True):
    """What a command came to."""

    code: int
    out: str
    err: str


Trueup = Callable[..., Awaitable[Done]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as made:
        yield made


@pytest.fixture
def trueup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Trueup:
    """Run a command as a person on the server's machine would."""
    for name in ("TRUEUP_SERVER", "TRUEUP_TOKEN", "TRUEUP_PROJECT", "TRUEUP_TEST_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TRUEUP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()

    async def call(*arguments: str) -> Done:
        def inside() -> int:
            try:
                return run(arguments)
            except SystemExit as error:
                return int(str(error.code or 0))

        capsys.readouterr()
        code = await anyio.to_thread.run_sync(inside, abandon_on_cancel=True)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print as on a terminal of 80 columns."""
    monkeypatch.setattr("engine.cli.output.width_of", lambda _: 80)
