"""What the HTTP API needs of the rest: handed in by `engine.compose`, or by a test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from aiohttp import web
from msgspec import Struct

from engine.doctor.check import Check, Doctor
from engine.people import People
from engine.ports import Answer, Clock, NotRehearsed
from events.event import Actor
from events.log import EventLog
from events.proofs import ProofSource
from events.vocabulary import Action
from projections.build import Progress
from projections.fold import TargetId
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


Rehearse = Callable[[TargetId, str, Sequence[Action]], Awaitable[Sequence[Answer]]]
"""Asks a target's cluster what actions to a commit would come to."""


async def _nobody_looks() -> list[Check]:
    return []


async def _nobody_asks(
    target: TargetId, commit: str, actions: Sequence[Action]
) -> Sequence[Answer]:
    raise NotRehearsed("no clusters are at hand here")


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
    rehearse: Rehearse = _nobody_asks
    """Asks a cluster by dry runs what a plan would come to; raises `NotRehearsed`."""


API = web.AppKey("api", Api)
ACTOR: web.RequestKey[Actor] = web.RequestKey("actor", Actor)


def api_of(request: web.Request) -> Api:
    """Return the parts that a request's handler uses."""
    return request.app[API]
