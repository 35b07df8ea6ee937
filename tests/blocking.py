"""What blocks the event loop: every call that waits for a disk, a process, a lock or a sleep.

While `nothing_blocks` is open, such a call from code of ours on the loop is noted with its stack,
and done: so one finds all of them at once, those too whose exceptions somebody would catch.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from blockbuster import BlockBuster, BlockBusterFunction

ROOT = Path(__file__).parent.parent
OURS = tuple(f"{ROOT / package}/" for package in ("engine", "events", "projections"))
NOT_THE_ENGINE = tuple(f"{ROOT / 'engine' / part}/" for part in ("cli", "simulator"))
"""Run beside the engine in tests alone."""
MORE = (
    "builtins.open",
    "io.open",
    "os.chmod",
    "os.chown",
    "os.fsync",
    "os.lstat",
    "os.open",
    "os.truncate",
    "pygit2.Repository.__init__",
    "pygit2.Repository.get",
    "pygit2.Repository.revparse_single",
    "pygit2.Repository.walk",
    "shutil.rmtree",
    "subprocess.run",
)
MAY = (
    # A module is imported once; stacks are read for the log's line about a fault.
    ("<frozen importlib._bootstrap>", "_find_and_load"),
    ("linecache.py", "updatecache"),
    ("linecache.py", "checkcache"),
    # asyncio forks on the loop itself, which takes a few milliseconds.
    ("subprocess.py", "__init__"),
    # asyncpg looks for ~/.pgpass with each connection that it makes.
    ("asyncpg/connect_utils.py", "_read_password_from_pgpass"),
)
"""What may wait: the end of a file's path, and a function in it."""


@contextmanager
def nothing_blocks() -> Iterator[None]:
    """Fail when something of ours blocked the loop meanwhile."""
    stacks: dict[str, str] = {}
    guard = BlockBuster()
    for name in MORE:
        guard.functions[name] = BlockBusterFunction(None, name)
    for function in guard.functions.values():
        function.can_block_predicate = _noting(function, stacks)
    guard.activate()
    try:
        yield
    finally:
        guard.deactivate()
    assert not stacks, "\n".join(stacks.values())


def _noting(function: BlockBusterFunction, stacks: dict[str, str]) -> Callable[..., bool]:
    harmless = function.can_block_predicate
    may = [*MAY, *((file, name) for file, names in function.can_block_functions for name in names)]

    def predicate(*words: object, **named: object) -> bool:
        if not harmless(*words, **named):
            frames = list(_frames(sys._getframe(1)))
            ours = [frame for frame in frames if _is_ours(frame)]
            if ours and not any(_is(frame, *place) for frame in frames for place in may):
                place = f"{ours[0].f_code.co_filename}:{ours[0].f_lineno} {function.full_name}"
                lines = traceback.StackSummary.extract((f, f.f_lineno) for f in ours[3::-1])
                stacks.setdefault(place, f"{function.full_name} by\n" + "".join(lines.format()))
        return True  # so that it is done

    return predicate


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_ours(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(OURS) and not file.startswith(NOT_THE_ENGINE)


def _is(frame: FrameType, file: str, function: str) -> bool:
    return frame.f_code.co_name == function and frame.f_code.co_filename.endswith(file)
