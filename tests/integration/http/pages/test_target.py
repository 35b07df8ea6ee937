"""The fleet and a target, as somebody sees them."""

from __future__ import annotations

import pytest

from tests.browsing import Browser
from tests.serving import SHA, Bench

pytestmark = pytest.mark.anyio


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
