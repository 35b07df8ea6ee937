"""The pages in a real browser: what it does, what it refuses, and whom it leaves out."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser as Chromium
from playwright.async_api import Page, async_playwright, expect

from engine.http.api import Limits
from events.catalog import (
    ClusterLost,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    Facts,
    HealthChanged,
    ObjectsObserved,
    ReconcileHeld,
    Suspended,
)
from events.vocabulary import (
    Difference,
    DifferenceKind,
    Health,
    ObjectRef,
    Observation,
    Presence,
)
from tests.serving import SHA, Bench, bench

PROGRAM = shutil.which("chromium")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
if PROGRAM is None:
    pytest.skip("there is no chromium here: pages are not tried in it", allow_module_level=True)
pytestmark = pytest.mark.anyio
WEB = ObjectRef("apps/v1", "Deployment", "default", "web")
EVIL = "<img src=x onerror=alert(1)>\u202e"
TARGET = "/targets/default/shop@dev"
PAGES = (
    "/",
    "/?state=held",
    "/?at=12",
    TARGET,
    "/targets/default/shop@prod",
    "/applications",
    "/applications/default/shop",
    "/clusters",
    "/clusters/default/prod",
    "/repositories",
    "/repositories/default/shop",
    f"/commits/default/{SHA}",
    "/objects/default/dev/default/Deployment.apps/web",
    "/timeline",
    "/timeline?subject=shop@dev&show=drift",
    "/events/20",
    "/views",
    "/go?to=nothing",
    "/targets/default/nothing@dev",
)
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@pytest.fixture(scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as play:
        made = await play.chromium.launch(executable_path=PROGRAM, args=list(ARGUMENTS))
        yield made
        await made.close()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path, Limits(heartbeat=0.1)) as made:
        await made.declare_shop(["dev", "prod", "qa"])
        await made.roll_out(["dev", "prod", "qa"])
        yield made


@asynccontextmanager
async def window(
    chromium: Chromium, api: Bench, *, scripts: bool = True, log_in: bool = True
) -> AsyncIterator[Page]:
    """Open a window, logged in; whatever its console complains of is a failure."""
    context = await chromium.new_context(
        java_script_enabled=scripts, base_url=api.url, viewport={"width": 1280, "height": 900}
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda told: _note(complaints, told.type, told.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    if scripts:
        await page.add_init_script(_WATCH)
    if log_in:
        link = await api.call("POST", "/v1/login-links", status=201)
        await page.goto(link["path"])
        await page.get_by_role("button", name="Log in as user:admin").click()
        await expect(page.get_by_role("button", name="Log out")).to_be_visible()
    yield page
    assert complaints == []
    await context.close()


def _note(complaints: list[str], kind: str, text: str) -> None:
    # To the console, a page that says what is wrong is an error; so is a session that has ended.
    told = any(f"status of {status}" in text for status in (401, 403, 404))
    if kind in ("error", "warning") and not told:
        complaints.append(text)


async def trouble(api: Bench) -> None:
    """Tell of something of every kind, so that pages have all of their states to show."""
    difference = Difference(DifferenceKind.CHANGED, WEB, ".spec.replicas", 3, 9, "kubectl")
    evil = Difference(DifferenceKind.CHANGED, WEB, EVIL, EVIL, EVIL, EVIL)
    missing = Difference(DifferenceKind.MISSING, ObjectRef("v1", "Service", "default", "web"))
    seen = Observation(WEB, Presence.PRESENT, "u", "7", "d", None, "default/shop", Health.DEGRADED)
    await api.tell("cluster/default/dev", ObjectsObserved((seen,), "watch"))
    await api.tell(
        "target/default/shop@dev",
        DriftDetected("case", (difference, evil, missing)),
        HealthChanged(Health.DEGRADED, "2 of 3 replicas are not ready"),
        ReconcileHeld("window", EVIL, objects=(WEB,)),
    )
    await api.tell("cluster/default/prod", ClusterLost("unreachable", "connection refused"))
    planned = await api.tell(
        "target/default/shop@prod", CorrectionPlanned(SHA, Facts(1), (), "commit")
    )
    failed = CorrectionFailed(planned, (), "forbidden", "cannot patch deployments", 1)
    await api.tell("target/default/shop@prod", failed)
    await api.tell("target/default/shop@qa", Suspended("freeze"))


async def test_pages_hold_to_their_policy_and_leave_nobody_out(
    chromium: Chromium, api: Bench
) -> None:
    await trouble(api)
    async with window(chromium, api) as page:
        for path in PAGES:
            await page.goto(path)
            assert await page.evaluate("window.violations") == []
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                grave = await grave_findings(page, only_colours=scheme == "dark")
                assert grave == [], (path, scheme)


async def grave_findings(page: Page, *, only_colours: bool = False) -> list[object]:
    """Return what axe finds of a page that is serious or critical."""
    found = await Axe().run(page, options={"runOnly": ["color-contrast"]} if only_colours else None)
    return [
        (each["id"], [node["html"][:200] for node in each["nodes"]])
        for each in found.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


async def test_the_first_pages_that_a_stranger_sees_leave_nobody_out(
    chromium: Chromium, tmp_path: Path
) -> None:
    async with bench(tmp_path / "empty") as empty:
        async with window(chromium, empty, log_in=False) as page:
            for path in ("/login", "/login?code=none"):
                await page.goto(path)
                assert await grave_findings(page) == []
        async with window(chromium, empty) as page:
            await page.goto("/")
            await expect(page.get_by_text("Nothing is declared yet")).to_be_visible()
            assert await grave_findings(page) == []


async def test_pages_fit_a_small_phone(chromium: Chromium, api: Bench) -> None:
    await trouble(api)
    async with window(chromium, api) as page:
        await page.set_viewport_size({"width": 360, "height": 740})
        for path in PAGES:
            await page.goto(path)
            width = await page.evaluate("document.documentElement.scrollWidth")
            assert width <= 360, path
        await page.goto(TARGET)
        for verb in ("Sync", "Suspend"):
            await page.locator("summary", has_text=f"{verb}…").click()
            box = await page.get_by_role("button", name=f"{verb} shop@dev").bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 360


async def test_what_happens_is_shown_as_it_happens(chromium: Chromium, api: Bench) -> None:
    async with window(chromium, api) as page:
        await expect(page.locator(".live")).to_have_text("live")
        await api.tell("target/default/shop@dev", ReconcileHeld("window", "not now"))
        row = page.locator("tr", has_text="shop@dev")
        await expect(row).to_contain_text("held")
        await page.goto("/timeline?subject=shop@dev&show=holds")
        await expect(page.locator(".live")).to_have_text("live")
        rows = page.locator("#events > li")
        await expect(rows).to_have_count(1)
        await api.tell("target/default/shop@prod", ReconcileHeld("window", "elsewhere"))
        at = await api.tell("target/default/shop@dev", ReconcileHeld("window", EVIL))
        await expect(rows).to_have_count(2)
        await expect(rows.first).to_contain_text("<img src=x onerror=alert(1)>[U+202E]")
        await expect(rows.first).to_contain_text(f"#{at}")
        await page.goto(TARGET)
        await expect(page.locator(".live")).to_have_text("live")
        await api.tell("target/default/shop@dev", HealthChanged(Health.DEGRADED, "it crashes"))
        await expect(page.locator("#target")).to_contain_text("it crashes")


async def test_a_page_says_when_it_is_cut_off(chromium: Chromium, api: Bench) -> None:
    async with window(chromium, api) as page:
        await page.goto("/timeline")
        await expect(page.locator(".live")).to_have_text("live")
        another = await page.context.new_page()
        await another.goto("/views")
        await another.get_by_role("button", name="Log out").click()
        await expect(another.get_by_role("heading", name="Log in")).to_be_visible()
        await expect(page.locator(".live")).to_contain_text("disconnected", timeout=15_000)


async def test_everything_can_be_done_with_the_keyboard(chromium: Chromium, api: Bench) -> None:
    async with window(chromium, api) as page:
        await page.goto(TARGET)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        summary = page.locator("summary", has_text="Suspend…")
        for _ in range(12):
            await page.keyboard.press("Tab")
            if await summary.evaluate("item => item === document.activeElement"):
                break
        outline = await summary.evaluate("item => getComputedStyle(item).outlineStyle")
        assert outline == "solid"
        await page.keyboard.press("Enter")
        reason = page.locator("#reason-suspend")
        await expect(reason).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(summary).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(reason).to_be_focused()
        await page.keyboard.type("freeze for the sale")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("Suspended: nothing is corrected")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("freeze for the sale")
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await page.keyboard.type("cluster/prod")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="prod")).to_be_visible()


async def test_filters_go_into_the_address_and_back(chromium: Chromium, api: Bench) -> None:
    await trouble(api)
    async with window(chromium, api) as page:
        await page.get_by_role("combobox", name="State").select_option("held")
        await page.wait_for_url("**/?state=held")
        await expect(page.locator("#fleet tbody tr")).to_have_count(1)
        await page.reload()
        await expect(page.locator("#fleet tbody tr")).to_have_count(1)
        await page.get_by_role("combobox", name="State").select_option("")
        await expect(page.locator("#fleet tbody tr")).to_have_count(3)
        await page.go_back()
        await expect(page.locator("#fleet tbody tr")).to_have_count(1)


async def test_without_scripts_all_of_it_works(chromium: Chromium, api: Bench) -> None:
    await trouble(api)
    async with window(chromium, api, scripts=False) as page:
        await page.get_by_label("Name begins with").fill("shop@q")
        await page.get_by_role("button", name="Filter").click()
        await expect(page.locator("#fleet tbody tr")).to_have_count(1)
        await page.get_by_role("link", name="shop@qa").click()
        await page.locator("summary", has_text="Resume…").click()
        await page.get_by_label("Why, for the record").last.fill("it is over")
        await page.get_by_role("button", name="Resume shop@qa").click()
        await expect(page.get_by_role("status").get_by_text("Resumed.")).to_be_visible()
        await page.get_by_role("link", name="Timeline", exact=True).click()
        await expect(page.locator("#events > li").first).to_contain_text("resumed")
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_text("trueup login")).to_be_visible()


async def test_a_link_from_another_site_finds_the_session(chromium: Chromium, api: Bench) -> None:
    async with window(chromium, api) as page:
        # Another host name is another site: a strict cookie is not sent along from there.
        link = f"<a href='{api.url}{TARGET}'>a target</a>"
        elsewhere = api.url.replace("127.0.0.1", "localhost")
        await page.route(
            f"{elsewhere}/elsewhere",
            lambda route: route.fulfill(body=link, content_type="text/html"),
        )
        await page.goto(f"{elsewhere}/elsewhere")
        await page.get_by_role("link").click()
        await expect(page.get_by_role("heading", name="shop@dev")).to_be_visible()
