"""How far each notification is through the alerts, and how its delivery fares.

Pure. This is the outbox: an alert is dealt with once `through` has passed its position, and is
delivered again where the engine stopped between the delivery and its event.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import (
    Declared,
    Fact,
    NotificationDelivered,
    NotificationFailed,
    NotificationPassed,
    NotificationRefused,
    NotificationReplayRequested,
    NotificationStopped,
    NotificationTested,
    NotificationTestRequested,
    Withdrawn,
)
from events.event import Event
from projections.fold import StreamFold, names


class Trouble(Struct, frozen=True, omit_defaults=True):
    """What keeps alerts from being delivered: since when, and what it is now."""

    code: str
    message: str
    since: int
    position: int


class Delivered(Struct, frozen=True, omit_defaults=True):
    """The last alert that was delivered: its position, and when."""

    position: int
    kind: str
    at: int


class Tested(Struct, frozen=True, omit_defaults=True):
    """What the last test came to; `code` is "" where it was delivered."""

    requested: int
    at: int
    code: str = ""
    message: str = ""


class NotificationDocument(Struct, frozen=True, omit_defaults=True):
    """A notification's outbox: every alert of this `round` up to `through` is dealt with.

    `delivered` and `refused` count alerts of all rounds; `test` is the position of the last test
    that was asked for. Once `stopped`, nothing is tried until somebody asks.
    """

    through: int
    round: int
    delivered: int = 0
    refused: int = 0
    last: Delivered | None = None
    failing: Trouble | None = None
    stopped: bool = False
    test: int = 0
    tested: Tested | None = None


class NotificationsView(StreamFold[NotificationDocument]):
    """Outboxes by stream, while declared."""

    name = "notifications"
    document = NotificationDocument
    kinds = ("notification",)
    types = names(
        (
            Declared,
            Withdrawn,
            NotificationDelivered,
            NotificationPassed,
            NotificationFailed,
            NotificationRefused,
            NotificationStopped,
            NotificationReplayRequested,
            NotificationTestRequested,
            NotificationTested,
        )
    )

    def apply(
        self, key: str, document: NotificationDocument | None, event: Event, fact: Fact
    ) -> NotificationDocument | None:
        """Fold one event."""
        if isinstance(fact, Declared):
            if document is None:
                # Who is new is told of what comes, and can ask for what was.
                return NotificationDocument(through=event.position, round=event.position)
            return replace(document, failing=None, stopped=False)
        if document is None or isinstance(fact, Withdrawn):
            return None
        match fact:
            case NotificationReplayRequested():
                return replace(
                    document,
                    through=fact.start - 1,
                    round=event.position,
                    failing=None,
                    stopped=False,
                )
            case NotificationTestRequested():
                return replace(document, test=event.position)
            case NotificationTested():
                tested = Tested(fact.requested, event.recorded_at, fact.code, fact.message)
                return replace(document, tested=tested)
        return _advance(document, event, fact)


def _advance(document: NotificationDocument, event: Event, fact: Fact) -> NotificationDocument:
    """Fold what belongs to a round: of an older one it changes nothing but the counts."""
    match fact:
        case NotificationDelivered():
            document = replace(
                document,
                delivered=document.delivered + 1,
                last=Delivered(fact.position, fact.kind, event.recorded_at),
            )
            return _through(document, fact.round, fact.position, is_well=True)
        case NotificationRefused():
            document = replace(document, refused=document.refused + 1)
            return _through(document, fact.round, fact.position, is_well=True)
        case NotificationPassed():
            return _through(document, fact.round, fact.through, is_well=False)
        case NotificationFailed() if fact.round == document.round:
            since = document.failing.since if document.failing else event.recorded_at
            return replace(document, failing=Trouble(fact.code, fact.message, since, fact.position))
        case NotificationStopped() if fact.round == document.round:
            return replace(document, stopped=True)
    return document


def _through(
    document: NotificationDocument, of_round: int, position: int, *, is_well: bool
) -> NotificationDocument:
    if of_round != document.round:
        return document
    return replace(
        document,
        through=max(document.through, position),
        failing=None if is_well else document.failing,
    )


NOTIFICATIONS = NotificationsView()
