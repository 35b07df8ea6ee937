"""The doctor finds what is wrong, names it with its remedy, and finds nothing where nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.cli.program import run
from engine.doctor import machine as machines
from engine.doctor.check import Check, State, fail, ok, warn, worst
from engine.doctor.database import database, judge, skew
from engine.doctor.world import configured
from engine.explain.errors import entries
from engine.settings import load
from events.vocabulary import ConfigurationProblem
from projections.checkup import Checkup, HeldLease, ParkedIn, Schema
from projections.declared import DeclaredDocument
from projections.sources import Configuration, Refusal, SourceDocument
from tests.fakes import ManualClock
from tests.integration.test_line import Shop
from tests.serving import Bench, bench

pytestmark = pytest.mark.anyio
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
}
GOOD = Checkup((17, 2), SETTINGS, 20, 1.7e9, Schema(5), (HeldLease("engine", "here:1", 3, 4.0),))


def wrong(checks: list[Check]) -> list[tuple[str, str, str]]:
    return [(check.area, check.name, str(check.state)) for check in checks if check.state != "ok"]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"version": (9, 6)}, [("database", "version", "fail")]),
        ({"settings": SETTINGS | {"fsync": "off"}}, [("database", "fsync", "fail")]),
        (
            {"settings": SETTINGS | {"synchronous_commit": "off"}},
            [("database", "synchronous_commit", "fail")],
        ),
        ({"connections": 95}, [("database", "connections", "warn")]),
        ({"schema": Schema(5, newer=("events/0009_x",))}, [("database", "schema", "fail")]),
        ({"schema": Schema(5, differing=("events/0001_log",))}, [("database", "schema", "fail")]),
        ({"schema": Schema(0, due=("events/0001_log",))}, [("database", "schema", "warn")]),
        ({"leases": (HeldLease("engine", "x", 1, -5.0),)}, [("lease", "engine", "warn")]),
        ({"leases": ()}, [("lease", "engine", "warn")]),
        ({"lags": {"targets": 20_000}}, [("views", "lag", "warn")]),
        ({"parked": (ParkedIn("targets", 2, "target/a/b"),)}, [("views", "parked", "fail")]),
    ],
)
def test_what_a_database_says_is_judged(
    changes: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    checks = list(judge(msgspec.structs.replace(GOOD, **changes)))
    assert wrong(checks) == found
    assert all(check.remedy for check in checks if check.state != "ok")


def test_clocks_are_compared() -> None:
    assert [str(skew("x", by).state) for by in (0.5, -20, 90)] == ["ok", "warn", "fail"]


def test_the_worst_counts() -> None:
    assert worst([]) is State.OK
    assert worst([ok("a", "a", ""), fail("a", "a", "", "x"), warn("a", "a", "", "x")]) is State.FAIL


async def test_a_database_that_is_not_there_is_told_without_its_password() -> None:
    (check,) = await database("postgresql://u:s3cr3t@127.0.0.1:1/x", ManualClock())
    assert (check.state, check.name) == (State.FAIL, "reachable")
    assert "s3cr3t" not in str(check)


async def test_a_real_database_is_looked_at(dsn: str, empty_dsn: str) -> None:
    from engine.process.clock import SystemClock

    checks = await database(dsn, SystemClock())
    # The tests' Postgres is quick and not durable, and no engine ever held its lease.
    assert wrong(checks) == [
        ("database", "fsync", "fail"),
        ("database", "full_page_writes", "fail"),
        ("lease", "engine", "warn"),
    ]
    assert ("database", "schema", "warn") in wrong(await database(empty_dsn, SystemClock()))


async def test_a_full_disk_and_open_folders_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    (tmp_path / "data").chmod(0o755)
    settings = load(
        {"data_dir": tmp_path / "data", "repository_roots": (tmp_path / "gone",)}, environ={}
    )
    usage = shutil.disk_usage(tmp_path)._replace(free=1024)
    monkeypatch.setattr(machines.shutil, "disk_usage", lambda _: usage)
    found = wrong(await machines.machine(settings))
    assert ("disk", "space", "fail") in found
    assert ("disk", "data folder", "warn") in found
    assert ("settings", "repository_roots", "warn") in found


async def test_the_whole_engine_is_looked_at_while_it_runs(tmp_path: Path, dsn: str) -> None:
    line = Shop(tmp_path, dsn)
    async with line.clusters_running():
        line.repository.start(["dev", "prod"])
        async with line.engine():
            await line.declare_shop()
            for name in ("dev", "prod"):
                await line.synced(f"shop-{name}@{name}")
            healthy = await looked(line)
            assert {area for area, _, _ in wrong(healthy)} <= {"database", "disk", "renderer"}
            said = {(check.area, check.name): check for check in healthy}
            assert "is at" in said["repository", "shop"].message
            assert "allowed for all" in said["cluster", "prod permissions"].message
            assert said["clock", "cluster prod"].state is State.OK
            assert said["lease", "engine"].state is State.OK
            # Now something of each goes wrong.
            forbid = {"action": "forbid", "verbs": ["delete"], "resource": "deployments.apps"}
            await line.simulated("prod", "POST", "faults", forbid)
            dead = line.cluster("dead")
            (tmp_path / "kube" / "dead").write_text(DEAD)
            dead["spec"]["kubeconfig"] = str(tmp_path / "kube" / "dead")
            lost = {
                "kind": "Repository",
                "metadata": {"name": "lost"},
                "spec": {"url": f"file://{line.git}/nothing"},
            }
            await line.declare(dead, lost)
            found = {(check.area, check.name): check for check in await looked(line)}
            lacking = found["cluster", "prod permissions"]
            assert (lacking.state, lacking.code) == (State.FAIL, "forbidden")
            assert "delete deployments.apps" in lacking.message
            assert found["cluster", "dead"].code == "unreachable"
            assert found["repository", "lost"].state is State.FAIL
            assert found["cluster", "dev permissions"].state is State.OK
            for check in found.values():
                assert check.state is State.OK or check.remedy, check
                assert not check.code or check.code in entries(), check


def test_a_control_repository_that_is_refused_is_said() -> None:
    spec = {"url": "https://git.example/platform.git", "control": True}
    declared = DeclaredDocument("Repository", "default", "platform", spec, {}, 1, 1, "user:admin")
    told = [ConfigurationProblem("all/app.yaml", 7, "spec.path", "it is missing", "add it")]
    known = Configuration(commit="a" * 40, resources=3)
    refusal = Refusal("b" * 40, 1, tuple(told), 9, 9, omitted=2)

    def found(configuration: Configuration | None) -> Check:
        (check,) = configured(declared, "platform", SourceDocument(configuration=configuration))
        assert check.state is State.OK or check.remedy
        return check

    assert found(None).state is State.WARN
    assert (found(known).state, found(known).message.count("aaaa")) == (State.OK, 3)
    refused = found(msgspec.structs.replace(known, refused=refusal))
    assert refused.state is State.FAIL
    for said in ("bbbb", "all/app.yaml:7", "spec.path", "it is missing", "(and 2 more)", "aaaa"):
        assert said in refused.message
    plain = msgspec.structs.replace(declared, spec={"url": "https://git.example/shop.git"})
    assert configured(plain, "shop", SourceDocument()) == []


DEAD = """
apiVersion: v1
kind: Config
clusters: [{name: dead, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: dead, user: {token: x}}]
contexts: [{name: dead, context: {cluster: dead, user: dead}}]
"""


async def looked(line: Shop) -> list[Check]:
    return msgspec.convert((await line.call("GET", "/v1/doctor"))["checks"], list[Check])


async def test_the_api_tells_the_worst(tmp_path: Path) -> None:
    async def doctor() -> list[Check]:
        return [ok("disk", "space", "much"), warn("views", "lag", "far", "wait", "behind")]

    async with bench(tmp_path) as api:
        assert isinstance(api, Bench)
        assert (await api.call("GET", "/v1/doctor", status=200)) == {"state": "ok", "checks": []}
    async with bench(tmp_path / "b", doctor=doctor) as api:
        answer = await api.call("GET", "/v1/doctor", status=200)
        assert (answer["state"], len(answer["checks"])) == ("warn", 2)


def test_the_command_says_what_it_can_where_no_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRUEUP_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("TRUEUP_SERVER", raising=False)
    code = run(["doctor"])
    text = capsys.readouterr().out
    assert "no server answers" in text
    assert "kubectl" in text
    assert "what to do:" in text
    assert code == (1 if "\nfail " in text else 0)
    run(["doctor", "-o", "json"])
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert {check["area"] for check in shown["checks"]} >= {"server", "disk", "renderer"}
    bad = "postgresql://u:s3cr3t@127.0.0.1:1/x"
    assert run(["doctor", "--database-url", bad]) == 1
    out, err = capsys.readouterr()
    assert "cannot be reached" in out
    assert "s3cr3t" not in out + err
