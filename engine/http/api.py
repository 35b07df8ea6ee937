"""What the HTTP API needs of the rest: handed in by `engine.compose`, or by a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from engine.doctor.check import Check, Doctor
from engine.people import People
from engine.ports import Clock
from events.event import Actor
from events.log import EventLog
from events.proofs import ProofSource
from projections.build import Progress
from projections.rebuild import Rebuilt
from projections.views import Views


class Rebuild(Protocol):
    """Rebuilds a view by name while the engine goes on."""

    async def __call__(self, view: str, report: Callable[[Progress], None]) -> Rebuilt:
        """Rebuild; `report` is called now and then. Raises `ViewError` or `LogError`."""
        ...


Scrape = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Gives metrics in the form that an Accept header asks for, and their content type."""


class Workload(Struct, frozen=True):
    """How many targets wait for their turn, and how many are worked on."""

    waiting: int
    working: int


class Limits(Struct, frozen=True):
    """What a request may cost. Times in seconds, sizes in bytes."""

    body: int = 8 * 1024 * 1024
    body_time: float = 30.0
    resources: int = 5000
    wait: float = 60.0
    settle: float = 5.0
    """How long a write waits until the views show it, before it answers anyway."""
    heartbeat: float = 15.0


async def _nobody_looks() -> list[Check]:
    return []


class Api(Struct, frozen=True):
    """The parts that handlers use.

    `hosts` are the names that a Host header may have; the roots are folders below which a
    declared path may lie. `ready` returns what keeps the engine from being ready, by part. A log in
    memory has no `proofs`.
    """

    log: EventLog
    views: Views
    clock: Clock
    people: People
    version: str
    hosts: frozenset[str]
    repository_roots: tuple[Path, ...]
    kubeconfig_roots: tuple[Path, ...]
    secret_roots: tuple[Path, ...]
    ready: Callable[[], Mapping[str, str]]
    rebuild: Rebuild
    drop_previous: Callable[[str], Awaitable[int]]
    proofs: ProofSource | None = None
    limits: Limits = Limits()
    metrics: Scrape | None = None
    """The page for Prometheus; None where it is switched off."""
    workload: Callable[[], Workload | None] = lambda: None
    """What this engine has to do; None while it does not work."""
    doctor: Doctor = _nobody_looks
    """Looks at all that the engine stands on."""


API = web.AppKey("api", Api)
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)


def api_of(request: web.Request) -> Api:
    """Return the parts that a request's handler uses."""
    return request.app[API]
