"""The commands, as a person or a script meets them: output, exit codes, what is remembered."""

from __future__ import annotations

import io
import json
import re
import stat
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from engine.telemetry import spans
from events.catalog import (
    ClusterLost,
    CorrectionApplied,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Facts,
    KindReadable,
    ReconcileHeld,
)
from events.event import START, StreamName
from events.vocabulary import (
    Action,
    Difference,
    DifferenceKind,
    ObjectRef,
    Outcome,
    Result,
    Verb,
)
from tests.integration.cli.conftest import Trueup
from tests.serving import SHA, Bench

pytestmark = pytest.mark.anyio


def write(folder: Path, name: str, *resources: dict[str, Any]) -> Path:
    path = folder / name
    path.write_text(yaml.safe_dump_all(resources), "utf-8")
    return path


def without_times(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", text)
    return re.sub(r"\b\d+s\b", "0s", text)


async def test_apply_tells_what_each_came_to_and_where(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    folder = tmp_path / "declared"
    folder.mkdir()
    write(folder, "a.yaml", api.repository(), api.cluster())
    write(folder, "b.yml", api.application())
    (folder / "README.md").write_text("not: [yaml")
    done = await trueup("apply", "-f", str(folder))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "repository/shop created  (position 2)",
        "cluster/dev created  (position 3)",
        "application/shop created  (position 4)",
    ]
    done = await trueup("apply", "-f", str(folder / "a.yaml"), "-f", str(folder / "b.yml"))
    assert done.out.count("unchanged") == 3


async def test_apply_reads_standard_input_and_answers_in_json(
    api: Bench, trueup: Trueup, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = yaml.safe_dump(api.repository()).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    done = await trueup("apply", "-f", "-", "-o", "json")
    assert json.loads(done.out)["results"][0]["result"] == "created"


async def test_apply_refuses_bad_files_with_place_field_and_hint(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "apiVersion: trueup.dev/v1\nkind: Application\nmetadata: {name: shop}\nspec:\n"
        "  source: {repository: shop}\n  targets: {clusters: [dev]}\n  sync: {selfheal: true}\n"
    )
    done = await trueup("apply", "-f", str(bad))
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines() == [
        "error: nothing was applied: 1 problem",
        f"  {bad}:7: spec.sync.selfheal unknown field (did you mean selfHeal?)",
    ]
    assert await api.log.head() == 1


async def test_what_the_server_refuses_is_placed_in_the_files_too(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    outside = api.cluster("dev")
    outside["spec"]["kubeconfig"] = "/etc/kubeconfig"
    path = write(tmp_path, "x.yaml", outside, api.application())
    done = await trueup("apply", "-f", str(path))
    assert done.code == 2
    lines = done.err.splitlines()
    assert lines[0] == "error: nothing was applied: 2 problems"
    assert lines[1].startswith(f"  {path}:7: spec.kubeconfig /etc/kubeconfig lies below none")
    assert re.match(rf"  {path}:\d+: spec.source.repository there is no Repository shop", lines[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("apply", "-f", "no/such"), "there is no file or folder no/such"),
        (("apply", "-f", "."), "there is no file ending in .yaml"),
        (("get", "target", "shop@dev", "-o", "xml"), "Invalid value"),
        (("get", "tagrets"), "did you mean targets?"),
        (("aply",), "apply"),
        (("sync", "shop@dev"), "--reason"),
        (("sync", "cluster/dev", "--reason", "x"), "neither a target"),
        (("delete", "shop@dev"), "name one repository"),
        (("describe", "clusters"), "name one thing"),
        (("wait", "shop", "--timeout", "soon"), "not a duration"),
    ],
)
async def test_wrong_usage_ends_with_2_and_says_why(
    api: Bench,
    trueup: Trueup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    done = await trueup(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert message in done.err.replace("\n", " ")


async def test_tables_fit_80_columns(api: Bench, trueup: Trueup, terminal: None) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    held = ReconcileHeld("not-ours", "ConfigMap/web belongs to helm: adopt it, or remove it first")
    await api.tell("target/default/shop@prod", held)
    await api.tell("cluster/default/prod", ClusterLost("unreachable", "connection refused"))
    golden = """\
TARGET     SYNC    HEALTH   REVISION    REASON
shop@dev   synced  healthy  5ca1ab1e5c
shop@prod  held    healthy  5ca1ab1e5c  ConfigMap/web belongs to helm: adopt it…
"""
    done = await trueup("get", "targets")
    assert done.out == golden
    assert (
        (await trueup("get", "applications")).out
        == """\
APPLICATION  SYNC  TARGETS  HEALTH   RENDERED    SOURCE
shop         held  1/2      healthy  5ca1ab1e5c  shop:deploy
"""
    )
    assert (
        without_times((await trueup("get", "clusters")).out)
        == """\
CLUSTER  STATE      VERSION  SINCE  LABELS
dev      connected  v1.36.0  0s
prod     lost       v1.36.0  0s
"""
    )
    assert (
        without_times((await trueup("get", "repositories")).out)
        == """\
REPOSITORY  REF   COMMIT      SINCE  STATE
shop        main  5ca1ab1e5c  0s     ok
"""
    )
    for kind in ("targets", "applications", "clusters", "repositories"):
        wide = (await trueup("get", kind, "-o", "wide")).out
        assert "POSITION" in wide
        assert "…" not in wide


async def test_the_past_is_shown_as_it_was(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    then = str(await api.log.head())
    await api.tell("target/default/shop@dev", ReconcileHeld("manual", "1 objects differ"))
    assert "held" in (await trueup("get", "targets")).out
    for command in (
        ("get", "targets"),
        ("get", "shop@dev"),
        ("describe", "shop@dev"),
        ("diff", "shop@dev"),
        ("diff", "shop"),
        ("timeline", "shop@dev"),
        ("timeline",),
    ):
        done = await trueup(*command, "--at", then)
        assert (done.code, done.err) == (0, "")
        assert done.out
        assert "held" not in done.out.lower()
        assert "1 objects differ" not in done.out
    assert "shop@dev" in (await trueup("get", "targets", "--at", "0s ago")).out
    refused = await trueup("get", "targets", "--at", "yesterday")
    assert refused.code == 2
    assert "a position, a time such as" in refused.err.replace("\n", " ")
    follows = await trueup("timeline", "--follow", "--at", then)
    assert follows.code == 2


async def test_a_plan_is_shown_approved_and_a_rollback_said_and_lifted(
    api: Bench, trueup: Trueup
) -> None:
    await api.declare_shop()
    await api.roll_out()
    done = await trueup("plan", "shop@dev")
    assert (done.code, done.out) == (0, "shop@dev: nothing to do\n")
    expired = await trueup("approve", "shop@dev", "sha256:" + "0" * 64, "-m", "x")
    assert expired.code == 2
    assert "trueup plan shop@dev" in expired.err.replace("\n", " ")
    back = await trueup("rollback", "shop@dev", "--to", SHA[:7], "--reason", "incident 7")
    assert (back.code, back.err) == (0, "")
    assert f"shop@dev goes back to {SHA[:12]}" in back.out
    assert "incident 7" in (await trueup("describe", "shop@dev")).out
    assert f"rolled back to {SHA[:10]}" in (await trueup("timeline", "shop@dev")).out
    lifted = await trueup("rollback", "shop@dev", "--lift", "--reason", "fixed")
    assert "shop@dev follows commits again" in lifted.out
    for words in (
        ("rollback", "shop@dev", "--reason", "x"),
        ("rollback", "shop@dev", "--reason", "x", "--lift", "--to", SHA[:7]),
        ("rollback", "shop", "--reason", "x", "--lift"),
        ("approve", "shop@dev", "--reason", "x"),
    ):
        assert (await trueup(*words)).code == 2
    asked = await trueup("sync", "shop@dev", "-m", "x", "--override-window", "--prune")
    assert "trueup approve TARGET --override" in asked.out
    assert (
        "deletions confirmed, sync windows overridden" in (await trueup("timeline", "shop@dev")).out
    )
    ends = await trueup("suspend", "shop@dev", "--for", "2h", "--reason", "load test")
    assert ends.code == 0
    assert "suspended until" in (await trueup("timeline", "shop@dev")).out
    assert (await trueup("suspend", "shop@dev", "--for", "soon", "--reason", "x")).code == 2


async def test_views_are_listed_with_how_far_they_are(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    head = await api.log.head()
    done = await trueup("views")
    assert done.code == 0
    assert done.out.splitlines()[0].split() == [
        "VIEW",
        "POSITION",
        "LAG",
        "DOCUMENTS",
        "PARKED",
        "ABOUT",
    ]
    assert f"the log is at {head}" in done.err
    shown = json.loads((await trueup("views", "-o", "json")).out)
    targets = next(item for item in shown["items"] if item["name"] == "targets")
    assert (targets["position"], targets["lag"], targets["parked"]) == (head, 0, [])


async def test_why_tells_every_guard_and_where_it_stands(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    fine = await trueup("why", "shop@dev")
    assert fine.code == 0, fine.out
    assert "->" not in fine.out
    await trueup("suspend", "shop@dev", "--for", "2h", "--reason", "load test")
    held = await trueup("why", "shop@dev")
    assert held.code == 1
    (stands,) = [line for line in held.out.splitlines() if "->" in line]
    assert "suspended" in stands
    assert "load test" in stands
    assert "until" in stands
    assert (await trueup("why", "shop")).code == 2


async def test_a_replay_counts_the_decisions_that_came_out_the_same(
    api: Bench, trueup: Trueup
) -> None:
    await api.declare_shop()
    await api.roll_out()
    done = await trueup("replay", "shop@dev")
    assert done.code == 0
    assert "decisions:" in done.out
    everything = json.loads((await trueup("replay", "-o", "json")).out)
    assert everything["differing"] == 0


async def test_machine_formats_carry_the_same_data(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop(["dev", "prod"])
    await api.roll_out(["dev", "prod"])
    as_json = json.loads((await trueup("get", "targets", "-o", "json")).out)["items"]
    as_lines = (await trueup("get", "targets", "-o", "jsonl")).out.splitlines()
    as_yaml = list(yaml.safe_load_all((await trueup("get", "targets", "-o", "yaml")).out))
    for items in ([json.loads(line) for line in as_lines], as_yaml):
        assert [item["target"] for item in items] == ["shop@dev", "shop@prod"]
    assert as_json[0]["revision"] == SHA
    one = json.loads((await trueup("get", "application", "shop", "-o", "json")).out)
    assert one["resource"]["spec"]["source"]["path"] == "deploy"
    assert json.loads((await trueup("get", "app/shop", "-o", "json")).out) == one
    assert json.loads((await trueup("get", "shop@dev", "-o", "json")).out)["sync"] == "synced"


async def test_nothing_from_outside_steers_the_terminal(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    await api.tell("target/default/shop@dev", ReconcileHeld("not-ours", evil))
    for arguments in (
        ("get", "targets"),
        ("get", "targets", "-o", "json"),
        ("get", "targets", "-o", "yaml"),
        ("describe", "shop@dev"),
        ("timeline", "shop@dev"),
        ("events", "-o", "wide"),
        ("events", "-o", "jsonl"),
        ("wait", "shop@dev", "--timeout", "0s"),
    ):
        done = await trueup(*arguments)
        for char in "\x1b\x07\u202e\x9b":
            assert char not in done.out + done.err, arguments
        assert "owned" in done.out + done.err


async def test_describe_shows_a_target_whole(api: Bench, trueup: Trueup, terminal: None) -> None:
    await api.declare_shop()
    await api.roll_out()
    out = (await trueup("describe", "shop@dev")).out
    assert re.search(r"^Sync: +synced$", out, re.MULTILINE)
    assert re.search(rf"^Revision: +{SHA}$", out, re.MULTILINE)
    assert "Recent events" in out
    assert "shop@dev: synced to 5ca1ab1e5c" in out
    application = (await trueup("describe", "application", "shop")).out
    assert "  path: deploy" in application
    assert "shop@dev" in application
    cluster = (await trueup("describe", "cluster/dev")).out
    assert "v1.36.0" in cluster
    repository = (await trueup("describe", "repo/shop")).out
    assert re.search(r"^Applications: +shop$", repository, re.MULTILINE)


async def test_diff_leaves_with_0_1_and_more(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    same = await trueup("diff", "shop@dev")
    assert (same.code, same.out) == (0, "shop@dev: no difference\n")
    await api.render("ConfigMap")
    unknown = await trueup("diff", "shop")
    assert unknown.code == 2
    assert "v1/ConfigMap: the cluster has not shown it yet" in unknown.out
    await api.tell("cluster/default/dev", KindReadable("v1", "ConfigMap", True))
    different = await trueup("diff", "shop")
    assert different.code == 1
    assert different.out == "shop@dev: 1 difference\n  - default/ConfigMap/web is missing\n"
    missing = await trueup("diff", "shpo")
    assert missing.code == 2
    assert "did you mean shop?" in missing.err


async def test_sync_and_wait_do_not_succeed_on_what_was_before(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    assert (await trueup("wait", "shop@dev")).code == 0
    done = await trueup("sync", "shop@dev", "--reason", "a hotfix")
    position = await api.log.head()
    assert done.out == f"shop@dev sync requested  (position {position})\n"
    late = await trueup("wait", "shop@dev", "--for", "synced", "--timeout", "100ms")
    assert late.code == 1
    assert "not so within 100ms: shop@dev is pending: a sync was requested" in late.err
    await api.answer_sync(position)
    done = await trueup("wait", "shop@dev", "--for", "healthy", "--timeout", "5s")
    assert done.code == 0
    assert "shop@dev" in done.out


async def test_wait_waits_past_the_callers_last_write_of_any_kind(
    api: Bench, trueup: Trueup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    satisfied = __import__("engine.http.wait", fromlist=["satisfied"]).satisfied

    def noting(status: Any, wanted: str, revision: str, after: int) -> bool:
        asked.append(after)
        return bool(satisfied(status, wanted, revision, after))

    monkeypatch.setattr("engine.http.wait.satisfied", noting)
    await api.declare_shop()
    await api.roll_out()
    path = write(tmp_path, "c.yaml", api.cluster("other"))
    await trueup("apply", "-f", str(path))
    position = await api.log.head()
    assert (await trueup("wait", "shop")).code == 0
    assert (await trueup("wait", "shop", "--after", "3")).code == 0
    assert set(asked) == {position, 3}
    (remembered,) = (tmp_path / "state" / "trueup" / "last-write").iterdir()
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600


async def test_a_wait_in_vain_tells_the_reason(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    await api.tell("target/default/shop@dev", ReconcileHeld("not-ours", "web belongs to helm"))
    done = await trueup("wait", "shop@dev", "--timeout", "50ms")
    assert done.code == 1
    assert "shop@dev is held: web belongs to helm" in done.err
    missing = await trueup("wait", "shop@dve", "--timeout", "50ms")
    assert missing.code == 2


async def test_suspend_and_resume_say_what_changed(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    done = await trueup("suspend", "shop@dev", "--reason", "a freeze")
    assert re.fullmatch(r"shop@dev suspended  \(position \d+\)\n", done.out)
    again = await trueup("suspend", "shop@dev", "--reason", "more")
    assert "already suspended by user:admin: a freeze" in again.out
    sync = await trueup("sync", "shop@dev", "--reason", "x")
    assert "suspended (a freeze)" in sync.err
    await trueup("resume", "shop@dev", "--reason", "over")
    refused = await trueup("resume", "shop@dev", "--reason", "over")
    assert refused.code == 2
    assert refused.err.splitlines() == [
        "error: shop@dev is not suspended",
        "hint: `trueup explain error not-suspended` tells more",
    ]


async def test_delete_takes_back(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    in_use = await trueup("delete", "repository/shop")
    assert in_use.code == 2
    assert "named by shop" in in_use.err
    done = await trueup("delete", "application", "shop", "--cascade", "--reason", "closing")
    assert re.fullmatch(
        r"application/shop withdrawn, its objects too  \(position \d+\)\n", done.out
    )
    (event,) = (await api.log.read(START, stream=StreamName("app/default/shop")))[-1:]
    assert json.loads(event.payload)["reason"] == "closing"


DEPLOYMENT = ObjectRef("apps/v1", "Deployment", "shop", "web")


async def test_the_timeline_fits_80_columns(api: Bench, trueup: Trueup, terminal: None) -> None:
    await api.declare_shop()
    await api.roll_out()
    why = "the reason is long, as reasons of people are, and so it takes more than one line of 80"
    await api.call("POST", "/v1/targets/default/shop@dev/sync", {"reason": why}, status=202)
    lines = (await trueup("timeline", "shop@dev")).out.splitlines()
    assert max(map(len, lines)) <= 80
    assert why in " ".join(line.strip() for line in lines)


async def test_the_timeline_tells_drift_field_by_field(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    drift = Difference(
        DifferenceKind.CHANGED, DEPLOYMENT, ".spec.replicas", 3, 5, "kubectl-edit", "Update"
    )
    detected = await api.tell("target/default/shop@dev", DriftDetected("case-1", (drift,), 2))
    action = Action(Verb.APPLY, DEPLOYMENT, "drift")
    planned = await api.tell(
        "target/default/shop@dev",
        CorrectionPlanned(SHA, Facts(detected), (action,), "drift", drift_case="case-1"),
    )
    result = Result(Verb.APPLY, DEPLOYMENT, Outcome.CHANGED)
    applied = await api.tell("target/default/shop@dev", CorrectionApplied(planned, (result,)))
    await api.tell("target/default/shop@dev", DriftResolved("case-1", "corrected", applied))
    await api.call(
        "POST", "/v1/targets/default/shop@dev/sync", {"reason": "to be sure"}, status=202
    )
    out = without_times((await trueup("timeline", "shop@dev", "-n", "5")).out)
    assert (
        out
        == f"""\
TIME shop@dev: drift: 3 differences that no commit explains [engine:test]
    ~ shop/Deployment/web .spec.replicas: 3 -> 5  by kubectl-edit
    and 2 more
TIME shop@dev: correction planned (drift): 1 action to 5ca1ab1e5c [engine:test]
    apply shop/Deployment/web (drift)
TIME shop@dev: correction of #{planned} done: 1 changed [engine:test]
    shop/Deployment/web changed
TIME shop@dev: drift ended: corrected by the correction at #{applied} [engine:test]
TIME shop@dev: sync requested: to be sure [user:admin]
"""
    )
    wide = (await trueup("timeline", "shop@dev", "-n", "1", "-o", "wide")).out
    assert f"#{applied + 2} shop@dev" in wide
    of_commit = (await trueup("timeline", SHA[:7], "-o", "jsonl")).out.splitlines()
    assert "CommitSeen" in {json.loads(line)["type"] for line in of_commit}
    everything = (await trueup("timeline")).out
    assert "token/admin: token made" in everything


async def test_events_are_listed_filtered_and_limited(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    lines = (await trueup("events", "--type", "CommitSeen", "-o", "jsonl")).out.splitlines()
    assert [json.loads(line)["payload"]["commit"] for line in lines] == [SHA]
    table = (await trueup("events", "--after", "0", "--limit", "2")).out
    assert without_times(table) == (
        "     1  TIME  TokenCreated          token/default/admin\n"
        "     2  TIME  Declared              repo/default/shop\n"
    )
    whole = json.loads((await trueup("events", "-o", "json")).out)["items"]
    assert len(whole) == await api.log.head()
    wrong = await trueup("events", "--type", "CommitSeem")
    assert (wrong.code, "did you mean CommitSeen?" in wrong.err) == (2, True)


async def test_following_goes_on_until_it_is_stopped(
    api: Bench, trueup: Trueup, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.cli.client import connect
    from engine.cli.connection import Connection

    await api.declare_shop()
    seen: list[int] = []
    async with connect(Connection()) as client:
        following = client.follow("/v1/events", {}, 2)
        with anyio.fail_after(10):
            async for event in following:
                seen.append(event["position"])
                if len(seen) == 2:
                    await api.tell("target/default/shop@dev", ReconcileHeld("a", "b"))
                if len(seen) == 3:
                    break
        await following.aclose()
    assert seen == [3, 4, 5]


async def test_tokens_are_made_listed_and_revoked(
    api: Bench, trueup: Trueup, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = await trueup("token", "create", "alice")
    token = done.out.strip()
    assert token.startswith("trueup_")
    assert token not in done.err
    monkeypatch.setenv("TRUEUP_TOKEN", token)
    assert "user:alice" in (await trueup("version")).out
    monkeypatch.delenv("TRUEUP_TOKEN")
    listed = (await trueup("token", "list")).out
    assert re.search(r"^alice +good", listed, re.MULTILINE)
    assert (await trueup("token", "revoke", "alice", "--reason", "left")).code == 0
    refused = await trueup("get", "targets", "--token", token)
    assert refused.code == 2
    assert "TRUEUP_TOKEN" in refused.err


async def test_rebuild_tells_progress_beside_and_the_end_as_data(
    api: Bench, trueup: Trueup
) -> None:
    done = await trueup("rebuild", "targets")
    assert done.out == "targets rebuilt: 7 documents at 2, as before\n"
    assert done.err == "targets: 1 of 2 events (50 %)\n"
    wrong = await trueup("rebuild", "tagrets")
    assert (wrong.code, "did you mean targets?" in wrong.err) == (2, True)


async def test_version_works_without_a_server(api: Bench, trueup: Trueup, tmp_path: Path) -> None:
    with_server = json.loads((await trueup("version", "-o", "json")).out)
    assert with_server["server"]["version"] == "0.1.0-test"
    (tmp_path / "data" / "server.json").unlink()
    without = await trueup("version")
    assert without.code == 0
    assert "trueup run" not in without.out
    assert "no server" in without.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_knows_the_commands(trueup: Trueup, shell: str) -> None:
    done = await trueup("completion", shell)
    assert done.code == 0
    for command in ("apply", "timeline", "token", "suspend"):
        assert command in done.out


async def test_without_a_server_it_is_told_how_to_start_one(
    api: Bench, trueup: Trueup, tmp_path: Path
) -> None:
    away = await trueup("get", "targets", "--server", "http://127.0.0.1:9", "--token", "x")
    assert away.code == 2
    assert "no server answers at http://127.0.0.1:9" in away.err
    assert "trueup run" in away.err
    (tmp_path / "data" / "server.json").unlink()
    none = await trueup("get", "targets")
    assert none.code == 2
    assert "no server is known" in none.err
    assert "trueup run" in none.err


async def test_a_token_never_goes_in_the_clear_or_to_another_server(
    api: Bench, trueup: Trueup
) -> None:
    clear = await trueup("get", "targets", "--server", "http://trueup.example.org")
    assert (clear.code, "in the clear" in clear.err) == (2, True)
    other = await trueup("get", "targets", "--server", "http://127.0.0.1:9")
    assert (other.code, "no token for" in other.err) == (2, True)
    odd = await trueup("get", "targets", "--server", "http://user:pw@127.0.0.1:9")
    assert odd.code == 2


async def test_misspelt_variables_are_refused(
    api: Bench, trueup: Trueup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUEUP_SERVRE", "x")
    done = await trueup("get", "targets")
    assert (done.code, "did you mean TRUEUP_SERVER?" in done.err) == (2, True)


async def test_projects_are_chosen_by_flag_and_variable(
    api: Bench, trueup: Trueup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "r.yaml", api.repository())
    await trueup("apply", "-f", str(path), "-p", "web")
    assert "shop" in (await trueup("get", "repositories", "-p", "web")).out
    empty = await trueup("get", "repositories")
    assert "there are no repositories in project default" in empty.err
    monkeypatch.setenv("TRUEUP_PROJECT", "web")
    assert "shop" in (await trueup("get", "repositories")).out


async def test_login_prints_a_link_and_nothing_else_to_standard_output(
    api: Bench, trueup: Trueup
) -> None:
    done = await trueup("login")
    assert done.code == 0
    link = done.out.strip()
    assert link.startswith(f"{api.url}/login?code=")
    assert "once" in done.err
    assert link not in done.err
    async with api.session.get(link, headers={"Accept": "text/html"}) as answer:
        assert "Log in as user:admin" in await answer.text()
    told = json.loads((await trueup("login", "-o", "json")).out)
    assert told["url"] != link
    assert not [event for event in await api.log.read(START) if b"code=" in event.payload]


async def test_what_opentelemetry_is_asked_for_and_cannot_do_keeps_the_engine_from_starting(
    trueup: Trueup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    done = await trueup("run")
    assert done.code != 0
    assert "OTEL_TRACES_EXPORTER" in done.err
    assert "otlp" in done.err


async def test_a_command_goes_on_with_the_trace_of_whoever_started_it(
    trueup: Trueup, api: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans.use(provider.get_tracer("test"))
    try:
        monkeypatch.setenv("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        assert (await trueup("version")).code == 0
    finally:
        spans.use(None)
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /v1/version"
    assert span.parent is not None
    assert span.parent.span_id == 0xB7AD6B7169203331


async def test_drift_is_listed_accepted_and_taken_over(api: Bench, trueup: Trueup) -> None:
    await api.declare_shop()
    await api.roll_out()
    none = await trueup("drift", "shop@dev")
    assert (none.code, none.out) == (0, "")
    ref = ObjectRef("v1", "ConfigMap", "shop", "settings")
    found = Difference(DifferenceKind.CHANGED, ref, ".data.colour", "blue", "red", "eve")
    await api.tell("target/default/shop@dev", DriftDetected("default/shop@dev#1", (found,)))
    listed = await trueup("drift")
    assert "shop@dev#1" in listed.out
    assert "eve" in listed.out
    whole = await trueup("drift", "shop@dev")
    assert "shop/ConfigMap/settings .data.colour" in whole.out
    done = await trueup("accept", "shop@dev", "--for", "2h", "-m", "incident 7")
    assert (done.code, done.out.split("  ")[0]) == (0, "shop@dev drift accepted")
    assert "drift accepted until" in (await trueup("timeline", "shop@dev")).out
    ended = await trueup("accept", "shop@dev", "--end", "-m", "over")
    assert "accepts no drift any more" in ended.out
    taken = await trueup("adopt", "shop@dev", "--manager", "script", "-m", "moved from Helm")
    assert "takes over what is there" in taken.out
    assert "take-over requested, also from script" in (await trueup("timeline", "shop@dev")).out
    for words in (
        ("accept", "shop@dev", "-m", "x", "--for", "1h", "--until", "2026-01-01"),
        ("accept", "shop@dev", "-m", "x", "--end", "--for", "1h"),
        ("accept", "shop@dev", "-m", "x", "--until", "2001-01-01"),
        ("accept", "shop", "-m", "x"),
        ("adopt", "shop", "-m", "x"),
    ):
        assert (await trueup(*words)).code == 2
