"""One finding of the doctor's. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

from msgspec import Struct


class State(StrEnum):
    """How a check went, from best to worst."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Check(Struct, frozen=True):
    """What was looked at, how it is, and what to do about it ("" where nothing).

    `area` is what it is about: database, disk, clock, renderer, views, lease, repository, cluster.
    `code` is an error's code that `trueup explain error` knows, "" where there is none.
    """

    area: str
    name: str
    state: State
    message: str
    remedy: str = ""
    code: str = ""


class Doctor(Protocol):
    """Looks at everything that a running engine stands on."""

    async def __call__(self) -> list[Check]:
        """Return every finding; what cannot be looked at is one, and raises nothing."""
        ...


def worst(checks: Iterable[Check]) -> State:
    """Return the worst state; OK for nothing."""
    order = list(State)
    return max((check.state for check in checks), key=order.index, default=State.OK)


def ok(area: str, name: str, message: str) -> Check:
    """Return a check that went well."""
    return Check(area, name, State.OK, message)


def warn(area: str, name: str, message: str, remedy: str, code: str = "") -> Check:
    """Return a check that somebody should look at."""
    return Check(area, name, State.WARN, message, remedy, code)


def fail(area: str, name: str, message: str, remedy: str, code: str = "") -> Check:
    """Return a check that keeps the engine from doing its work."""
    return Check(area, name, State.FAIL, message, remedy, code)
