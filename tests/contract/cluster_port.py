"""What a reader of a cluster promises, whichever API server answers: the tests themselves.

The modules that run them give the fixture `world`: `test_cluster_port.py` beside this one on the
simulator, `tests/e2e/test_cluster_port.py` on a real control plane.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.objects.ownership import OWNER_ANNOTATION, OWNER_LABEL
from engine.ports import Owner
from events.catalog import KindReadable, KindUnreadable, ObjectsObserved, ObservationConfirmed
from events.vocabulary import DifferenceKind, Outcome, Presence
from tests.clusters import World, facts_of, is_absent, observed

pytestmark = pytest.mark.anyio

CONFIGMAP = ("v1", "ConfigMap")


async def test_an_apply_creates_and_a_second_one_changes_nothing(world: World) -> None:
    async with world.running():
        created = await world.apply(world.configmap("one", a="1"), force=False)
        again = await world.apply(world.configmap("one", a="1"), after=created)
        changed = await world.apply(world.configmap("one", a="2"), after=again)
    assert created.outcome is Outcome.CREATED
    assert created.kept is not None
    assert created.observed is not None
    assert created.observed.application == "default/shop"
    assert again.outcome is Outcome.UNCHANGED
    assert (again.kept, again.observed) == (created.kept, created.observed)
    assert changed.outcome is Outcome.CHANGED
    assert changed.observed is not None
    assert changed.observed.digest != created.observed.digest


async def test_an_apply_of_ours_is_not_observed_as_a_change(world: World) -> None:
    async with world.running():
        first = await world.apply(world.configmap("one", a="1"), force=False)
        await world.apply(world.configmap("one", a="2"), after=first)
        await world.fence()
        assert observed(await world.facts()) == []


async def test_a_field_changed_by_hand_is_observed_with_its_author_and_put_right(
    world: World,
) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
        seen = await world.seen("one")
        assert seen.presence is Presence.PRESENT
        assert (await world.body(seen))["data"] == {"a": "9"}
        (difference,) = await world.differences(applied.kept, seen)
        assert difference.kind is DifferenceKind.CHANGED
        assert (difference.path, difference.before, difference.after, difference.manager) == (
            ".data.a",
            "1",
            "9",
            "kubectl-edit",
        )
        corrected = await world.apply(
            world.configmap("one", a="1"),
            uid=seen.uid,
            resource_version=seen.resource_version,
            observed=seen.digest,
        )
        assert corrected.outcome is Outcome.CHANGED
        assert corrected.kept == applied.kept
        await world.fence()
        assert observed(await world.facts()) == [seen]


async def test_a_field_that_nobody_declared_is_observed_and_is_no_drift(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send(
            "PATCH", world.hand.path("one"), {"metadata": {"labels": {"team": "blue"}}}
        )
        seen = await world.seen("one")
        assert await world.differences(applied.kept, seen) == []
        assert applied.observed is not None
        assert seen.digest != applied.observed.digest


async def test_a_deleted_object_is_observed_as_absent(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send("DELETE", world.hand.path("one"))
        seen = await world.seen("one", is_absent)
        assert (seen.uid, seen.application) == (applied.uid, "default/shop")


async def test_an_object_made_anew_by_hand_is_observed_with_its_new_uid(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send("DELETE", world.hand.path("one"))
        await world.hand.send("POST", world.hand.path(), world.configmap("one", a="1"))
        seen = await world.seen("one", lambda o: o.uid != applied.uid)
        assert seen.presence is Presence.PRESENT
        await world.fence()
        assert observed(await world.facts(), "one")[-1] == seen


async def test_what_was_made_anew_by_hand_where_ours_was_is_taken_back_by_force(
    world: World,
) -> None:
    async with world.running():
        await world.apply(world.configmap("one", a="1"), force=False)
        theirs = world.configmap("one", a="2")
        for name in ("labels", "annotations"):
            theirs["metadata"].pop(name, None)
        await world.hand.send("DELETE", world.hand.path("one"))
        await world.hand.send("POST", world.hand.path(), theirs)
        await world.seen("one", is_absent)
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is Outcome.CONFLICT
        answer = await world.apply(world.configmap("one", a="1"), force=True)
        assert answer.outcome is Outcome.CHANGED


async def test_an_object_that_loses_our_label_is_still_there_and_still_followed(
    world: World,
) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        unlabelled = {"metadata": {"labels": {OWNER_LABEL: None}}}
        await world.hand.send("PATCH", world.hand.path("one"), unlabelled)
        seen = await world.seen("one")
        assert seen.presence is Presence.PRESENT
        kinds = {found.kind for found in await world.differences(applied.kept, seen)}
        assert kinds == {DifferenceKind.REMOVED}
        # No watch brings this one any more.
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
        later = await world.seen("one", lambda o: o.digest != seen.digest)
        assert (await world.body(later))["data"] == {"a": "9"}
        await world.hand.send("DELETE", world.hand.path("one"))
        await world.seen("one", is_absent)


async def test_an_object_that_loses_our_annotation_is_still_ours(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        unowned = {"metadata": {"annotations": {OWNER_ANNOTATION: None}}}
        await world.hand.send("PATCH", world.hand.path("one"), unowned)
        seen = await world.seen("one")
        assert (seen.presence, seen.application) == (Presence.PRESENT, "default/shop")
        assert len(await world.differences(applied.kept, seen)) == 1


async def test_objects_of_others_are_not_recorded(world: World) -> None:
    stranger = world.configmap("theirs", a="1")
    stranger["metadata"]["annotations"][OWNER_ANNOTATION] = "another-log/default/shop"
    await world.hand.send("POST", world.hand.path(), stranger)
    async with world.running():
        await world.hand.send("PATCH", world.hand.path("theirs"), {"data": {"a": "2"}})
        await world.hand.send("DELETE", world.hand.path("theirs"))
        await world.fence()
        assert observed(await world.facts()) == []


async def test_status_that_changes_nothing_that_counts_is_no_event(world: World) -> None:
    body = world.ours(cron_job(), "tick")
    path = f"/apis/batch/v1/namespaces/{world.namespace}/cronjobs/tick/status"
    async with world.running(("batch/v1", "CronJob"), CONFIGMAP):
        applied = await world.apply(body, force=False)
        assert applied.outcome is Outcome.CREATED
        version = ""
        for hour in range(3):
            status = {"status": {"lastScheduleTime": f"2026-01-01T0{hour}:00:00Z"}}
            answer = await world.hand.send("PATCH", path, status, manager="cronjob-controller")
            version = answer["metadata"]["resourceVersion"]
        assert version != applied.resource_version
        # Decided on the first observation: only the status has moved on since.
        again = await world.apply(body, after=applied)
        assert again.outcome is Outcome.UNCHANGED
        await world.fence()
        assert observed(await world.facts()) == []


async def test_a_deed_on_what_has_changed_since_is_stale(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
        late = await world.apply(world.configmap("one", a="2"), after=applied)
        assert late.outcome is Outcome.STALE
        assert applied.observed is not None
        ref, seen = applied.observed.ref, applied.observed
        deleted = await world.cluster.delete(ref, seen.uid, seen.resource_version, seen.digest)
        assert deleted.outcome is Outcome.STALE
        # What is there instead can be looked at, so that the next decision can be made.
        await world.seen("one", lambda o: o.digest != seen.digest)
        live = await world.hand.send("GET", world.hand.path("one"))
        assert live["data"] == {"a": "9"}


async def test_an_apply_to_an_object_that_was_made_anew_is_stale(world: World) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        await world.hand.send("DELETE", world.hand.path("one"))
        gone = await world.apply(world.configmap("one", a="2"), after=applied)
        assert gone.outcome is Outcome.STALE
        await world.hand.send("POST", world.hand.path(), world.configmap("one", a="5"))
        anew = await world.apply(world.configmap("one", a="2"), after=applied)
        assert anew.outcome is Outcome.STALE
        live = await world.hand.send("GET", world.hand.path("one"))
        assert live["data"] == {"a": "5"}


async def test_first_contact_does_not_take_fields_from_another_manager(world: World) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    await world.hand.send("POST", world.hand.path(), theirs | {"data": {"a": "9"}})
    async with world.running():
        answer = await world.apply(world.configmap("one", a="1"), force=False)
        assert answer.outcome is Outcome.CONFLICT
        assert answer.managers == ("kubectl-edit",)
        assert ".data.a" in answer.message
        live = await world.hand.send("GET", world.hand.path("one"))
        assert live["data"] == {"a": "9"}


async def test_an_object_of_another_application_is_a_conflict(world: World) -> None:
    async with world.running():
        await world.apply(world.configmap("one", a="1"), force=False)
        world.owner = Owner(world.log.log_id, "default", "blog")
        answer = await world.apply(world.configmap("one", b="1"), force=False)
        assert answer.outcome is Outcome.CONFLICT
        assert answer.managers == ("trueup:default/shop",)
        live = await world.hand.send("GET", world.hand.path("one"))
        assert live["data"] == {"a": "1"}


async def test_an_invalid_object_says_why(world: World) -> None:
    async with world.running():
        answer = await world.apply(world.configmap("one") | {"data": {"a": 1}}, force=False)
        assert answer.outcome is Outcome.INVALID
        assert ".data.a" in answer.message
        undeclared = world.configmap("one", a="1") | {"nothing": {"of": "this"}}
        answer = await world.apply(undeclared, force=False)
        assert answer.outcome is Outcome.INVALID
        assert "nothing" in answer.message


async def test_a_missing_namespace_is_named(world: World) -> None:
    async with world.running():
        body = world.ours({"apiVersion": "v1", "kind": "ConfigMap"}, "one", "no-such-namespace")
        answer = await world.apply(body, force=False)
        assert answer.outcome is Outcome.FAILED
        assert "no-such-namespace" in answer.message


async def test_an_unknown_kind_fails_and_is_unreadable(world: World) -> None:
    async with world.running(("nothing.example/v1", "Nothing"), CONFIGMAP):
        facts = await facts_of(world.log)
        (unreadable,) = [fact for fact in facts if isinstance(fact, KindUnreadable)]
        assert unreadable.code == "no-such-kind"
        readable = {(f.api_version, f.kind) for f in facts if isinstance(f, KindReadable)}
        assert readable == {CONFIGMAP}
        body = world.ours({"apiVersion": "nothing.example/v1", "kind": "Nothing"}, "one")
        answer = await world.apply(body, force=False)
        assert answer.outcome is Outcome.FAILED
        assert "Nothing" in answer.message


async def test_a_delete_removes_what_was_observed_and_is_not_observed_as_a_change(
    world: World,
) -> None:
    async with world.running():
        applied = await world.apply(world.configmap("one", a="1"), force=False)
        assert applied.observed is not None
        ref, seen = applied.observed.ref, applied.observed
        deleted = await world.cluster.delete(ref, seen.uid, seen.resource_version, seen.digest)
        assert deleted.outcome is Outcome.DELETED
        assert deleted.observed is not None
        assert deleted.observed.presence is Presence.ABSENT
        again = await world.cluster.delete(ref, seen.uid, seen.resource_version, seen.digest)
        assert again.outcome is Outcome.GONE
        await world.fence()
        assert observed(await world.facts()) == []


async def test_a_deleted_object_with_a_finalizer_is_terminating_until_it_is_gone(
    world: World,
) -> None:
    body = world.configmap("one", a="1")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    async with world.running():
        applied = await world.apply(body, force=False)
        assert applied.observed is not None
        ref, seen = applied.observed.ref, applied.observed
        deleted = await world.cluster.delete(ref, seen.uid, seen.resource_version, seen.digest)
        assert deleted.outcome is Outcome.DELETED
        assert deleted.observed is not None
        assert deleted.observed.presence is Presence.TERMINATING
        await world.hand.send("PATCH", world.hand.path("one"), {"metadata": {"finalizers": None}})
        gone = await world.seen("one", is_absent)
        assert gone.uid == applied.uid


async def test_a_restart_writes_nothing_when_nothing_changed(world: World) -> None:
    async with world.running():
        await world.apply(world.configmap("one", a="1"), force=False)
        await world.apply(world.configmap("two", a="1"), force=False)
        await world.hand.send("PATCH", world.hand.path("two"), {"data": {"a": "9"}})
        await world.seen("two")
        await world.fence()
    before = await world.facts()
    async with world.running():
        await world.until(lambda facts: confirmations(facts) == 2)
        assert await world.facts() == before


async def test_a_restart_writes_what_changed_meanwhile(world: World) -> None:
    async with world.running():
        for name in ("same", "changed", "gone", "anew"):
            await world.apply(world.configmap(name, a="1"), force=False)
    await world.hand.send("PATCH", world.hand.path("changed"), {"data": {"a": "9"}})
    await world.hand.send("DELETE", world.hand.path("gone"))
    await world.hand.send("DELETE", world.hand.path("anew"))
    await world.hand.send("POST", world.hand.path(), world.configmap("anew", a="1"))
    async with world.running():
        seen = observed(await world.facts())
    assert sorted((o.ref.name, str(o.presence)) for o in seen) == [
        ("anew", "present"),
        ("changed", "present"),
        ("gone", "absent"),
    ]


async def test_everything_is_listed_afresh_and_confirmed_with_an_equal_root(world: World) -> None:
    async with world.running(relist_interval=0.2):
        await world.apply(world.configmap("one", a="1"), force=False)
        before = await world.until(lambda facts: confirmations(facts, objects=1) >= 2)
        assert before
        facts = await facts_of(world.log)
        found = [f for f in facts if isinstance(f, ObservationConfirmed) and f.objects == 1]
        assert len({fact.root for fact in found}) == 1
        assert observed(facts) == []


async def test_a_custom_kind_is_read_once_it_is_defined(world: World) -> None:
    group = f"{world.namespace}.example.com"
    kind = (f"{group}/v1", "Widget")
    async with world.running(kind, CONFIGMAP):
        definition = await world.apply(world.ours(widgets(group), f"widgets.{group}", ""))
        assert definition.outcome is Outcome.CREATED
        assert await world.cluster.established(f"widgets.{group}", 20)
        body = world.ours({"apiVersion": kind[0], "kind": "Widget", "spec": {"size": 3}}, "one")
        assert (await world.apply(body, force=False)).outcome is Outcome.CREATED
        await world.until(
            lambda facts: any(isinstance(f, KindReadable) and f.kind == "Widget" for f in facts)
        )
        path = f"/apis/{group}/v1/namespaces/{world.namespace}/widgets/one"
        await world.hand.send("PATCH", path, {"spec": {"size": 4}})
        seen = await world.seen("one")
        assert (await world.body(seen))["spec"] == {"size": 4}
        crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await world.hand.send("DELETE", f"{crds}/widgets.{group}")
    assert not await world.cluster.established("widgets.nothing.example", 0)


async def test_no_secret_value_is_stored_or_said(world: World) -> None:
    canary, key = "canary-0f1e2d3c4b5a69788796", "cGxhaW4tY2FuYXJ5LTE5MjgzNzQ2NTU="
    plain = "plain-canary-1928374655"
    body = world.ours({"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}, "hush")
    body["data"] = {"key": key}
    said: list[Any] = []
    async with world.running(("v1", "Secret")):
        applied = await world.apply(body, force=False)
        assert applied.outcome is Outcome.CREATED
        path = world.hand.path("hush", "secrets")
        await world.hand.send("PATCH", path, {"stringData": {"key": canary}})
        seen = await world.seen("hush")
        assert applied.kept
        said.append(await world.differences(applied.kept, seen))
        assert said[0], "a changed value is seen"
        bad = body | {"data": {"key": f"{canary}!"}, "type": f"{plain}"}
        refused = await world.apply(bad, after=applied)
        assert not refused.outcome.is_success
        immutable = body | {"type": f"example.com/{plain}"}
        also = await world.apply(
            immutable, uid=seen.uid, resource_version=seen.resource_version, observed=seen.digest
        )
        assert also.outcome is Outcome.INVALID
        said += [refused.message, also.message, *world.answers]
    said += list(vars(world.log).values())
    dump = repr(said) + repr([body.decode() for body in (await all_blobs(world)).values()])
    encoded = "Y2FuYXJ5LTBmMWUyZDNjNGI1YTY5Nzg4Nzk2"
    for word in (canary, encoded, key, plain):
        assert word not in dump.replace(f"example.com/{plain}", "")


async def all_blobs(world: World) -> dict[str, bytes]:
    digests = {blob.digest for answer in world.answers for blob in answer.blobs}
    for fact in await facts_of(world.log):
        if isinstance(fact, ObjectsObserved):
            digests |= {seen.body for seen in fact.objects if seen.body}  # type: ignore[misc]
    return dict(await world.log.blobs(digests))  # type: ignore[arg-type]


def confirmations(facts: list[Any], objects: int | None = None) -> int:
    return sum(
        isinstance(fact, ObservationConfirmed) and objects in (None, fact.objects) for fact in facts
    )


def cron_job() -> dict[str, Any]:
    container = {"name": "tick", "image": "example.com/tick:1"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "spec": {
            "schedule": "0 0 1 1 *",
            "jobTemplate": {"spec": {"template": template}},
        },
    }


def widgets(group: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
