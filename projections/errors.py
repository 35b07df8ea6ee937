"""What can go wrong with the views. `code` is stable; the message says what to do.

Pure.
"""

from __future__ import annotations

from events.event import Position


class ViewError(Exception):
    """What can go wrong with the views."""

    code = "views"


class ViewsUnavailable(ViewError):
    """The database of the views cannot be reached now; trying again is safe."""

    code = "views-unavailable"


class ViewsNotReady(ViewError):
    """Some view is not built yet, or is being built for this release."""

    code = "views-not-ready"

    def __init__(self, view: str, why: str) -> None:
        super().__init__(
            f"the view {view} cannot be read: {why}; it is built when an engine of this release "
            "runs"
        )
        self.view = view


class AheadOfViews(ViewError):
    """A position was asked for that the views have not reached, or that the log does not have."""

    code = "ahead-of-views"

    def __init__(self, wanted: Position, at: Position) -> None:
        super().__init__(
            f"position {wanted} is not in the views, which are at {at}: ask for that, or wait"
        )
        self.wanted, self.at = wanted, at


class ViewUnreadable(ViewError):
    """A stored document is not of the shape that its view has now."""

    code = "view-unreadable"

    def __init__(self, view: str, key: str, error: Exception) -> None:
        super().__init__(
            f"the document {key} of the view {view} does not read: {error}; `trueup rebuild {view}`"
        )
        self.view, self.key = view, key


class FencedOut(ViewError):
    """Somebody else keeps these views now: stop, nothing was written."""

    code = "fenced-out"

    def __init__(self, epoch: int, at: Position, why: str) -> None:
        super().__init__(
            f"this engine (epoch {epoch}, views at {at}) no longer keeps the views: {why}; "
            "nothing was written, stop and wait for the lease"
        )
        self.epoch, self.at = epoch, at


class RebuildRefused(ViewError):
    """A view cannot be rebuilt now."""

    code = "rebuild-refused"
