"""The outbox's fold under crashes, doubles, replays and late words of older rounds.

A driver does what `engine.notify.outbox` does: it sends the first alert that `through` has not
passed, then appends. Between the two it may stop; an append may come twice, or come late.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.catalog import (
    Declared,
    Fact,
    NotificationDelivered,
    NotificationFailed,
    NotificationPassed,
    NotificationRefused,
    NotificationReplayRequested,
    NotificationStopped,
)
from events.codec import encode, type_of
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from projections.notifications import NOTIFICATIONS, NotificationDocument

STREAM = "notification/default/ops"
steps = st.lists(
    st.one_of(
        st.sampled_from(["alert", "deliver", "crash", "double", "fail", "refuse", "pass", "stop"]),
        st.tuples(st.just("replay"), st.integers(0, 40)),
        st.tuples(st.just("late"), st.integers(0, 40)),
    ),
    max_size=60,
)


class Model:
    """A log of alerts and of the outbox's own events, folded as the view does."""

    def __init__(self) -> None:
        self.head = 0
        self.alerts: list[int] = []
        self.state: NotificationDocument | None = None
        self.sent: list[int] = []
        self.since_round: set[int] = set()
        self.start = 0
        self.written: list[Fact] = []
        self.append(Declared("Notification", {}))

    def append(self, fact: Fact) -> None:
        self.head += 1
        name, schema = type_of(fact)
        event = Event(
            position=Position(self.head),
            stream=StreamName(STREAM),
            version=Version(self.head),
            event_id=EventId(str(self.head)),
            type=name,
            schema=schema,
            recorded_at=Micros(self.head),
            occurred_at=Micros(self.head),
            actor=Actor("engine:test"),
            causation=None,
            correlation="",
            traceparent="",
            payload=encode(fact),
        )
        self.state = NOTIFICATIONS.apply(STREAM, self.state, event, fact)
        self.written.append(fact)

    @property
    def now(self) -> NotificationDocument:
        assert self.state is not None
        return self.state

    def next(self) -> int | None:
        if self.now.stopped:
            return None
        return next((each for each in self.alerts if each > self.now.through), None)

    def send(self) -> int | None:
        position = self.next()
        if position is not None:
            self.sent.append(position)
            self.since_round.add(position)
        return position

    def step(self, step: object) -> None:
        match step:
            case "alert":
                self.head += 1
                self.alerts.append(self.head)
            case "crash":
                self.send()
            case "deliver" | "double":
                position = self.send()
                if position is not None:
                    for _ in range(2 if step == "double" else 1):
                        self.append(NotificationDelivered(position, self.now.round, "drift", "x"))
            case "refuse":
                position = self.send()
                if position is not None:
                    self.append(
                        NotificationRefused(position, self.now.round, "drift", "x", "http-400", "")
                    )
            case "fail" | "stop":
                position = self.send()
                if position is not None:
                    of_round = self.now.round
                    self.append(NotificationFailed(position, of_round, "http-500", ""))
                    if step == "stop":
                        self.append(NotificationStopped(position, of_round, 0, ""))
            case "pass":
                if self.next() is None and not self.now.stopped:
                    self.append(NotificationPassed(self.head, self.now.round))
            case ("replay", int(place)):
                self.start = min(place, self.head) or 1
                self.append(NotificationReplayRequested(self.start))
                self.since_round = set()
            case ("late", int(place)):
                old = [fact for fact in self.written if isinstance(fact, NotificationDelivered)]
                stale = [fact for fact in old if fact.round != self.now.round]
                if stale:
                    self.append(stale[place % len(stale)])


@given(steps)
def test_nothing_is_passed_that_was_not_sent_in_this_round(taken: list[object]) -> None:
    model = Model()
    begin = model.now.through
    for step in taken:
        rounds = model.now.round
        model.step(step)
        if model.now.round != rounds:
            begin = model.now.through
            assert begin == model.start - 1
            assert not model.now.stopped
        passed = {each for each in model.alerts if begin < each <= model.now.through}
        assert passed <= model.since_round


@given(steps)
def test_in_the_end_everything_of_the_round_was_sent_in_order(taken: list[object]) -> None:
    model = Model()
    for step in taken:
        model.step(step)
    if model.now.stopped:
        model.step(("replay", model.now.through + 1))
    model.sent.clear()
    left = [each for each in model.alerts if each > model.now.through]
    while model.next() is not None:
        model.step("deliver")
    assert model.sent == left
    assert model.now.failing is None or not left


@given(steps)
def test_through_never_goes_back_but_for_a_replay(taken: list[object]) -> None:
    model = Model()
    for step in taken:
        before = model.now
        model.step(step)
        if model.now.round == before.round:
            assert model.now.through >= before.through
        assert model.now.delivered >= before.delivered
