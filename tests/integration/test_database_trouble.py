"""The whole product while Postgres refuses, hangs, is full or replaced: it waits, and goes on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import anyio
import asyncpg
import pytest

from engine.cli.demo_repository import DemoRepository
from engine.embedded.server import EmbeddedPostgres
from tests.database_proxy import DatabaseProxy, proxied
from tests.line import Line

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
TARGET = "shop@dev"
REFUSALS = [
    ("53300", "sorry, too many clients already"),
    ("57P03", "the database system is starting up"),
    ("28P01", 'password authentication failed for user "trueup"'),
]


class Shop(Line):
    """A line with one application, whose engine reaches its database through a proxy."""

    def __init__(self, folder: Path, dsn: str, proxy: DatabaseProxy) -> None:
        super().__init__(folder, proxy.dsn(dsn), ["dev"])
        (folder / "git").mkdir()
        self.proxy = proxy
        self.repository = DemoRepository(self.git / "shop.git")
        self.repository.start(["dev"])

    async def begin(self) -> None:
        """Declare the application, and wait until it is synced."""
        url = {"url": self.repository.url, "interval": "1s"}
        source = {"repository": "shop", "path": "overlays/dev"}
        await self.declare(
            {"kind": "Repository", "metadata": {"name": "shop"}, "spec": url},
            self.cluster("dev"),
            {
                "kind": "Application",
                "metadata": {"name": "shop"},
                "spec": {"source": source, "targets": {"clusters": ["dev"]}},
            },
        )
        await self.synced(TARGET)

    async def goes_on(self, commit: str) -> None:
        """Wait until a commit is rolled out, however often the engine is not to be reached."""
        query = f"subject={TARGET}&for=synced&timeout=5&revision={commit}"
        with anyio.fail_after(120):
            while True:
                try:
                    async with self.session.get(f"/v1/wait?{query}") as answer:
                        if answer.status == 200:
                            break
                except (aiohttp.ClientError, TimeoutError):
                    pass  # it stands by, and serves nothing
                await anyio.sleep(0.1)
        events = await self.events()
        assert [event["position"] for event in events] == list(range(1, len(events) + 1))
        planned = [e["position"] for e in events if e["type"] == "CorrectionPlanned"]
        ended = [e["payload"]["plan"] for e in events if "plan" in e["payload"]]
        assert sorted(ended) == planned


@pytest.fixture
async def shop(tmp_path: Path, dsn: str) -> AsyncIterator[Shop]:
    async with proxied(socket_of(dsn)) as proxy:
        yield Shop(tmp_path, dsn, proxy)


def socket_of(dsn: str) -> str:
    query = parse_qs(urlsplit(dsn).query)
    return f"{query['host'][0]}/.s.PGSQL.{query['port'][0]}"


async def until_standing_by(caplog: pytest.LogCaptureFixture) -> None:
    with anyio.fail_after(120):
        while not any("standing by" in record.message for record in caplog.records):  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def signed(shop: Shop) -> None:
    """Wait until the head that is kept outside of the database is that of the log."""
    head = (await shop.call("GET", "/v1/version"))["position"]
    kept = shop.folder / "data" / "checkpoints" / "head"
    with anyio.fail_after(30):
        while int(kept.read_text().splitlines()[1]) < head:  # noqa: ASYNC110 - another process
            await anyio.sleep(0.05)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from leaves(each)
    else:
        yield error


async def fail_over(stack: AsyncExitStack, proxy: DatabaseProxy, folder: Path) -> None:
    """Stop a server; another one on a copy of all that it has takes its address."""
    proxy.state = "cut"
    proxy.cut()
    await stack.aclose()
    shutil.copytree(folder.with_name("first"), folder, symlinks=True)
    second = await stack.enter_async_context(EmbeddedPostgres(folder))
    proxy.socket, proxy.state = socket_of(second.dsn), "open"


def no_fault(caplog: pytest.LogCaptureFixture) -> None:
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [(record.name, record.message, record.exc_text) for record in faults] == []


@pytest.mark.parametrize("refusal", REFUSALS, ids=[code for code, _ in REFUSALS])
async def test_a_database_that_refuses_is_waited_for(
    shop: Shop, refusal: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with shop.clusters_running(), shop.engine():
        await shop.begin()
        shop.proxy.refusal = refusal
        shop.proxy.cut()
        commit = shop.repository.new_image()
        await until_standing_by(caplog)
        assert any(
            refusal[1] in record.getMessage() + str(vars(record)) for record in caplog.records
        )
        shop.proxy.refusal = None
        await shop.goes_on(commit)
    no_fault(caplog)


async def test_a_database_that_swallows_all_is_given_up_and_another_connection_tried(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop.clusters_running(), shop.engine():
        await shop.begin()
        shop.proxy.state = "swallow"
        commit = shop.repository.new_image()
        await until_standing_by(caplog)
        # What was opened before never says anything again.
        shop.proxy.state = "open"
        await shop.goes_on(commit)
    no_fault(caplog)


async def test_an_engine_whose_notifications_are_lost_polls(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.proxy.drops_notifications = True
    async with shop.clusters_running(), shop.engine():
        await shop.begin()
        await shop.goes_on(shop.repository.new_image())
        assert shop.proxy.dropped
    no_fault(caplog)


async def test_a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room(
    shop: Shop, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with shop.clusters_running(), shop.engine():
        await shop.begin()
        admin = await asyncpg.connect(dsn)
        await admin.execute("""
            CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'could not extend file: No space left on device'
                USING ERRCODE = '53100';
            END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON events
                FOR EACH ROW EXECUTE FUNCTION full_disk();
        """)
        commit = shop.repository.new_image()
        said = "No space left on device"
        with anyio.fail_after(60):
            while not any(said in str(vars(each)) for each in caplog.records):  # noqa: ASYNC110
                await anyio.sleep(0.05)
        # A person is told, too, and what was read before can be read.
        body = {"reason": "is there room?"}
        async with shop.session.post(f"/v1/targets/default/{TARGET}/sync", json=body) as answer:
            assert answer.status == 503, await answer.text()
        assert (await shop.status(TARGET))["sync"] == "synced"
        await admin.execute("DROP TRIGGER full_disk ON events")
        await admin.close()
        await shop.goes_on(commit)
    no_fault(caplog)


async def test_after_a_failover_to_the_same_log_it_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(EmbeddedPostgres(tmp_path / "first"))
        async with proxied(socket_of(first.dsn)) as proxy:
            shop = Shop(tmp_path, first.dsn, proxy)
            async with shop.clusters_running(), shop.engine():
                await shop.begin()
                await fail_over(stack, proxy, tmp_path / "second")
                await shop.goes_on(shop.repository.new_image())
    no_fault(caplog)


@pytest.mark.parametrize("is_quick", [True, False], ids=["quick", "slow"])
async def test_a_failover_to_an_older_copy_is_a_fork_and_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_quick: bool
) -> None:
    """Before it stands by, and when it leads again: the head that was signed is not extended."""
    async with AsyncExitStack() as stack, AsyncExitStack() as later:
        first = await stack.enter_async_context(EmbeddedPostgres(tmp_path / "first"))
        async with proxied(socket_of(first.dsn)) as proxy:
            shop = Shop(tmp_path, first.dsn, proxy)

            async def fork() -> None:
                async with shop.engine():
                    await shop.begin()
                    await fail_over(stack, proxy, tmp_path / "newer")
                    await shop.goes_on(shop.repository.new_image())
                    await signed(shop)
                    proxy.state = "cut"
                    proxy.cut()
                    if not is_quick:
                        caplog.clear()
                        await until_standing_by(caplog)
                    old = await later.enter_async_context(EmbeddedPostgres(tmp_path / "first"))
                    proxy.socket, proxy.state = socket_of(old.dsn), "open"
                    # What it would do now would be written over what is lost.
                    shop.repository.greeting("a fork")
                    await anyio.sleep(120)

            async with shop.clusters_running():
                with pytest.raises(ExceptionGroup) as raised:
                    await fork()
                said = [str(error) for error in leaves(raised.value)]
                words = ("signed", "another copy", "older copy")
                assert any(word in each for word in words for each in said), said
