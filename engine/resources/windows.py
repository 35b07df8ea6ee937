"""Sync windows: whether it is closed now, why, and until when. Pure.

Schedules are cron's, as Debian reads it, daylight saving included; a window is open from a tick
of its schedule for its duration. Time zones come from the IANA database of the release: a
decision that is made again with a later one may find another hour.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from msgspec import Struct

from engine.resources.duration import seconds
from engine.resources.model import Window
from events.event import Micros

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Closed(Struct, frozen=True):
    """Why nothing is synced now; `until` (UTC microseconds, 0: for ever) is when to look again."""

    message: str
    until: int


def closed(windows: Iterable[Window], now: Micros) -> Closed | None:
    """Return what keeps syncs closed at a time (UTC microseconds); None where they are open."""
    at = _EPOCH + timedelta(microseconds=now)
    allows: list[Window] = []
    is_allowed = False
    for window in windows:
        end = _open_until(window, at)
        if window.kind == "deny" and end is not None:
            return Closed(f"the deny window {_written(window)} is open", _micros(end))
        if window.kind == "allow":
            allows.append(window)
            is_allowed = is_allowed or end is not None
    if not allows or is_allowed:
        return None
    opens = [start for window in allows if (start := _next_start(window, at)) is not None]
    written = ", ".join(_written(window) for window in allows)
    return Closed(f"no allow window is open: {written}", _micros(min(opens)) if opens else 0)


def _open_until(window: Window, at: datetime) -> datetime | None:
    """Return the end of a window that is open at a moment; None where it is not."""
    # The last tick not after the moment; the iteration itself begins before what it is given.
    local = (at + timedelta(seconds=1)).astimezone(ZoneInfo(window.time_zone))
    start = next(CronSim(window.schedule, local, reverse=True), None)
    if start is None:
        return None
    end = start.astimezone(UTC) + timedelta(seconds=seconds(window.duration))
    return end if at < end else None


def _next_start(window: Window, at: datetime) -> datetime | None:
    return next(CronSim(window.schedule, at.astimezone(ZoneInfo(window.time_zone))), None)


def _written(window: Window) -> str:
    return f"{window.schedule!r} for {window.duration} ({window.time_zone})"


def _micros(moment: datetime) -> int:
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def fault(window: Window) -> tuple[str, str] | None:
    """Return the field of a window that means nothing, and why; None for a good one."""
    if len(window.schedule.split()) != 5:
        return "schedule", "must have five fields: minute, hour, day, month, weekday"
    try:
        CronSim(window.schedule, _EPOCH)
    except CronSimError as error:
        return "schedule", f"is no cron schedule: {error}"
    try:
        ZoneInfo(window.time_zone)
    except (LookupError, ValueError, OSError):
        return "timeZone", f"{window.time_zone[:60]!r} is no time zone"
    if not 1 <= seconds(window.duration) <= 366 * 86_400:
        return "duration", "must lie between 1s and a year"
    return None
