"""Whatever breaks at any step of an append: nothing acknowledged is lost, nothing is double."""

from __future__ import annotations

import sys
from typing import Any

import anyio
import pytest

from events import writing
from events.event import START, EventId, blob
from events.postgres import open_log
from tests.appending import new
from tests.appending_faults import PRESUMED_STEPS, STEPS, Faults, install

pytestmark = pytest.mark.anyio
BOTH_WAYS = pytest.mark.parametrize("large", [1000, 1], ids=["statement", "copy"])
WHEN = pytest.mark.parametrize("before", [True, False], ids=["before", "after"])


@BOTH_WAYS
@WHEN
@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("known", ["presumed", "behind", "looked-up"])
async def test_a_connection_that_breaks_at_any_step(
    dsn: str, large: int, before: bool, step: int, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(connection: Any) -> None:
        connection.terminate()
        raise ConnectionResetError("cut by the test")

    faults = Faults(step, before, cut)
    monkeypatch.setattr(writing, "LARGE", large)
    async with open_log(dsn) as log:
        await log.append([new("app/default/a")])
        if known == "looked-up":
            log._writer._forget()
        log._writer._is_shared = known == "behind"
        install(faults, monkeypatch.setattr)
        events = [new("app/default/a", expected=1), new("app/default/b", expected=0)]
        faults.armed = True
        appended = await log.append(events, [blob(b"body")])
        assert faults.happened or step > 1
        assert appended.positions == (2, 3)
        stored = await log.read(START)
        assert [event.event_id for event in stored[1:]] == [event.event_id for event in events]
        assert (await log.append(events)).positions == (2, 3)
        assert (await log.append([new("app/default/a", expected=2)])).positions == (4,)


@BOTH_WAYS
@WHEN
@pytest.mark.parametrize("step", range(1, PRESUMED_STEPS + 1))
async def test_a_writer_that_is_killed_at_any_step(
    dsn: str, large: int, before: bool, step: int
) -> None:
    word = "before" if before else "after"
    command = [sys.executable, "-m", "tests.appending_faults", dsn, str(large), str(step), word]
    done = await anyio.run_process(command, check=False)
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    tried = [words[1:] for words in lines if words[0] == "trying"]
    said = [[int(word) for word in words[1:]] for words in lines if words[0] == "appended"]
    # A step that this way of writing does not have lets it come to its end.
    assert (len(tried), len(said), done.returncode) in [(3, 2, -9), (3, 3, 0)], done.stderr
    assert done.returncode == -9 or step > 1
    async with open_log(dsn) as log:
        stored = [event.event_id for event in await log.read(START)]
        assert said[:2] == [[1, 2], [3, 4]]
        assert stored[:4] == tried[0] + tried[1]
        assert stored[4:] in ([], tried[2])
        if done.returncode == 0:
            assert stored[4:] == tried[2]
        # Whoever was not told tries again, with the same ids: it is there once.
        streams = ("app/default/a", "app/default/b")
        events = [
            new(stream, event_id=EventId(name))
            for stream, name in zip(streams, tried[2], strict=True)
        ]
        assert (await log.append(events)).positions == (5, 6)
        assert await log.head() == 6
        assert [await log.version(event.stream) for event in events] == [3, 3]
