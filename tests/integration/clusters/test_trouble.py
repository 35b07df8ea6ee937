"""Faults of one kind and of a whole cluster: what is unknown is said, and never taken for empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from engine.objects.ownership import MANAGER
from engine.ports import Answer, Owner
from engine.simulator.admin import Control, Fault
from engine.simulator.cluster import Delays
from engine.simulator.server import Simulator
from events.catalog import (
    ClusterConnected,
    ClusterLost,
    KindReadable,
    KindUnreadable,
    ObservationConfirmed,
    ObservationGap,
)
from events.vocabulary import Outcome, Presence
from tests.clusters import World, eventually, facts_of, hand_of, is_absent, observed

pytestmark = pytest.mark.anyio
CONFIGMAP, SECRET = ("v1", "ConfigMap"), ("v1", "Secret")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    delays = Delays(ready=0.02, established=0.02, namespace=0.02)
    async with Simulator(["prod"], delays=delays) as simulator:
        yield simulator


@pytest.fixture
async def world(simulator: Simulator, tmp_path: Path) -> AsyncIterator[World]:
    kubeconfig = simulator.kubeconfig(tmp_path / "config")
    async with hand_of(kubeconfig, "prod", tmp_path, "default") as hand:
        yield World(kubeconfig, "prod", hand, tmp_path)


@pytest.fixture
def control(simulator: Simulator) -> Control:
    return simulator.control("prod")


async def test_a_kind_that_may_not_be_listed_is_unknown_and_holds_up_no_other(
    world: World, control: Control
) -> None:
    async with world.running(CONFIGMAP, SECRET):
        await world.apply(world.configmap("one", a="1"), force=False)
    control.add(Fault("forbid", verbs=["list"], resource="configmaps"))
    async with world.running(CONFIGMAP, SECRET) as cluster:
        assert cluster.ready
        await world.until(lambda facts: any(isinstance(f, ObservationConfirmed) for f in facts))
        # Several more tries are made meanwhile, and are no events.
        many = control.requests[("list", "configmaps")] + 3
        await eventually(lambda: control.requests[("list", "configmaps")] >= many)
        facts = await world.facts()
        found = [f for f in facts if isinstance(f, KindUnreadable)]
        assert [(f.kind, f.code) for f in found] == [("ConfigMap", "forbidden")]
        assert observed(facts) == [], "what cannot be listed is not gone"
        control.clear()
        await world.until(
            lambda facts: (
                [f.kind for f in facts if isinstance(f, KindReadable)].count("ConfigMap") == 2
            )
        )
        assert observed(await world.facts()) == []


async def test_a_kind_that_may_not_be_watched_is_unreadable_and_said_once(
    world: World, control: Control
) -> None:
    control.add(Fault("forbid", verbs=["watch"], resource="configmaps"))
    async with world.running(CONFIGMAP):
        await eventually(lambda: control.requests[("watch", "configmaps")] >= 4)
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)
        assert said.code == "forbidden"


async def test_a_passing_failure_of_a_list_is_no_event(world: World, control: Control) -> None:
    control.add(Fault("fail", verbs=["list"], resource="configmaps", code=503, times=2))
    async with world.running(CONFIGMAP):
        (said,) = await world.facts()
        assert isinstance(said, KindReadable)


async def test_a_lasting_failure_of_a_list_makes_the_kind_unreadable(
    world: World, control: Control
) -> None:
    control.add(Fault("fail", verbs=["list"], resource="configmaps", code=500))
    async with world.running(CONFIGMAP):
        (said,) = await world.facts()
        assert isinstance(said, KindUnreadable)
        assert said.code == "unavailable"


async def test_a_list_that_hangs_makes_only_its_kind_unreadable(
    world: World, control: Control
) -> None:
    control.add(Fault("hang", verbs=["list"], resource="configmaps"))
    async with world.running(CONFIGMAP, SECRET, request_timeout=0.1):
        facts = await world.facts()
        states = {f.kind: type(f) for f in facts if isinstance(f, KindReadable | KindUnreadable)}
        assert states == {"ConfigMap": KindUnreadable, "Secret": KindReadable}


async def test_a_page_that_fails_midway_says_nothing_is_gone(
    world: World, control: Control
) -> None:
    async with world.running():
        for name in "abcd":
            await world.apply(world.configmap(name, a="1"), force=False)
    # The first page comes, the second one does not.
    control.add(Fault("delay", verbs=["list"], resource="configmaps", times=1))
    control.add(Fault("fail", verbs=["list"], resource="configmaps", code=500))
    async with world.running(page=2):
        facts = await world.facts()
        assert isinstance(facts[-1], KindUnreadable)
        assert observed(facts) == []


async def test_lists_are_read_page_by_page(world: World, control: Control) -> None:
    async with world.running():
        for name in "abcde":
            await world.apply(world.configmap(name, a="1"), force=False)
    world.answers.clear()
    before = control.requests[("list", "configmaps")]
    async with world.running(page=2):
        seen = observed(await world.facts())
    assert sorted(o.ref.name for o in seen) == list("abcde")
    assert control.requests[("list", "configmaps")] - before == 3


async def test_a_page_over_the_limit_is_asked_for_in_smaller_ones(world: World) -> None:
    async with world.running():
        for name in "abcdefgh":
            await world.apply(world.configmap(name, a="x" * 1000), force=False)
    world.answers.clear()
    async with world.running(page_bytes=6000):
        seen = observed(await world.facts())
    assert sorted(o.ref.name for o in seen) == list("abcdefgh")


async def test_a_dropped_watch_is_resumed_without_a_gap(world: World, simulator: Simulator) -> None:
    store = simulator.cluster("prod").store
    async with world.running():
        await world.apply(world.configmap("one", a="1"), force=False)
        for value in "234":
            store.drop_watches()
            await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": value}})
        await world.fence()
        facts = await world.facts()
        assert [(await world.body(o))["data"]["a"] for o in observed(facts)] == ["2", "3", "4"]
        assert not [f for f in facts if isinstance(f, ObservationGap)]


async def test_history_that_is_gone_is_a_gap_and_what_changed_is_found(
    world: World, simulator: Simulator, control: Control
) -> None:
    store = simulator.cluster("prod").store
    async with world.running():
        await world.apply(world.configmap("one", a="1"), force=False)
        await world.apply(world.configmap("two", a="1"), force=False)
        block = control.add(Fault("fail", verbs=["watch"], resource="configmaps", code=503))
        store.drop_watches()
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "2"}})
        await world.hand.send("DELETE", world.hand.path("two"))
        store.expire()
        control.clear(block)
        await world.seen("one")
        await world.seen("two", is_absent)
        gaps = [f for f in await world.facts() if isinstance(f, ObservationGap)]
        assert [gap.kind for gap in gaps] == ["v1/ConfigMap"]


async def test_a_lost_cluster_is_said_once_and_found_again(tmp_path: Path) -> None:
    simulator = Simulator(["prod"])
    await simulator.start()
    port = int(simulator.url.rpartition(":")[2])
    kubeconfig = simulator.kubeconfig(tmp_path / "config")
    async with hand_of(kubeconfig, "prod", tmp_path, "default") as hand:
        world = World(kubeconfig, "prod", hand, tmp_path)
        async with world.running() as cluster:
            await world.apply(world.configmap("one", a="1"), force=False)
            await simulator.stop()
            lost = await world.until(lambda facts: [f for f in facts if isinstance(f, ClusterLost)])
            assert (len(lost), lost[0].code) == (1, "unreachable")
            assert not cluster.ready
            answer = await world.apply(world.configmap("one", a="2"))
            assert answer.outcome is Outcome.UNREACHABLE
            await simulator.start(port=port)
            try:
                await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
                await world.seen("one")
                await cluster.until_ready()
                facts = await facts_of(world.log)
                connected = [f for f in facts if isinstance(f, ClusterConnected)]
                assert len(connected) == 2
                assert connected[1].server_version.startswith("v1.")
                assert len([f for f in facts if isinstance(f, ClusterLost)]) == 1
                assert not [f for f in facts if isinstance(f, KindUnreadable)]
            finally:
                await simulator.stop()


async def test_objects_that_cannot_be_looked_at_are_one_line_of_the_log(
    world: World, control: Control, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="engine.clusters.observe")
    names = ("one", "two", "three")
    async with world.running(CONFIGMAP):
        for name in names:
            await world.apply(world.configmap(name))
        control.add(Fault("fail", verbs=["get"], resource="configmaps", code=500))
        for name in names:
            await world.hand.send("DELETE", world.hand.path(name))
        said = "3 objects of test cannot be looked at"
        await eventually(lambda: said in caplog.text)
    assert not any(record.message.startswith("ConfigMap") for record in caplog.records)


async def test_a_refused_token_is_the_cluster_lost(world: World, simulator: Simulator) -> None:
    simulator._token = "changed"
    async with world.running(wait=False) as cluster:
        lost = await world.until(lambda facts: [f for f in facts if isinstance(f, ClusterLost)])
        assert lost[0].code == "unauthorised"
        assert not cluster.ready


async def test_a_token_that_a_deed_finds_refused_is_the_cluster_lost_before_the_next_probe(
    world: World, simulator: Simulator
) -> None:
    async with world.running(probe_interval=3600.0):
        first = await world.apply(world.configmap("one", a="1"), force=False)
        simulator._token = "changed"
        answer = await world.apply(world.configmap("one", a="2"), after=first)
        assert answer.outcome is Outcome.UNREACHABLE
        lost = await world.until(lambda facts: [f for f in facts if isinstance(f, ClusterLost)])
        assert lost[0].code == "unauthorised"


async def test_an_object_that_the_watch_lacks_is_made_without_a_look(
    world: World, control: Control
) -> None:
    async with world.running():
        await world.fence()
        control.requests.clear()
        made = await world.apply(world.configmap("one", a="1"), force=False)
        assert made.outcome is Outcome.CREATED
        assert control.requests == {("patch", "configmaps"): 1}


async def test_an_object_whose_deed_had_no_answer_is_looked_at_first(
    world: World, control: Control
) -> None:
    async with world.running(request_timeout=0.3):
        await world.fence()
        control.add(Fault("hang", verbs=["patch"], name="one", times=1))
        lost = await world.apply(world.configmap("one", a="1"), force=False)
        assert lost.outcome is Outcome.UNREACHABLE
        control.requests.clear()
        made = await world.apply(world.configmap("one", a="1"), force=False)
        assert made.outcome.is_success
        assert control.requests["get", "configmaps"] == 1


async def test_an_object_of_another_log_is_not_overwritten_for_want_of_a_look(
    world: World,
) -> None:
    ours = world.owner
    world.owner = Owner("f" * 32, "default", "blog")
    theirs, apply = world.configmap("one", a="1"), "application/apply-patch+yaml"
    path = world.hand.path("one")
    await world.hand.send("PATCH", path, theirs, manager=MANAGER, content_type=apply)
    world.owner = ours
    async with world.running():
        answer = await world.apply(world.configmap("one", b="1"), force=False)
        assert answer.outcome is Outcome.CONFLICT
        live = await world.hand.send("GET", path)
        assert live["data"] == {"a": "1"}


async def test_an_event_of_a_deed_in_flight_waits_for_its_answer(
    world: World, control: Control
) -> None:
    async with world.running():
        first = await world.apply(world.configmap("one", a="1"), force=False)
        control.add(Fault("delay", verbs=["patch"], name="one", times=1, seconds=0.3, after=True))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_apply, world, first)
            # The write happens at once, its event comes at once, and its answer late.
            with anyio.fail_after(10):
                live = {"data": {"a": "1"}}
                while live["data"]["a"] != "2":
                    live = await world.hand.send("GET", world.hand.path("one"))
            await world.fence()
        await world.fence()
        assert observed(await world.facts()) == []


async def _apply(world: World, after: Answer) -> None:
    answer = await world.apply(world.configmap("one", a="2"), after=after)
    assert answer.outcome is Outcome.CHANGED


async def test_a_change_by_hand_while_a_deed_is_in_flight_is_seen_afterwards(
    world: World, control: Control
) -> None:
    async with world.running():
        first = await world.apply(world.configmap("one", a="1"), force=False)
        control.add(Fault("delay", verbs=["patch"], name="one", times=1, seconds=0.3, after=True))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_apply, world, first)
            with anyio.fail_after(10):
                live = {"data": {"a": "1"}}
                while live["data"]["a"] != "2":
                    live = await world.hand.send("GET", world.hand.path("one"))
            await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
        seen = await world.seen("one")
        assert (await world.body(seen))["data"] == {"a": "9"}


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        # Sent once more at once, as after a connection that was idle too long.
        ("cut", Outcome.STALE),
        ("hang", Outcome.UNREACHABLE),
    ],
)
async def test_an_apply_whose_answer_is_lost_is_looked_at_and_may_be_sent_again(
    world: World, control: Control, action: Any, outcome: Outcome
) -> None:
    async with world.running(request_timeout=0.3):
        first = await world.apply(world.configmap("one", a="1"), force=False)
        control.add(Fault(action, verbs=["patch"], name="one", times=1, after=True))
        lost = await world.apply(world.configmap("one", a="2"), after=first)
        assert lost.outcome is outcome
        seen = await world.seen("one")
        again = await world.apply(
            world.configmap("one", a="2"),
            uid=seen.uid,
            resource_version=seen.resource_version,
            observed=seen.digest,
        )
        assert again.outcome is Outcome.UNCHANGED
        assert again.kept


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (Fault("forbid", verbs=["patch"]), Outcome.FORBIDDEN),
        (Fault("fail", verbs=["patch"], code=429, retry_after=7), Outcome.FAILED),
        (Fault("fail", verbs=["patch"], code=503), Outcome.FAILED),
        (Fault("hang", verbs=["patch"]), Outcome.UNREACHABLE),
    ],
)
async def test_a_refused_apply_has_its_outcome(
    world: World, control: Control, fault: Fault, outcome: Outcome
) -> None:
    async with world.running(request_timeout=0.3):
        control.add(fault)
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is outcome
        assert answer.message
        assert answer.retry_after == (7.0 if fault.retry_after else None)


async def test_an_apply_that_is_too_much_for_now_is_sent_again_when_the_server_said(
    world: World, control: Control
) -> None:
    async with world.running():
        control.add(Fault("fail", verbs=["patch"], code=429, retry_after=1, times=2))
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is Outcome.CREATED


async def test_a_deed_goes_on_when_only_the_status_has_moved_on_unseen(
    world: World, simulator: Simulator, control: Control
) -> None:
    body = world.ours(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        "disk",
    )
    path = world.hand.path("disk", "persistentvolumeclaims")
    async with world.running(("v1", "PersistentVolumeClaim"), CONFIGMAP):
        applied = await world.apply(body, force=False)
        seen = await world.seen("disk", lambda o: o.health == "healthy")
        # The watch is held up, so that the reader's version is an old one.
        control.add(Fault("hang", verbs=["watch"], resource="persistentvolumeclaims"))
        simulator.cluster("prod").store.drop_watches()
        status = {"status": {"capacity": {"storage": "2Gi"}}}
        await world.hand.send("PATCH", f"{path}/status", status, manager="volume")
        again = await world.apply(
            body, uid=seen.uid, resource_version=seen.resource_version, observed=seen.digest
        )
        assert again.outcome is Outcome.UNCHANGED
        assert again.resource_version != seen.resource_version
        assert applied.kept == again.kept
        await world.hand.send("PATCH", f"{path}/status", status, manager="volume")
        live = await world.hand.send("GET", path)
        assert again.observed is not None
        gone = await world.cluster.delete(
            again.observed.ref, again.uid, again.resource_version, again.observed.digest
        )
        assert gone.outcome is Outcome.DELETED
        assert live["metadata"]["uid"] == gone.uid


async def test_a_failing_group_makes_only_its_own_kinds_unknown(world: World) -> None:
    service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.example.com"},
        "spec": {
            "group": "metrics.example.com",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "nothing", "namespace": "default"},
        },
    }
    await world.hand.send("POST", "/apis/apiregistration.k8s.io/v1/apiservices", service)
    async with world.running(("metrics.example.com/v1beta1", "Metric"), CONFIGMAP):
        facts = await world.facts()
        states = {
            f.kind: f.code if isinstance(f, KindUnreadable) else ""
            for f in facts
            if isinstance(f, KindReadable | KindUnreadable)
        }
        assert states == {"Metric": "group-unavailable", "ConfigMap": ""}


async def test_a_kind_wanted_later_is_listed_and_one_no_longer_wanted_is_left(
    world: World, simulator: Simulator
) -> None:
    async with world.running(CONFIGMAP) as cluster:
        await world.apply(world.configmap("one", a="1"), force=False)
        await cluster.want("default/blog", [SECRET])
        assert not cluster.ready
        with anyio.fail_after(10):
            await cluster.until_ready()
            await cluster.want("default/shop", ())
            await cluster.want("default/other", [SECRET])
        await eventually(lambda: simulator.cluster("prod").store.watching() == 1)
        await world.hand.send("DELETE", world.hand.path("one"))
        await cluster.want("default/shop", [CONFIGMAP])
        with anyio.fail_after(10):
            await cluster.until_ready()
        (seen,) = observed(await world.facts())
        assert seen.presence is Presence.ABSENT


async def test_a_store_that_was_lost_while_the_watch_was_broken_is_found_out_at_once(
    world: World, simulator: Simulator
) -> None:
    cluster = simulator.cluster("prod")
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        for value in "23456":
            await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": value}})
        await world.fence()
        # As when the server comes up again within moments, from an earlier state.
        cluster.store.version = int(applied.resource_version)
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "7"}})
        cluster.store.drop_watches()
        await world.until(lambda facts: any(isinstance(f, ObservationGap) for f in facts))
        await world.fence("later")
        bodies = [await world.body(seen) for seen in observed(await world.facts(), "one")]
        assert bodies[-1]["data"]["a"] == "7"


async def test_the_store_put_back_from_a_backup_is_a_gap_and_what_is_there_counts(
    world: World, simulator: Simulator
) -> None:
    store = simulator.cluster("prod").store
    async with world.running(relist_interval=0.3):
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        for value in "23456":
            await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": value}})
        await world.fence()
        # As after a restore: an earlier version of the same object, and an earlier count.
        store.version = int(applied.resource_version)
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "7"}})
        await world.until(lambda facts: any(isinstance(f, ObservationGap) for f in facts))
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "8"}})
        await world.fence("later")
        bodies = [await world.body(seen) for seen in observed(await world.facts(), "one")]
        assert [body["data"]["a"] for body in bodies[-2:]] == ["7", "8"]


async def test_what_the_server_reads_differently_is_rebased_and_not_drift(world: World) -> None:
    applied = await _kept_otherwise(world)
    async with world.running():
        (seen,) = [o for o in observed(await world.facts()) if o.ref.name == "one"]
        assert seen.kept == applied.kept
        assert await world.differences(seen.kept, seen) == []
        # The new kept form is in force: what others do to undeclared fields does not bring it back.
        await world.hand.send(
            "PATCH", world.hand.path("one"), {"metadata": {"labels": {"team": "red"}}}
        )
        await world.fence()
        assert len([o for o in observed(await world.facts()) if o.ref.name == "one"]) == 1


async def test_what_differs_and_is_not_what_the_server_makes_of_it_is_drift(world: World) -> None:
    applied = await _kept_otherwise(world)
    world.bodies[_one(world)] = world.configmap("one", a="0")
    async with world.running():
        (seen,) = [o for o in observed(await world.facts()) if o.ref.name == "one"]
        assert seen.kept is None
        assert applied.observed is not None
        assert seen.digest != applied.observed.digest


def _one(world: World) -> str:
    return next(identity for identity in world.bodies if identity.endswith("|one"))


async def _kept_otherwise(world: World) -> Answer:
    """Apply `one`, have another value of it kept, and let its version move on.

    So it is after an upgrade, when the server makes something else of the same manifest.
    """
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        other = await world.apply(world.configmap("two", a="0"), force=False)
    assert applied.observed is not None
    world.answers[0] = replace(applied, kept=other.kept)
    labels = {"metadata": {"labels": {"team": "blue"}}}
    await world.hand.send("PATCH", world.hand.path("one"), labels)
    return applied
