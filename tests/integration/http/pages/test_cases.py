"""Drift cases and notifications, as somebody sees them."""

from __future__ import annotations

import pytest

from events.catalog import (
    CorrectionApplied,
    DriftDetected,
    DriftResolved,
    NotificationDelivered,
    NotificationFailed,
    NotificationStopped,
)
from events.event import Position, StreamName
from events.vocabulary import Difference, DifferenceKind, ObjectRef
from tests.browsing import Browser
from tests.serving import Bench

pytestmark = pytest.mark.anyio
WEB = ObjectRef("apps/v1", "Deployment", "shop", "web")
TARGET = "target/default/shop@dev"
EVIL = "<script>alert(1)</script>"


async def drifted(api: Bench, number: int = 1, manager: str = "kubectl-edit") -> str:
    case = f"default/shop@dev#{number}"
    changed = Difference(
        DifferenceKind.CHANGED, WEB, ".spec.replicas", 2, 5, manager, "2026-03-03T14:00:00Z"
    )
    await api.tell(TARGET, DriftDetected(case, (changed,)), correlation=case)
    return case


async def test_open_cases_lead_to_who_did_what(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    assert "No drift is open" in (await web.get("/drift")).text
    await drifted(api)
    page = await web.get("/drift")
    assert "kubectl-edit" in page.text
    assert "/drift/default/shop@dev/1" in page.links
    assert "/drift/default/shop@dev/1" in (await web.get("/targets/default/shop@dev")).links
    page = await web.get("/drift/default/shop@dev/1")
    for word in ("kubectl-edit", ".spec.replicas", "2", "5", "it is open"):
        assert word in page.text
    assert "No drift" in (await web.get("/drift?cluster=prod")).text
    await web.get("/drift?state=oppen", status=400)
    await web.get("/drift/default/shop@dev/2", status=404)


async def test_an_ended_case_tells_its_whole_story_and_no_other(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    case = await drifted(api)
    done = await api.tell(TARGET, CorrectionApplied(1, ()), correlation=case)
    await api.tell(TARGET, DriftResolved(case, "corrected", done), correlation=case)
    await drifted(api, 2, "someone-else")
    page = await web.get("/drift/default/shop@dev/1")
    assert "corrected" in page.text
    assert "someone-else" not in page.text
    assert f"/events/{done}" in page.links
    assert "#1" not in (await web.get("/drift")).text.partition("Clear")[2]
    assert "/drift/default/shop@dev/1" in (await web.get("/drift?state=ended")).links
    both = (await web.get("/drift?state=all&application=shop")).links
    assert {"/drift/default/shop@dev/1", "/drift/default/shop@dev/2"} <= set(both)
    sent = await web.get("/go?to=shop@dev%231")
    assert "corrected" in sent.text


async def test_a_case_is_accepted_with_a_reason_and_no_more(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    await drifted(api)
    here = "/drift/default/shop@dev/1"
    await web.send(f"{here}/accept", 400, reason="")
    await web.send(f"{here}/accept", 400, reason="night", duration="soon")
    await web.send(f"{here}/accept", 400, reason="night", until="x")
    page = await web.send(f"{here}/accept", reason="incident 7", duration="2h")
    assert "Accepted: what this case names" in page.text
    assert "incident 7" in page.text
    assert f"{here}/end" in page.source
    page = await web.send(f"{here}/end", reason="over")
    assert "Accepted no more" in page.text
    await web.send(f"{here}/end", 409, reason="again")
    await web.send("/drift/default/shop@dev/9/accept", 409, reason="wrong case")
    await web.send(f"{here}/accept", 403, origin="https://evil.example", reason="x")


async def test_what_strangers_wrote_into_a_case_is_harmless(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev"])
    await api.roll_out(["dev"])
    await drifted(api, manager=EVIL)
    for path in ("/drift", "/drift/default/shop@dev/1"):
        page = await web.get(path)
        assert EVIL not in page.source
        assert EVIL in page.text


async def test_a_notification_says_what_came_and_what_hinders(api: Bench, web: Browser) -> None:
    assert "No notification is declared yet" in (await web.get("/notifications")).text
    secret = str(api.folder / "secrets" / "ops.whsec")
    hook = {"url": "https://hooks.example.org/x", "secretFile": secret}
    resource = {
        "apiVersion": "trueup.dev/v1",
        "kind": "Notification",
        "metadata": {"name": "ops"},
        "spec": {"webhook": hook},
    }
    await api.call("POST", "/v1/resources", [resource], status=200)
    page = await web.get("/notifications")
    assert "/notifications/default/ops" in page.links
    assert "waiting" in page.text
    key = "notification/default/ops"
    (event,) = await api.log.read(Position(0), stream=StreamName(key))
    now = event.position
    reason = "no route to host"
    await api.tell(
        key,
        NotificationDelivered(now, now, "drift", TARGET),
        NotificationFailed(now + 1, now, "unreachable", reason),
        NotificationStopped(now + 1, now, api.clock.now(), reason),
    )
    page = await web.get("/notifications/default/ops")
    assert "1 alert" in page.text
    assert "no route to host" in page.text
    assert "stopped" in page.text
    assert "hooks.example.org" in page.text
    await web.get("/notifications/default/opps", status=404)
