"""Somebody at a browser, logged in, for every test that asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.browsing import Browser, browser
from tests.serving import Bench


@pytest.fixture
async def web(api: Bench) -> AsyncIterator[Browser]:
    async with browser(api) as made:
        yield made
