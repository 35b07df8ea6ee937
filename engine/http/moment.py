"""As of when something is read: now, or any moment of the past."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from msgspec import Struct

from engine.http.api import Api
from engine.http.problem import bad_request, conflict
from engine.resources import duration
from events.event import START, Micros, Position
from projections.asof import as_of
from projections.errors import AheadOfViews
from projections.projection import Reader

_AGO = re.compile(r"(?:[0-9]{1,9}(?:ms|s|m|h|d))+ ago")
_MICROS = 1_000_000
HOW = "a position, a time such as 2026-03-03T14:00:00Z or 2026-03-03, or `2h ago`"


class Moment(Struct, frozen=True):
    """The views as they stood, and what time it was then (UTC microseconds)."""

    reader: Reader
    now: Micros


@asynccontextmanager
async def reading(api: Api, at: str = "") -> AsyncIterator[Moment]:
    """Open the views as they are, or as they stood at what `at` says (see `HOW`).

    A time means the last position recorded not after it. Refuses what cannot be read as a moment,
    and a position that is still to come.
    """
    if not at:
        async with api.views.snapshot() as reader:
            yield Moment(reader, api.clock.now())
        return
    position, now = await _place(api, at)
    # What has just been written may not be in the views yet.
    await api.views.reached(min(position, await api.log.head()), api.limits.settle)
    try:
        async with as_of(api.views, api.log, position) as reader:
            yield Moment(reader, now)
    except AheadOfViews as error:
        raise conflict("not-yet", f"at: {error}") from error


async def position_of(api: Api, at: str) -> Position:
    """Return the position that `at` means; refuses what cannot be read as a moment."""
    return (await _place(api, at))[0]


async def _place(api: Api, at: str) -> tuple[Position, Micros]:
    text = at.strip()
    if text.isascii() and text.isdigit() and len(text) <= 18:
        position = Position(int(text))
        events = await api.log.read_at([position]) if position else []
        return position, events[0].recorded_at if events else Micros(0)
    micros = _micros(text, api.clock.now())
    return await api.log.position_at(micros) if micros > 0 else START, micros


def _micros(text: str, now: Micros) -> Micros:
    if _AGO.fullmatch(text):
        # Days are for looking back only: no other duration of ours is that long.
        days = sum(int(number) for number in re.findall(r"([0-9]+)d", text))
        rest = re.sub(r"[0-9]+d", "", text[: -len(" ago")])
        seconds = days * 86_400 + (duration.seconds(rest) if rest else 0)
        return Micros(now - int(seconds * _MICROS))
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise bad_request(f"at: {text[:60]!r} is no moment: write {HOW}") from error
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    since = when - datetime(1970, 1, 1, tzinfo=UTC)
    return Micros((since.days * 86_400 + since.seconds) * _MICROS + since.microseconds)
