"""The fleet and a target, as somebody sees them."""

from __future__ import annotations

import pytest

from events.catalog import (
    CommitSeen,
    DriftDetected,
    HealthChanged,
    ReconcileHeld,
    RefMoved,
    RevisionResolved,
    SyncRequested,
    TargetAssigned,
)
from events.event import Actor, NewEvent, StreamName
from events.vocabulary import Difference, DifferenceKind, Health, ObjectRef
from tests.browsing import Browser
from tests.serving import OTHER_SHA, SHA, Bench

pytestmark = pytest.mark.anyio
WEB = ObjectRef("apps/v1", "Deployment", "default", "web")
EVIL = "<script>alert(1)</script>\u202e\x1b[31m"


async def test_the_fleet_links_to_a_target_that_tells_its_story(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    page = await web.get("/")
    assert "shop@dev" in page.text
    assert "/targets/default/shop@dev" in page.links
    page = await web.get("/targets/default/shop@dev")
    assert "synced" in page.text
    assert "healthy" in page.text
    assert SHA[:10] in page.text
    assert "assigned to dev, namespace default" in page.text


async def test_with_nothing_declared_the_first_page_says_how_to_begin(web: Browser) -> None:
    page = await web.get("/")
    assert "trueup apply -f shop.yaml" in page.text
    assert "trueup demo" in page.text
    for path in ("/applications", "/clusters", "/repositories"):
        page = await web.get(path)
        assert "is declared yet" in page.text


async def test_filters_are_in_the_address_and_count_what_they_show(
    api: Bench, web: Browser
) -> None:
    await api.declare_shop(["dev", "prod", "qa"])
    await api.roll_out(["dev", "prod", "qa"])
    await api.tell("target/default/shop@qa", ReconcileHeld("window", "not now"))
    await api.tell("target/default/shop@prod", HealthChanged(Health.DEGRADED, "it crashes"))
    page = await web.get("/?state=held")
    assert "shop@qa" in page.text
    assert "shop@dev" not in page.text
    assert "held (window)" not in page.text
    assert "1 target" in page.text
    page = await web.get("/?health=degraded&state=synced")
    assert "shop@prod" in page.text
    assert "shop@qa" not in page.text
    page = await web.get("/?cluster=dev")
    assert "shop@dev" in page.text
    assert "shop@prod" not in page.text
    page = await web.get("/?name=shop@q")
    assert "shop@qa" in page.text
    assert "1 target" in page.text
    page = await web.get("/?name=nothing")
    assert "No target is so" in page.text
    page = await web.get("/?state=hled", status=400)
    assert "did you mean held" in page.text
    await web.get("/?stat=held", status=400)


async def test_a_fleet_as_it_was_has_the_same_filters(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev", "prod"])
    then = await api.roll_out(["dev", "prod"])
    await api.tell("target/default/shop@prod", ReconcileHeld("window", "not now"))
    page = await web.get(f"/?at={then}&state=synced")
    assert "2 targets" in page.text
    assert f"As it was at position {then}" in page.text
    assert "behind the log" not in page.text
    page = await web.get(f"/targets/default/shop@prod?at={then}")
    assert "not now" not in page.text
    page = await web.get("/targets/default/shop@prod")
    assert "not now" in page.text


async def test_a_fleet_is_paged_in_the_order_of_names_whatever_is_asked_for(
    api: Bench, web: Browser
) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    for number in range(120):
        held = [ReconcileHeld("window", "no")] if number % 2 else []
        stream = f"target/default/{'shop' if number < 60 else 'shop-b'}@c{number:03}"
        await api.tell(stream, TargetAssigned("shop", f"c{number:03}", "default"), *held)
    for query in ("", "?state=held", "?state=pending", "?application=shop&state=held"):
        seen: list[str] = []
        path = "/" + query
        while path:
            page = await web.get(path)
            seen += [link for link in page.links if link.startswith("/targets/")]
            path = next((link for link in page.links if "after=" in link), "")
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)
        expected = {"": 121, "?state=held": 60, "?state=pending": 60}.get(query, 30)
        assert len(seen) == expected, query


async def test_what_differs_stands_side_by_side_with_who_did_it(api: Bench, web: Browser) -> None:
    await api.declare_shop()
    await api.roll_out()
    difference = Difference(
        DifferenceKind.CHANGED, WEB, ".spec.replicas", 3, 9, "kubectl", time="2026-01-01T00:00:00Z"
    )
    await api.tell("target/default/shop@dev", DriftDetected("case", (difference,)))
    page = await web.get("/targets/default/shop@dev")
    for text in ("out-of-sync", ".spec.replicas", "kubectl", "drift: 1 difference"):
        assert text in page.text
    page = await web.get("/timeline?subject=shop@dev&show=drift")
    assert ".spec.replicas" in page.text
    assert "assigned to" not in page.text


async def test_names_of_strangers_are_shown_and_do_nothing(api: Bench, web: Browser) -> None:
    await api.declare_shop()
    await api.roll_out()
    evil = ObjectRef("v1", "ConfigMap", "default", EVIL)
    difference = Difference(DifferenceKind.CHANGED, evil, EVIL, EVIL, EVIL, EVIL)
    await api.tell("target/default/shop@dev", DriftDetected("case", (difference,)))
    await api.tell("target/default/shop@dev", ReconcileHeld(EVIL, EVIL, objects=(evil,)))
    await api.tell("target/default/shop@dev", SyncRequested(EVIL), actor="user:<b>")
    head = await api.log.head()
    for path in ("/", "/targets/default/shop@dev", "/timeline", f"/events/{head}"):
        page = await web.get(path)
        assert "<script>alert" not in page.source
        assert "\u202e" not in page.source
        assert "\x1b" not in page.source
    page = await web.get("/targets/default/shop@dev")
    assert "<script>alert(1)</script>[U+202E]␛[31m" in page.text
    link = next(link for link in page.links if link.startswith("/objects/"))
    page = await web.get(link)
    assert "held" in page.text


async def test_an_operator_acts_with_a_reason_and_their_name_is_on_the_record(
    api: Bench, web: Browser
) -> None:
    await api.declare_shop()
    await api.roll_out()
    page = await web.send("/targets/default/shop@dev/suspend", reason="freeze for the sale")
    assert "freeze for the sale" in page.text
    assert "Suspended: nothing is corrected" in page.text
    page = await web.send("/targets/default/shop@dev/suspend", reason="again")
    assert "suspended already" in page.text
    page = await web.send("/targets/default/shop@dev/resume", reason="over")
    assert "Resumed" in page.text
    page = await web.send("/targets/default/shop@dev/sync", reason="now")
    assert "A sync was requested" in page.text
    page = await web.send("/applications/default/shop/suspend", reason="all of it")
    assert "all of it" in page.text
    page = await web.send("/targets/default/shop@dev/sync", status=400, reason=" ")
    assert "a reason is needed" in page.text
    page = await web.send("/targets/default/shop@dev/sync", status=400, reason="x", revision="y")
    assert "unknown field revision" in page.text
    last = [event for event in await api.log.read(0) if event.type == "Suspended"]
    assert [event.actor for event in last] == ["user:admin", "user:admin"]
    before = await api.log.head()
    await web.send(
        "/targets/default/shop@dev/sync", status=403, origin="https://evil.example", reason="x"
    )
    assert await api.log.head() == before


async def test_every_page_is_there(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    await api.roll_out(["dev"], OTHER_SHA)
    pages = {
        "/applications": "shop",
        "/applications/default/shop": "Rendered",
        "/clusters": "connected",
        "/clusters/default/dev": "v1.36.0",
        "/repositories": "Sell more",
        "/repositories/default/shop": "refs/heads/main",
        f"/commits/default/{SHA}": "went on from it",
        f"/commits/default/{SHA[:12]}": "Sell more",
        f"/commits/default/{OTHER_SHA}": "It is the newest commit of shop",
        "/timeline": "synced to",
        "/timeline?subject=application/shop&show=renders": "rendered",
        "/timeline?at=1": "Up to now",
        "/timeline?actor=git:": "Sell more",
        "/events/1": "Envelope",
        "/views": "fleet",
        "/go": "What can be written",
        "/go?to=nothing@nowhere": "there is no target",
    }
    for path, text in pages.items():
        page = await web.get(path)
        assert text in page.text, (path, page.text[:3000])
    page = await web.get("/go?to=shop@dev")
    assert "Should be" in page.text
    page = await web.get("/go?to=" + OTHER_SHA[:8])
    assert "What it changed" in page.text
    for path in ("/events/999999", "/applications/default/no", "/objects/default/dev/-/Pod/x"):
        await web.get(path, status=404)


async def test_a_commit_that_touches_nothing_is_live_where_all_is_synced(
    api: Bench, web: Browser
) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    newer = "0123456789" * 4
    await api.tell(
        "repo/default/shop",
        CommitSeen(newer, (SHA,), "Say it better in the README", 2),
        RefMoved("refs/heads/main", newer, SHA),
        RevisionResolved(newer),
    )
    page = await web.get(f"/commits/default/{newer}")
    assert "Nothing, for any application" in page.text
    assert "It is the newest commit of shop" in page.text
    assert "/?application=shop&state=synced" in page.links
    page = await web.get("/?application=shop&state=synced")
    assert page.text.count(newer[:10]) >= 2
    page = await web.get(f"/commits/default/{SHA}")
    assert "2 targets that went on from it" in page.text


async def test_no_page_of_a_fleet_reads_the_fleet(
    api: Bench, web: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    for part in range(4):
        events = [
            NewEvent(
                event_id=api.clock.event_id(),
                stream=StreamName(f"target/default/shop@c{part}-{number}"),
                fact=fact,
                actor=Actor("engine:test"),
                occurred_at=api.clock.now(),
            )
            for number in range(500)
            for fact in (TargetAssigned("shop", "c", "x"), HealthChanged(Health.PROGRESSING))
        ]
        await api.log.append(events)
    await api.tell("target/default/shop@c3-499", ReconcileHeld("window", "no"))
    await api.views.reached(await api.log.head())
    group = api.views._group
    read: list[str] = []

    def counting(view: str, document: bytes) -> object:
        read.append(view)
        return decode(view, document)

    decode = group.decode
    monkeypatch.setattr(group, "decode", counting)
    for query in ("", "?state=pending", "?state=held", "?health=progressing", "?cluster=dev"):
        read.clear()
        page = await web.get("/" + query)
        assert page.status == 200
        assert len(read) < 400, (query, len(read))
