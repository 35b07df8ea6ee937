"""A browser without a browser: logs in, gets pages, sends forms, and checks each page's manners."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import aiohttp
from yarl import URL

from tests.serving import Bench

INLINE = frozenset({"a", "span", "strong", "code", "i", "q", "time", "del", "ins"})
VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})


class Page(HTMLParser):
    """What a page holds: its text, its links, its forms; and whether its markup is in order."""

    def __init__(self, status: int, headers: Mapping[str, str], source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.status, self.headers, self.source = status, headers, source
        self.links: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.problems: list[str] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(source)
        self.problems += [f"<{tag}> is not closed" for tag in self._open]
        self.text = re.sub(r"\s+", " ", "".join(self._text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in INLINE:
            self._text.append(" ")
        if tag not in VOID:
            self._open.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "href" and tag == "a":
                self.links.append(value or "")
            if name == "style" or name.startswith(("on", "hx-on")):
                self.problems.append(f"<{tag} {name}>")
        if tag == "style" or (tag == "script" and not dict(attrs).get("src")):
            self.problems.append(f"inline <{tag}>")

    def handle_endtag(self, tag: str) -> None:
        if tag not in INLINE:
            self._text.append(" ")
        if not self._open or self._open.pop() != tag:
            self.problems.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        self._text.append(data)


class Browser:
    """Somebody at a browser, logged in or not."""

    def __init__(self, api: Bench, session: aiohttp.ClientSession) -> None:
        self.api, self.session = api, session

    async def get(self, path: str, status: int | None = 200, **headers: str) -> Page:
        """Get a page and check that it is one."""
        given = {"Accept": "text/html", **headers}
        url = URL(self.api.url + path, encoded=True)
        async with self.session.get(url, headers=given) as answer:
            return await _page(answer, status)

    async def send(
        self, path: str, status: int = 200, origin: str | None = None, **fields: str
    ) -> Page:
        """Send a form, as a page of the server (or of `origin`) would."""
        headers = {"Accept": "text/html", "Origin": self.api.url if origin is None else origin}
        async with self.session.post(self.api.url + path, data=fields, headers=headers) as answer:
            return await _page(answer, status)

    async def log_in(self) -> None:
        """Log in as the bench's token."""
        link = await self.api.call("POST", "/v1/login-links", status=201)
        await self.send("/login", code=link["path"].partition("code=")[2])


async def _page(answer: aiohttp.ClientResponse, status: int | None) -> Page:
    source = await answer.text()
    assert status in (None, answer.status), (answer.status, source[:2000])
    assert answer.content_type == "text/html", answer.content_type
    page = Page(answer.status, answer.headers, source)
    assert not page.problems, page.problems
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    return page


@asynccontextmanager
async def browser(api: Bench, *, logged_in: bool = True) -> AsyncIterator[Browser]:
    """Open a browser on a bench."""
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address count too, as in browsers
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        made = Browser(api, session)
        if logged_in:
            await made.log_in()
        yield made
