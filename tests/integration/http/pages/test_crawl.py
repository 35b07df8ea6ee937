"""Whoever follows the links of the pages, all of them, ends on pages."""

from __future__ import annotations

import pytest

from events.catalog import DriftDetected, ObjectsObserved, ReconcileHeld, TargetAssigned
from events.vocabulary import Difference, DifferenceKind, ObjectRef, Observation, Presence
from tests.browsing import Browser
from tests.serving import OTHER_SHA, Bench

pytestmark = pytest.mark.anyio
ODD = ObjectRef("rbac.authorization.k8s.io/v1", "Role", "default", "a:b%2F?c#d é<&")
MOST = 400


async def test_every_link_leads_to_a_page(api: Bench, web: Browser) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    await api.roll_out(["dev"], OTHER_SHA)
    seen = Observation(ODD, Presence.PRESENT, "u", "7", "d", None, "default/shop")
    await api.tell("cluster/default/dev", ObjectsObserved((seen,), "watch"))
    drift = DriftDetected("case", (Difference(DifferenceKind.CHANGED, ODD, ".rules", 1, 2),))
    await api.tell("target/default/shop@dev", drift, ReconcileHeld("window", "no"))
    await api.tell("target/other/web@dev", TargetAssigned("web", "dev", "default"))
    for number in range(60):
        await api.tell(f"target/default/shop@c{number}", TargetAssigned("shop", f"c{number}", "x"))
    waiting, known = ["/"], {"/"}
    while waiting and len(known) < MOST:
        path = waiting.pop(0)
        # Of what was never declared here there are links (a cluster c1), and no page.
        page = await web.get(path, status=None)
        assert page.status == 200 or (page.status == 404 and _is_undeclared(path)), path
        for link in page.links:
            if link.startswith("/") and link not in known:
                known.add(link)
                waiting.append(link)
    assert len(known) > 150
    assert any("state=held" in path and path.startswith("/applications/") for path in known)


def _is_undeclared(path: str) -> bool:
    return path.startswith(("/clusters/default/c", "/applications/other", "/clusters/other"))
