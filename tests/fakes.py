"""Stand-ins that several tests share: time that only moves when it is told to."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import uuid
from collections.abc import Collection

import anyio
import anyio.lowlevel

from engine.ports import RenderRefused, TreeEntry
from events.event import EventId, Micros, digest_of

_SETTLE_TURNS = 50


class ManualClock:
    """A clock that implements `engine.ports.Clock` and moves by `advance`."""

    def __init__(self, start: int = 1_700_000_000_000_000) -> None:
        self._micros = start
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._count = itertools.count()

    @property
    def sleeping(self) -> bool:
        """Whether somebody waits for time to move."""
        return any(due > self._micros for due, _, _ in self._sleepers)

    def now(self) -> Micros:
        return Micros(self._micros)

    def monotonic(self) -> float:
        return self._micros / 1e6

    async def sleep(self, seconds: float) -> None:
        event = anyio.Event()
        due = self._micros + int(seconds * 1e6)
        heapq.heappush(self._sleepers, (due, next(self._count), event))
        if due > self._micros:
            await event.wait()
        else:
            await anyio.lowlevel.checkpoint()

    def random(self) -> float:
        return 0.5

    def event_id(self) -> EventId:
        made = self._micros // 1000 << 80
        return EventId(str(uuid.UUID(int=made + (7 << 76) + (2 << 62) + next(self._count))))

    async def advance(self, seconds: float) -> None:
        """Move time, wake who is due, and let everybody run until they wait again."""
        self._micros += int(seconds * 1e6)
        while self._sleepers and self._sleepers[0][0] <= self._micros:
            heapq.heappop(self._sleepers)[2].set()
        await self.settle()

    async def settle(self) -> None:
        """Let other tasks run for a while without moving time."""
        for _ in range(_SETTLE_TURNS):
            await anyio.lowlevel.checkpoint()


class MemoryTree:
    """The files of a commit, in memory; implements `engine.ports.Tree`."""

    def __init__(
        self,
        files: dict[str, str | bytes],
        links: dict[str, str] | None = None,
        commit: str | None = None,
    ) -> None:
        # As in Git, other files are another commit.
        listed = repr((sorted(files.items()), sorted((links or {}).items())))
        self.commit = commit or hashlib.sha1(listed.encode()).hexdigest()
        self._bodies: dict[str, bytes] = {}
        self._entries: dict[str, TreeEntry] = {"": TreeEntry("tree", "")}
        for path, text in files.items():
            body = text.encode() if isinstance(text, str) else text
            self._put(path, "file", body)
        for path, kind in (links or {}).items():
            self._put(path, kind, b"/etc/passwd")

    def _put(self, path: str, kind: str, body: bytes) -> None:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            self._entries[folder] = TreeEntry("tree", f"tree:{folder}")
        name = digest_of(body)
        self._bodies[name] = body
        self._entries[path] = TreeEntry(kind, name, len(body))

    async def entries(self, path: str) -> dict[str, TreeEntry]:
        if self._entries.get(path, TreeEntry("", "")).kind != "tree":
            raise RenderRefused("path-missing", f"there is no folder {path}")
        prefix = f"{path}/" if path else ""
        return {
            name[len(prefix) :]: entry
            for name, entry in self._entries.items()
            if name and name.startswith(prefix) and "/" not in name[len(prefix) :]
        }

    async def entry(self, path: str) -> TreeEntry | None:
        return self._entries.get(path)

    async def read(self, ids: Collection[str]) -> dict[str, bytes]:
        return {name: self._bodies[name] for name in ids}
