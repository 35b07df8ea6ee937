"""An outbox on a log in memory, in virtual time, with a receiver behind real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web

from engine.notify.outbox import Means, Outbox
from engine.notify.send import Timeouts, sender
from engine.resources.model import NotificationSpec
from engine.resources.parse import parse
from engine.resources.record import declared
from events.catalog import (
    ClusterConnected,
    ClusterLost,
    DriftDetected,
    DriftResolved,
    Fact,
    NotificationReplayRequested,
    NotificationTestRequested,
)
from events.codec import fact_of
from events.event import START, Actor, Event, NewEvent, Position, StreamName
from events.memory import MemoryLog
from events.vocabulary import Difference, DifferenceKind, ObjectRef
from projections.all import DOCUMENT_VIEWS, SUBJECT_VIEWS
from projections.batch import Group
from projections.memory import MemoryViews
from projections.notifications import NOTIFICATIONS, NotificationDocument
from projections.timeline import TIMELINE
from tests.fakes import ManualClock
from tests.notifying import SECRET, Receiver, receiving

pytestmark = pytest.mark.anyio
DRIFT = DriftDetected(
    "default/shop@prod#1",
    (
        Difference(
            DifferenceKind.CHANGED,
            ObjectRef("apps/v1", "Deployment", "shop", "web"),
            ".spec.replicas",
            2,
            "a-canary-value",
        ),
    ),
)


class Desk:
    """A log with its views, a receiver, and outboxes that are run by the test."""

    def __init__(self, folder: Path, receiver: Receiver) -> None:
        self.folder, self.receiver = folder, receiver
        self.clock = ManualClock()
        self.log = MemoryLog(self.clock.now)
        self.views = MemoryViews(self.log, Group(DOCUMENT_VIEWS, SUBJECT_VIEWS))
        (folder / "secret").write_text(SECRET + "\n")

    async def tell(self, stream: str, *facts: Fact) -> Position:
        appended = await self.log.append(
            [
                NewEvent(
                    event_id=self.clock.event_id(),
                    stream=StreamName(stream),
                    fact=fact,
                    actor=Actor("engine:test"),
                    occurred_at=self.clock.now(),
                    correlation="a story",
                )
                for fact in facts
            ]
        )
        return appended.last

    async def drift(self, target: str = "shop@prod") -> Position:
        return await self.tell(f"target/default/{target}", DRIFT)

    async def declare(self, spec: str = "", name: str = "ops", to: str = "") -> NotificationSpec:
        where = to or (
            f"webhook: {{url: '{self.receiver.url}', secretFile: '{self.folder}/secret'}}"
        )
        text = f"""
apiVersion: trueup.dev/v1
kind: Notification
metadata: {{name: {name}}}
spec:
  {where}
  {spec}
"""
        (resource,) = parse(text.encode(), "test")
        await self.tell(f"notification/default/{name}", declared(resource))
        assert isinstance(resource.spec, NotificationSpec)
        return resource.spec

    @asynccontextmanager
    async def running(
        self,
        spec: NotificationSpec,
        name: str = "ops",
        hosts: frozenset[str] = frozenset({"127.0.0.1"}),
        external_url: str = "",
        timeout: float = 10.0,
    ) -> AsyncIterator[Outbox]:
        async with sender(hosts, Timeouts(timeout, timeout)) as sends:
            means = Means(
                log=self.log,
                views=self.views,
                sender=sends,
                clock=self.clock,
                secret_roots=(self.folder,),
                external_url=external_url,
                check_lease=lambda: None,
            )
            outbox = Outbox(StreamName(f"notification/default/{name}"), spec, means)
            async with anyio.create_task_group() as group:
                group.start_soon(outbox.run)
                yield outbox
                group.cancel_scope.cancel()

    async def facts(self, kind: type[Fact] | str, number: int = 1) -> list[Event]:
        """Wait until so many events of a type are in the log."""
        name = kind if isinstance(kind, str) else kind.__name__
        with anyio.fail_after(30):
            while True:
                found = await self.log.read(START, types=[name])
                if len(found) >= number:
                    return list(found)
                await anyio.lowlevel.checkpoint()

    async def state(self, name: str = "ops") -> NotificationDocument:
        async with self.views.snapshot() as reader:
            found = await reader.get(NOTIFICATIONS, f"notification/default/{name}")
        assert found is not None
        return found.document

    async def waits(self) -> None:
        """Wait until an outbox waits for another try."""
        with anyio.fail_after(30):
            while not self.clock.sleeping:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with receiving() as receiver:
        yield Desk(tmp_path, receiver)


async def test_an_alert_is_a_signed_cloud_event_and_its_delivery_is_on_the_record(
    desk: Desk,
) -> None:
    await desk.drift()
    spec = await desk.declare()
    async with desk.running(spec, external_url="https://trueup.example.org/") as outbox:
        position = await desk.drift()
        outbox.tell()
        (delivered,) = await desk.facts("NotificationDelivered")
    (got,) = desk.receiver.got
    got.check_signature()
    assert got.headers["Content-Type"].startswith("application/cloudevents+json")
    event = got.value
    assert event["id"] == got.id == f"{desk.log.log_id}:{position}:default/ops"
    assert event["specversion"] == "1.0"
    assert event["type"] == "dev.trueup.drift"
    assert event["subject"] == "default/shop@prod"
    assert event["data"]["url"] == "https://trueup.example.org/targets/default/shop@prod"
    assert "shop/Deployment/web .spec.replicas" in event["data"]["message"]
    assert b"canary" not in got.body
    assert (delivered.causation, delivered.correlation) == (position, "a story")
    async with desk.views.snapshot() as reader:
        told = await reader.subjects(TIMELINE, "target/default/shop@prod")
    assert delivered.position in told


async def test_a_failing_receiver_is_tried_again_under_the_same_id(desk: Desk) -> None:
    spec = await desk.declare()
    position = await desk.drift()
    desk.receiver.answer(500, 500, 503)
    async with desk.running(spec):
        for number in (1, 2, 3):
            await desk.receiver.until(number)
            await desk.waits()
            assert (await desk.state()).failing is not None
            await desk.clock.advance(3600)
        (delivered,) = await desk.facts("NotificationDelivered")
    assert {got.id for got in desk.receiver.got} == {desk.receiver.got[0].id}
    assert len(desk.receiver.got) == 4
    codes = [fact_of(event).code for event in await desk.facts("NotificationFailed")]  # type: ignore[attr-defined]
    assert codes == ["http-500", "http-503"]
    state = await desk.state()
    assert (state.through, state.failing, state.delivered) == (position, None, 1)
    assert delivered.causation == position


async def test_retry_after_is_waited_for(desk: Desk) -> None:
    spec = await desk.declare()
    await desk.drift()
    desk.receiver.answer(429, headers={"Retry-After": "120"})
    async with desk.running(spec):
        await desk.receiver.until(1)
        await desk.waits()
        await desk.clock.advance(119)
        assert len(desk.receiver.got) == 1
        await desk.clock.advance(2)
        await desk.facts("NotificationDelivered")


async def test_an_alert_that_the_receiver_refuses_is_left_out_and_the_next_one_comes(
    desk: Desk,
) -> None:
    spec = await desk.declare()
    first, second = await desk.drift(), await desk.drift("shop@dev")
    desk.receiver.answer(422)
    async with desk.running(spec):
        await desk.facts("NotificationDelivered")
    (refused,) = await desk.facts("NotificationRefused")
    assert refused.causation == first
    assert [got.position for got in desk.receiver.got] == [first, second]


async def _hang(request: web.Request) -> web.Response:
    await anyio.sleep_forever()
    raise AssertionError


async def _for_ever(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(status=500)
    await response.prepare(request)
    with anyio.move_on_after(20):
        while True:
            await response.write(b"x" * 65536)
    return response


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (_hang, "timeout"),
        (_for_ever, "http-500"),
        (web.Response(status=302, headers={"Location": "http://169.254.169.254/"}), "redirected"),
        (web.Response(status=401, text="who are you? a-canary"), "http-401"),
    ],
)
async def test_odd_receivers_are_told_apart_and_tried_again(
    desk: Desk, answer: web.Response, code: str
) -> None:
    spec = await desk.declare()
    await desk.drift()
    desk.receiver.answers.append(answer)
    async with desk.running(spec, timeout=0.3):
        await desk.waits()
        failing = (await desk.state()).failing
        assert failing is not None
        assert failing.code == code
        assert "canary" not in failing.message
        await desk.clock.advance(60)
        await desk.facts("NotificationDelivered")


async def test_a_receiver_that_is_down_holds_up_its_own_alerts_only(desk: Desk) -> None:
    down = await desk.declare(
        name="down",
        to=f"webhook: {{url: 'http://127.0.0.1:1/', secretFile: '{desk.folder}/secret'}}",
    )
    up = await desk.declare()
    async with desk.running(down, "down"), desk.running(up) as outbox:
        for number in range(1, 30):
            await desk.drift()
            outbox.tell()
            await desk.facts("NotificationDelivered", number)
        assert (await desk.state("down")).delivered == 0
        assert len(await desk.facts("NotificationFailed")) == 1


async def test_after_too_long_it_stops_and_a_replay_goes_on_from_there(desk: Desk) -> None:
    spec = await desk.declare("giveUpAfter: 1h")
    first, second = await desk.drift(), await desk.drift()
    desk.receiver.answer(*[503] * 100)
    async with desk.running(spec) as outbox:
        while not (await desk.state()).stopped:
            if desk.clock.sleeping:
                await desk.clock.advance(650)
            await anyio.lowlevel.checkpoint()
        (stopped,) = await desk.facts("NotificationStopped")
        fact = fact_of(stopped)
        assert f"replay ops --from {first}" in fact.message  # type: ignore[attr-defined]
        tries = len(desk.receiver.got)
        desk.receiver.answers.clear()
        outbox.tell()
        await desk.clock.advance(86_400)
        assert len(desk.receiver.got) == tries
        request = NotificationReplayRequested(first)
        await desk.tell("notification/default/ops", request)
        outbox.ask()
        await desk.facts("NotificationDelivered", 2)
    assert [got.position for got in desk.receiver.got[tries:]] == [first, second]
    assert not (await desk.state()).stopped


async def test_a_replay_sends_again_under_the_same_ids(desk: Desk) -> None:
    spec = await desk.declare()
    async with desk.running(spec) as outbox:
        positions = [await desk.drift() for _ in range(5)]
        outbox.tell()
        await desk.facts("NotificationDelivered", 5)
        await desk.tell("notification/default/ops", NotificationReplayRequested(positions[2]))
        outbox.ask()
        await desk.facts("NotificationDelivered", 8)
    ids = [got.id for got in desk.receiver.got]
    assert ids[5:] == ids[2:5]
    assert (await desk.state()).through == positions[-1]


async def test_who_is_stopped_between_sending_and_saying_so_sends_again(desk: Desk) -> None:
    spec = await desk.declare()
    await desk.drift()
    desk.receiver.answers.append(_hang)
    async with desk.running(spec):
        await desk.receiver.until(1)
    async with desk.running(spec):
        await desk.facts("NotificationDelivered")
    first, again = desk.receiver.got
    assert first.id == again.id


async def test_only_what_is_selected_is_told(desk: Desk) -> None:
    cluster = (
        b"apiVersion: trueup.dev/v1\nkind: Cluster\n"
        b"metadata: {name: prod, labels: {stage: prod}}\nspec: {inCluster: true}\n"
    )
    await desk.tell("cluster/default/prod", declared(parse(cluster, "test")[0]))
    spec = await desk.declare(
        "events: [cluster-lost, recovered]\n  selector: {matchLabels: {stage: prod}}"
    )
    async with desk.running(spec) as outbox:
        await desk.drift()
        lost, again = ClusterLost("unreachable", "no answer"), ClusterConnected("v1.36.0", True)
        await desk.tell("cluster/default/dev", lost, again)
        await desk.tell("cluster/other/prod", lost)
        await desk.tell("cluster/default/prod", ClusterConnected("v1.36.0"), lost, again)
        await desk.tell("target/default/shop@prod", DriftResolved("x", "corrected"))
        outbox.tell()
        await desk.facts("NotificationDelivered", 3)
    assert [(got.kind, got.value["subject"]) for got in desk.receiver.got] == [
        ("cluster-lost", "default/cluster/prod"),
        ("recovered", "default/cluster/prod"),
        ("recovered", "default/shop@prod"),
    ]


async def test_what_is_for_others_is_written_down_as_passed_now_and_then(desk: Desk) -> None:
    spec = await desk.declare("events: [held]")
    for _ in range(11):
        await desk.tell("target/default/shop@prod", *[DRIFT] * 100)
    async with desk.running(spec):
        (passed,) = await desk.facts("NotificationPassed")
    through = fact_of(passed).through  # type: ignore[attr-defined]
    assert (await desk.state()).through == through
    assert desk.receiver.got == []


@pytest.mark.parametrize(
    ("url", "hosts", "code"),
    [
        ("https://localhost:1/", (), "address-refused"),
        ("https://127.0.0.1:1/", (), "address-refused"),
        ("https://[::ffff:10.0.0.1]/", (), "address-refused"),
        ("https://169.254.169.254/latest", (), "address-refused"),
        ("https://example.org/", ("127.0.0.1",), "host-refused"),
        ("http://127.0.0.1:1/", (), "host-refused"),
    ],
)
async def test_nobody_is_led_into_the_engines_own_network(
    desk: Desk, url: str, hosts: tuple[str, ...], code: str
) -> None:
    spec = await desk.declare(to=f"webhook: {{url: '{url}', secretFile: '{desk.folder}/secret'}}")
    await desk.drift()
    async with desk.running(spec, hosts=frozenset(hosts)):
        await desk.waits()
    failing = (await desk.state()).failing
    assert failing is not None
    assert failing.code == code
    assert "notification_hosts" in failing.message


async def test_slack_gets_short_text_that_nobody_can_steer(desk: Desk) -> None:
    (desk.folder / "slack").write_text(desk.receiver.url + "/T0/a-canary-in-the-url\n")
    spec = await desk.declare(to=f"slack: {{urlFile: '{desk.folder}/slack'}}")
    lost = ClusterLost("unreachable", "<!channel> *look* <https://evil.example|here> & `x`" * 99)
    async with desk.running(spec, external_url="https://trueup.example.org") as outbox:
        await desk.tell("cluster/default/prod", lost)
        outbox.tell()
        await desk.facts("NotificationDelivered")
    (got,) = desk.receiver.got
    text = got.value["blocks"][0]["text"]["text"]
    assert "<https://trueup.example.org/clusters/default/prod|cluster/prod>" in text
    assert "<!channel>" not in text
    assert "<https://evil" not in text
    assert "\N{WORD JOINER}*look" in text
    assert len(text) < 3000
    events = await desk.log.read(START)
    assert not any(b"canary" in event.payload for event in events)


async def test_a_test_says_what_came_of_it(desk: Desk) -> None:
    spec = await desk.declare()
    async with desk.running(spec) as outbox:
        for number, status in enumerate((204, 500), 1):
            desk.receiver.answer(status)
            await desk.tell("notification/default/ops", NotificationTestRequested())
            outbox.ask()
            await desk.facts("NotificationTested", number)
    codes = [fact_of(event).code for event in await desk.facts("NotificationTested")]  # type: ignore[attr-defined]
    assert codes == ["", "http-500"]
    desk.receiver.got[0].check_signature()
    assert desk.receiver.got[0].value["type"] == "dev.trueup.test"


@pytest.mark.parametrize("secret", ["", "short", "whsec_!!!", None])
async def test_a_bad_secret_is_a_failure_that_names_the_field_and_no_more(
    desk: Desk, secret: str | None
) -> None:
    if secret is None:
        (desk.folder / "secret").unlink()
    else:
        (desk.folder / "secret").write_text(secret)
    spec = await desk.declare()
    await desk.drift()
    async with desk.running(spec):
        await desk.waits()
    failing = (await desk.state()).failing
    assert failing is not None
    assert failing.code == "secret-refused"
    assert "secretFile" in failing.message
    assert desk.receiver.got == []
