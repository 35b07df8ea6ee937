"""What counts as another's field, and what is left out."""

from typing import Any

import pytest

from engine.objects.foreign import foreign
from engine.objects.kept import Kept, freeze
from events.vocabulary import DifferenceKind, ObjectRef
from tests.unit.objects.test_kept import REF, applied, obj, updated


def listed(
    live: dict[str, Any], kept: Kept | None = None, ref: ObjectRef = REF, **more: Any
) -> list[tuple[str, Any, str]]:
    return [(d.path, d.after, d.manager) for d in foreign(kept, live, ref, **more)]


def test_a_field_of_another_manager_is_told_with_value_and_author() -> None:
    live = obj({"a": 1}, updated({"f:a": {}}, time="2026-01-01T00:00:00Z", subresource="scale"))
    (only,) = foreign(None, live, REF)
    assert (only.kind, only.path, only.before, only.after) == (
        DifferenceKind.FOREIGN, ".spec.a", None, 1,
    )  # fmt: skip
    assert (only.manager, only.operation, only.subresource, only.time) == (
        "other", "Update", "scale", "2026-01-01T00:00:00Z",
    )  # fmt: skip


def test_what_the_object_no_longer_has_is_left_out() -> None:
    fields = {"f:a": {}, "f:l": {'k:{"name":"x"}': {".": {}, "f:v": {}}}, "f:s": {'v:"q"': {}}}
    assert listed(obj({"l": [{"name": "y"}], "s": ["p"]}, updated(fields))) == []


def test_a_whole_map_or_item_of_another_is_told_once() -> None:
    fields = {"f:m": {".": {}, "f:a": {}}, "f:l": {'k:{"name":"x"}': {".": {}, "f:v": {}}}}
    live = obj({"m": {"a": 1}, "l": [{"name": "x", "v": 2}]}, updated(fields))
    assert listed(live) == [
        (".spec.m", {"a": 1}, "other"),
        ('.spec.l[name="x"]', {"name": "x", "v": 2}, "other"),
    ]


def test_a_map_that_we_share_is_told_field_by_field() -> None:
    kept = freeze(obj({"m": {"a": 1}}, applied({"f:m": {"f:a": {}}})))
    theirs = updated({"f:m": {".": {}, "f:a": {}, "f:b": {}}})
    live = obj({"m": {"a": 1, "b": 2}}, applied({"f:m": {"f:a": {}}}), theirs)
    assert listed(live, kept) == [(".spec.m.b", 2, "other")]


def test_keys_of_our_items_are_ours() -> None:
    ours = {"f:p": {'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}}}
    theirs = {"f:p": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {
        ".": {}, "f:port": {}, "f:protocol": {}, "f:x": {}}}}  # fmt: skip
    spec = {"p": [{"port": 80, "protocol": "TCP", "x": 1}]}
    kept = freeze(obj(spec, applied(ours)))
    live = obj(spec, applied(ours), updated(theirs))
    assert listed(live, kept) == [('.spec.p[port=80,protocol="TCP"].x', 1, "other")]


def test_parts_of_our_atomic_value_are_ours_and_content_of_our_empty_one_is_not() -> None:
    ours = {"f:atom": {}, "f:empty": {}}
    kept = freeze(obj({"atom": {"x": 1}, "empty": {}}, applied(ours)))
    theirs = updated({"f:atom": {"f:x": {}}, "f:empty": {"f:x": {}}})
    live = obj({"atom": {"x": 1}, "empty": {"x": 1}}, applied(ours), theirs)
    assert listed(live, kept) == [(".spec.empty.x", 1, "other")]


def test_an_apply_in_our_name_that_is_not_ours_is_told() -> None:
    kept = freeze(obj({"a": 1}, applied({"f:a": {}})))
    forged = obj({"a": 1, "b": 2}, applied({"f:a": {}, "f:b": {}}))
    assert listed(forged, kept) == [(".spec.b", 2, "trueup")]


def test_status_is_nobodys_business() -> None:
    live = obj({"a": 1}, updated({"f:a": {}}, subresource="status"))
    live["status"] = {"x": 1}
    entry = updated({})
    entry["fieldsV1"] = {"f:status": {"f:x": {}}}
    live["metadata"]["managedFields"].append(entry)
    assert listed(live) == []


def test_controllers_of_the_cluster_itself_are_allowed() -> None:
    live = obj({"a": 1}, updated({"f:a": {}}, "kube-controller-manager"))
    assert listed(live) == []
    assert listed(live, allowed=()) == [(".spec.a", 1, "kube-controller-manager")]


def test_our_label_and_annotation_are_never_foreign() -> None:
    live = obj({}, updated({}))
    live["metadata"]["labels"] = {"trueup.dev/owner": "x", "y": "z"}
    live["metadata"]["annotations"] = {"trueup.dev/owner": "x"}
    live["metadata"]["managedFields"][0]["fieldsV1"] = {
        "f:metadata": {
            "f:labels": {"f:trueup.dev/owner": {}, "f:y": {}},
            "f:annotations": {"f:trueup.dev/owner": {}},
        }
    }
    assert listed(live) == [(".metadata.labels.y", "z", "other")]


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "fields"),
    [
        ("apiregistration.k8s.io/v1", "APIService", {"caBundle": "x"}, {"f:caBundle": {}}),
        (
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            {"conversion": {"webhook": {"clientConfig": {"caBundle": "x"}}}},
            {"f:conversion": {"f:webhook": {"f:clientConfig": {"f:caBundle": {}}}}},
        ),
    ],
)
def test_an_injected_ca_bundle_is_allowed_where_injectors_write(
    api_version: str, kind: str, spec: Any, fields: Any
) -> None:
    live = obj(spec, updated(fields, "cert-manager-cainjector"))
    assert listed(live, ref=ObjectRef(api_version, kind, "", "x")) == []
    assert len(listed(live)) == 1


def test_replicas_that_were_scaled_without_a_trace_are_told_without_an_author() -> None:
    ref = ObjectRef("apps/v1", "Deployment", "default", "web")
    kept = freeze(obj({"a": 1, "replicas": 1}, applied({"f:a": {}})))
    assert kept is not None
    scaled = obj({"a": 1, "replicas": 3}, applied({"f:a": {}}))
    assert listed(scaled, kept, ref) == [(".spec.replicas", 3, "")]
    assert listed(scaled, None, ref) != listed(scaled, kept, ref)
    assert listed(obj({"a": 1, "replicas": 1}, applied({"f:a": {}})), kept, ref) == []
    assert listed(scaled, kept, ObjectRef("example.com/v1", "Deployment", "default", "web")) == []


def test_replicas_of_somebody_are_told_once_and_declared_ones_never() -> None:
    ref = ObjectRef("apps/v1", "Deployment", "default", "web")
    kept = freeze(obj({"a": 1}, applied({"f:a": {}})))
    theirs = updated({"f:replicas": {}}, subresource="scale")
    live = obj({"a": 1, "replicas": 3}, applied({"f:a": {}}), theirs)
    assert listed(live, kept, ref) == [(".spec.replicas", 3, "other")]
    declared = freeze(obj({"replicas": 2}, applied({"f:replicas": {}})))
    assert listed(obj({"replicas": 3}, applied({})), declared, ref) == []
