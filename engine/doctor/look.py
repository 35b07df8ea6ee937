"""All checks together: those of a running engine, and those that need none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from msgspec import Struct

from engine.clusters.settings import ClusterSettings
from engine.doctor.check import Check, fail, ok, warn
from engine.doctor.database import database
from engine.doctor.machine import machine
from engine.doctor.world import world
from engine.ports import Clock
from engine.settings import Settings
from engine.sources.mirror import Mirrors
from projections.errors import ViewError
from projections.views import Views


class Standing(Struct, frozen=True):
    """What a running engine stands on, as far as the doctor looks at it."""

    settings: Settings
    dsn: str
    views: Views
    mirrors: Mirrors
    clusters: ClusterSettings
    clock: Clock

    async def __call__(self) -> list[Check]:
        """Look at everything. Raises nothing: see `engine.doctor.check.Doctor`."""
        return await _together(
            lambda: machine(self.settings),
            lambda: database(self.dsn, self.clock),
            self._world,
        )

    async def _world(self) -> list[Check]:
        try:
            return await world(self.views, self.mirrors, self.clusters, self.clock)
        except (ViewError, TimeoutError) as error:
            message = f"what is declared cannot be read: {error}"
            return [fail("views", "readable", message, "look at the database", "views-unavailable")]


async def without_a_server(settings: Settings, clock: Clock) -> list[Check]:
    """Look at what can be looked at while no engine runs. Raises nothing."""
    checks = [
        warn(
            "server",
            "running",
            "no server answers: declared repositories and clusters were not looked at",
            "start one with `trueup run`, or name one with --server or TRUEUP_SERVER",
        )
    ]
    dsn = settings.database_url
    if dsn is not None:
        return checks + await _together(lambda: machine(settings), lambda: database(dsn, clock))
    data = settings.directory / "postgres" / "data"
    said = f"embedded in {data.parent}" if data.exists() else "embedded, and not made yet"
    checks.append(ok("database", "embedded", f"{said}; it runs while the engine does"))
    return checks + await machine(settings)


async def _together(*looks: Callable[[], Awaitable[list[Check]]]) -> list[Check]:
    found: list[list[Check]] = [[] for _ in looks]

    async def look(place: int) -> None:
        found[place] = await looks[place]()

    async with anyio.create_task_group() as group:
        for place in range(len(looks)):
            group.start_soon(look, place)
    return [check for checks in found for check in checks]
