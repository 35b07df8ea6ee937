"""The engine's own page, and what a browser is shown when the engine is not well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from events.catalog import Declared
from projections.errors import ViewsUnavailable
from projections.projection import Reader
from tests.browsing import Browser
from tests.serving import Bench

pytestmark = pytest.mark.anyio


async def test_what_is_parked_is_shown_with_its_remedy(api: Bench, web: Browser) -> None:
    await api.tell("app/default/odd", Declared("Application", {"no": "source"}))
    page = await web.get("/views")
    assert "1 document parked" in page.text
    assert "trueup rebuild VIEW" in page.text
    assert "app/default/odd" in page.text


async def test_what_is_not_ready_and_what_waits_is_said(api: Bench, web: Browser) -> None:
    page = await web.get("/views")
    assert "no work here" in page.text
    api.problems = {"database": "cannot be reached"}
    page = await web.get("/views")
    assert "database is not ready: cannot be reached" in page.text


async def test_an_engine_without_its_database_says_so_in_a_page(
    api: Bench, web: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def down() -> AsyncIterator[Reader]:
        raise ViewsUnavailable("the database does not answer")
        yield

    monkeypatch.setattr(api.views, "snapshot", down)
    page = await web.get("/", status=503)
    assert "This did not work" in page.text
    assert "the database does not answer" in page.text
    assert "Log out" not in page.text
    files = [value for _, name, value in page.attributes if name == "href" and "static" in value]
    for path in files:
        async with web.session.get(api.url + path) as answer:
            assert answer.status == 200
    monkeypatch.undo()
    await web.get("/")


async def test_views_that_are_behind_are_said_to_be(
    api: Bench, web: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.declare_shop()
    await api.roll_out()
    head = await api.views.reached(await api.log.head())

    async def ahead() -> int:
        return head + 1000

    monkeypatch.setattr(api.log, "head", ahead)
    async with _frozen(api, monkeypatch):
        page = await web.get("/")
    assert "What is shown is behind" in page.text
    assert "1 000 events behind the log" in page.text


@asynccontextmanager
async def _frozen(api: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Keep the views from folding."""

    async def fold() -> int:
        return api.views._position

    monkeypatch.setattr(api.views, "_fold", fold)
    yield
