"""One notification's outbox: takes alerts out of the log in order, and sees each delivered.

How far it is stands in the log. An alert is sent, then its delivery is appended; where the engine
stops in between it is sent again, under the same id. So a receiver gets each at least once, and
can tell when it has had one before. A receiver that is down holds up its own notification alone,
and costs no memory: what waits for it is in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
from msgspec import Struct

from engine.notify.message import (
    CLOUD_EVENTS,
    Origin,
    SecretRefused,
    cloud_event,
    message_id,
    signed_headers,
    signing_keys,
    slack_message,
    slack_trial,
    trial_event,
)
from engine.notify.secret import SecretUnreadable, read_text
from engine.notify.selection import concerns, labelled, subject_of
from engine.notify.send import End, Sender, Sent
from engine.ports import Clock
from engine.resources.duration import seconds
from engine.resources.model import NotificationSpec
from engine.telemetry import instruments, spans
from engine.telemetry.log import link_to
from events.catalog import (
    Fact,
    NotificationDelivered,
    NotificationFailed,
    NotificationPassed,
    NotificationRefused,
    NotificationStopped,
    NotificationTested,
)
from events.codec import fact_of
from events.event import Actor, NewEvent, Position, StreamName
from events.log import EventLog
from projections.alerts import ALERTS, Alert, alert_of
from projections.declared import DECLARED
from projections.notifications import NOTIFICATIONS, NotificationDocument
from projections.projection import Reader
from projections.views import Views

ACTOR = Actor("engine:notifier")
PAGE = 200
"""Alerts that are looked at in one go."""
PASSED_EVERY = 1000
"""Alerts for others after which it is written down that they are passed."""
FIRST_RETRY, LAST_RETRY = 2.0, 600.0
"""Seconds between a failure and the next try: doubled from the first to the last, with jitter."""


class Means(Struct, frozen=True):
    """What outboxes share."""

    log: EventLog
    views: Views
    sender: Sender
    clock: Clock
    secret_roots: tuple[Path, ...]
    external_url: str
    check_lease: Callable[[], None]


class Request(Struct, frozen=True):
    """What is sent for one alert, or a test, except where to and with what signature."""

    identity: str
    event: bytes
    slack: bytes


class Outbox:
    """Delivers one notification's alerts; run it for as long as it is declared."""

    def __init__(self, stream: StreamName, spec: NotificationSpec, means: Means) -> None:
        self._stream, self._spec, self._means = stream, spec, means
        _, self._project, name = stream.split("/", 2)
        self._origin = Origin(means.log.log_id, f"{self._project}/{name}", means.external_url)
        self._scanned = (0, 0, 0)
        """Round, position and number of the alerts that were looked at and are for others."""
        self._news = anyio.Event()
        self._asked = anyio.Event()

    def tell(self) -> None:
        """Say that there may be new alerts."""
        self._news.set()

    def ask(self) -> None:
        """Say that a person asked for something, which ends a wait too."""
        self._asked.set()
        self._news.set()

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._news, self._asked = anyio.Event(), anyio.Event()
            state = await self._state()
            if state is None:
                await self._news.wait()
            elif state.test > (state.tested.requested if state.tested else 0):
                await self._test(state.test)
            elif state.stopped:
                await self._asked.wait()
            elif not await self._next(state):
                await self._news.wait()

    async def _state(self) -> NotificationDocument | None:
        async with self._means.views.snapshot() as reader:
            found = await reader.get(NOTIFICATIONS, self._stream)
        return found.document if found else None

    async def _next(self, state: NotificationDocument) -> bool:
        """Deliver the next alert, or look through a page; False where there is none."""
        of_round, after, number = self._scanned
        if of_round != state.round or after < state.through:
            after, number = state.through, 0
        async with self._means.views.snapshot() as reader:
            subject = subject_of(self._spec, self._project)
            positions = await reader.subjects(ALERTS, subject, after=Position(after), limit=PAGE)
            alert = await self._first(reader, positions)
        if alert is not None:
            await self._deliver(alert, state)
            return True
        if not positions:
            return False
        self._scanned = (state.round, positions[-1], number + len(positions))
        if number + len(positions) >= PASSED_EVERY:
            await self._append(NotificationPassed(positions[-1], state.round))
        return True

    async def _first(self, reader: Reader, positions: Sequence[Position]) -> Alert | None:
        """Return the first of some alerts that is for this notification."""
        for event in await self._means.log.read_at(positions) if positions else ():
            alert = alert_of(event, fact_of(event))
            if alert is None:
                continue
            labels: dict[str, str] = {}
            if self._spec.selector is not None:
                found = await reader.get_many(DECLARED, labelled(alert))
                for name in labelled(alert):
                    labels |= found[name].document.labels if name in found else {}
            if concerns(self._spec, self._project, alert, labels):
                return alert
        return None

    async def _deliver(self, alert: Alert, state: NotificationDocument) -> None:
        """Send one alert until it is taken or refused, or nobody wants it any more."""
        request = Request(
            message_id(self._origin, alert.position),
            cloud_event(self._origin, alert),
            slack_message(self._origin, alert),
        )
        failing = state.failing
        code, since = (failing.code, failing.since) if failing else ("", self._means.clock.now())
        attempt = 1
        while True:
            sent = await self._try(request, alert, state.round, attempt, code)
            if sent.end is not End.FAILED:
                return
            code = sent.code
            if self._is_over(since):
                await self._stop(alert, state.round, since, sent)
                return
            if await self._wait(attempt, sent.retry_after):
                return
            attempt += 1

    async def _try(
        self, request: Request, alert: Alert, of_round: int, attempt: int, code: str
    ) -> Sent:
        """Send once, and record what is news: that it is over, or fails by another code."""
        said: spans.Attributes = {
            "trueup.notification": self._stream.partition("/")[2],
            "trueup.alert": str(alert.kind),
            "trueup.attempt": attempt,
        }
        with spans.span("notify", said, root=True) as span:
            await link_to(self._means.log, [alert.position])
            sent = await self._send(request)
            instruments.NOTIFICATIONS.add(1, {"trueup.outcome": sent.end.value})
            if sent.end is not End.TAKEN:
                spans.failed(span, sent.code)
            if sent.end is not End.FAILED:
                await self._append(_ended(alert, of_round, sent, attempt), alert)
            elif sent.code != code:
                fact = NotificationFailed(alert.position, of_round, sent.code, sent.message)
                await self._append(fact, alert)
        return sent

    def _is_over(self, since: int) -> bool:
        return self._means.clock.now() - since >= seconds(self._spec.give_up_after) * 1e6

    async def _stop(self, alert: Alert, of_round: int, since: int, sent: Sent) -> None:
        message = (
            f"nothing could be delivered for {self._spec.give_up_after} ({sent.message}): mend it, "
            f"then `trueup notify replay {self._stream.split('/', 2)[2]} --from {alert.position}`"
        )
        await self._append(NotificationStopped(alert.position, of_round, since, message), alert)

    async def _wait(self, attempt: int, least: float) -> bool:
        """Wait before another try; True where somebody asked for something meanwhile."""
        wait = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(attempt - 1, 16))
        wait *= 0.75 + self._means.clock.random() / 2
        async with anyio.create_task_group() as group:
            group.start_soon(self._sleep, max(wait, least), group.cancel_scope)
            await self._asked.wait()
            group.cancel_scope.cancel()
        return self._asked.is_set()

    async def _sleep(self, wait: float, scope: anyio.CancelScope) -> None:
        await self._means.clock.sleep(wait)
        scope.cancel()

    async def _test(self, requested: int) -> None:
        now = self._means.clock.now()
        sent = await self._send(
            Request(
                message_id(self._origin, requested),
                trial_event(self._origin, requested, now),
                slack_trial(self._origin),
            )
        )
        fact = NotificationTested(requested, sent.code, sent.message)
        await self._append(fact, cause=Position(requested))

    async def _send(self, request: Request) -> Sent:
        self._means.check_lease()
        now = self._means.clock.now()
        try:
            url, headers, body = await self._addressed(request, now)
        except (SecretUnreadable, SecretRefused) as error:
            return Sent(End.FAILED, "secret-refused", str(error))
        return await self._means.sender.post(url, headers, body, now)

    async def _addressed(self, request: Request, now: int) -> tuple[str, dict[str, str], bytes]:
        """Return where a request goes, its headers and its body. Secrets are read each time."""
        roots = self._means.secret_roots
        slack, webhook = self._spec.slack, self._spec.webhook
        if slack is not None:
            url = await read_text(slack.url_file, "slack.urlFile", roots)
            return url.strip(), {"Content-Type": "application/json"}, request.slack
        if webhook is None:
            raise SecretRefused("neither webhook nor slack is declared")
        url = webhook.url or await read_text(webhook.url_file or "", "webhook.urlFile", roots)
        try:
            keys = signing_keys(await read_text(webhook.secret_file, "webhook.secretFile", roots))
        except SecretRefused as error:
            raise SecretRefused(f"webhook.secretFile: {error}") from error
        signed = signed_headers(keys, request.identity, now // 1_000_000, request.event)
        return url.strip(), {"Content-Type": CLOUD_EVENTS, **signed}, request.event

    async def _append(
        self, fact: Fact, alert: Alert | None = None, cause: Position | None = None
    ) -> None:
        """Append, and wait until the views show it: the next step is read from them."""
        means = self._means
        event = NewEvent(
            event_id=means.clock.event_id(),
            stream=self._stream,
            fact=fact,
            actor=ACTOR,
            occurred_at=means.clock.now(),
            causation=Position(alert.position) if alert else cause,
            correlation=alert.correlation if alert else "",
        )
        appended = await means.log.append([event])
        await means.views.reached(appended.last)


def _ended(alert: Alert, of_round: int, sent: Sent, attempt: int) -> Fact:
    if sent.end is End.TAKEN:
        return NotificationDelivered(
            alert.position, of_round, str(alert.kind), alert.about, attempt
        )
    return NotificationRefused(
        alert.position, of_round, str(alert.kind), alert.about, sent.code, sent.message
    )
