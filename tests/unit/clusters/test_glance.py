"""What an object's bytes tell is what a look at the decoded object would."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from engine.clusters.glance import NOTHING, glance
from engine.clusters.look import Eyes, look
from engine.objects.redact import Redactor
from events.vocabulary import ObjectRef

SORTED = orjson.OPT_SORT_KEYS
REDACTOR = Redactor(b"0123456789abcdef0123456789abcdef", "test")
EYES = Eyes(REDACTOR)
REF = ObjectRef("apps/v1", "Deployment", "shop", "web")

_few = st.integers(0, 2)
_entries = st.fixed_dictionaries(
    {
        "manager": st.sampled_from(["trueup", "kubectl"]),
        "operation": st.sampled_from(["Apply", "Update"]),
        "time": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]),
        "fieldsV1": st.sampled_from([{"f:spec": {}}, {"f:metadata": {"f:labels": {}}}]),
    },
    optional={"subresource": st.sampled_from(["status", "scale", ""]), "apiVersion": st.just("v1")},
)
_metadata = st.fixed_dictionaries(
    {"name": st.just("web"), "uid": st.sampled_from(["a", "b"]), "resourceVersion": st.text("12")},
    optional={
        "generation": _few,
        "labels": st.dictionaries(st.sampled_from(["app", "tier"]), st.text("ab", max_size=2)),
        "deletionTimestamp": st.just("2026-01-01T00:00:00Z"),
        "managedFields": st.lists(_entries, max_size=2),
    },
)
_objects = st.fixed_dictionaries(
    {"metadata": _metadata},
    optional={
        "spec": st.fixed_dictionaries({"replicas": _few}),
        "status": st.fixed_dictionaries({"replicas": _few, "observedGeneration": _few}),
    },
)


@given(_objects, _objects)
def test_equal_essences_are_equal_in_all_that_a_look_compares(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    # A server always writes an object's fields in the same order.
    one, other = (orjson.loads(orjson.dumps(each, option=SORTED)) for each in (one, other))
    first, second = (glance(REF, orjson.dumps(each)) for each in (one, other))
    assert first is not None
    assert second is not None
    before, after = look(REF, one, EYES), look(REF, other, EYES)
    assert first.fares(REF) == before.fares
    if first.essence == second.essence:
        assert before.body == after.body
        assert before.signature == after.signature
        assert (before.uid, before.presence) == (after.uid, after.presence)


@given(_objects, st.text("34", min_size=1), _few)
def test_status_times_and_versions_leave_the_essence_alone(
    live: dict[str, Any], version: str, replicas: int
) -> None:
    before = glance(REF, orjson.dumps(live))
    live["metadata"]["resourceVersion"] = version
    live["metadata"]["generation"] = replicas
    live["status"] = {"replicas": replicas}
    for entry in live["metadata"].get("managedFields", ()):
        entry["time"] = "2026-03-03T00:00:00Z"
    after = glance(REF, orjson.dumps(live))
    assert before is not None
    assert after is not None
    assert before.essence == after.essence


def test_a_secret_is_never_told_by_its_bytes() -> None:
    body = orjson.dumps({"metadata": {"name": "key"}, "data": {"key": "c2VjcmV0"}})
    assert glance(ObjectRef("v1", "Secret", "shop", "key"), body) is None


def test_what_is_no_object_is_left_to_the_look() -> None:
    assert glance(REF, b'{"metadata": []}') is None
    assert glance(REF, b'{"metadata": {"managedFields": 1}}') is None
    assert glance(REF, b"[]") is None
    broken = glance(REF, b'{"metadata": {}, "status": {"a": "\xff"}}')
    assert broken is None or broken.fares(REF) == NOTHING
