"""Which fields are left as they are, and how what is applied spares them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.left import covers, pointer_of, spared
from engine.objects.removal import removal
from engine.objects.takeover import adopted
from engine.resources.field_path import field_path_fault
from events.vocabulary import FieldRule

CONTAINER = 'k:{"name":"app"}'
IMAGE = ("f:spec", "f:containers", CONTAINER, "f:image")


def entry(manager: str, fields: Any, operation: str = "Update", **more: Any) -> dict[str, Any]:
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **more,
    }


def pod(image: str, *entries: dict[str, Any], **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "resourceVersion": "7", "managedFields": list(entries)},
        "spec": {"containers": [{"name": "side"}, {"name": "app", "image": image, **container}]},
    }


def ours(*fields: str) -> dict[str, Any]:
    inner = {".": {}, "f:name": {}, **{f"f:{name}": {} for name in fields}}
    return entry("trueup", {"f:spec": {"f:containers": {CONTAINER: inner}}}, "Apply")


@pytest.mark.parametrize(
    ("path", "is_covered"),
    [
        ('.spec.containers[name="app"].image', True),
        (".spec.containers[*].image", True),
        (".spec.containers[*]", True),
        (".spec", True),
        ("/spec/containers/1/image", True),
        ("/spec/containers/0/image", False),
        ('.spec.containers[name="side"].image', False),
        (".spec.containers.image", False),
        (".spec.container", False),
        ("/spec/container", False),
    ],
)
def test_a_path_covers_what_is_at_it_or_below(path: str, is_covered: bool) -> None:
    assert field_path_fault(path) == ""
    pointer = pointer_of(IMAGE, pod("x"))
    assert covers(FieldRule(path), IMAGE, pointer) is is_covered


def test_a_label_whose_name_begins_like_another_is_not_covered() -> None:
    path = ("f:metadata", "f:labels", "f:app.kubernetes.io/name")
    assert not covers(FieldRule(".metadata.labels.app"), path, ())
    assert covers(FieldRule(".metadata.labels.app.kubernetes.io/name"), path, ())


@pytest.mark.parametrize("text", ["spec", ".", "..a", ".a[", ".a[b", ".a[x=]", "/a~2", ".a\n"])
def test_what_is_no_path_is_refused(text: str) -> None:
    assert field_path_fault(text)


def test_what_is_sent_has_the_live_value_of_what_is_left_and_nothing_else() -> None:
    live = pod("live:1", ours("image", "tty"), tty=False, stdin=True)
    body = pod("git:2", tty=True)
    sent = spared(body, live, [FieldRule('.spec.containers[name="app"].image')])
    assert sent["spec"]["containers"] == [
        {"name": "side"},
        {"name": "app", "image": "live:1", "tty": True},
    ]
    by_manager = pod(
        "live:1", entry("ci", {"f:spec": {"f:containers": {CONTAINER: {"f:image": {}}}}})
    )
    sent = spared(body, by_manager, [FieldRule(manager="ci")])
    assert sent["spec"]["containers"][1] == {"name": "app", "image": "live:1", "tty": True}


def test_a_field_of_ours_that_git_drops_stays_where_it_is_left() -> None:
    live = pod("live:1", ours("image", "tty"), tty=True, stdin=True)
    body = {**pod("x"), "spec": {"containers": [{"name": "app"}]}}
    sent = spared(body, live, [FieldRule(".spec.containers[*].image")])
    assert sent["spec"]["containers"] == [{"name": "app", "image": "live:1"}]


def test_a_left_field_that_is_gone_is_not_sent() -> None:
    live = pod("live:1", ours("image"))
    del live["spec"]["containers"][1]["image"]
    assert "image" not in spared(pod("git"), live, [FieldRule("/spec")])["spec"]["containers"][1]
    body = {**pod("x"), "spec": {"containers": [{"name": "app"}, {"name": "new"}]}}
    sent = spared(body, live, [FieldRule(".spec.containers")])
    assert sent["spec"]["containers"] == [{"name": "app"}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner),
    max_leaves=8,
)
bodies = st.fixed_dictionaries({"spec": st.dictionaries(st.sampled_from("xyz"), json_values)})


@given(bodies, bodies)
def test_without_a_rule_that_is_about_it_a_body_is_sent_as_it_is(body: Any, live: Any) -> None:
    assert spared(body, live, [FieldRule(".metadata"), FieldRule(manager="m")]) == body


@given(bodies, bodies)
def test_where_all_is_left_nothing_is_sent_that_the_live_object_does_not_have(
    body: Any, live: Any
) -> None:
    sent = spared(body, live, [FieldRule(".spec")])
    assert spared(sent, live, [FieldRule(".spec")]) == sent
    assert sent["spec"].keys() <= live["spec"].keys() & body["spec"].keys()


def test_a_removal_tests_each_value_and_goes_from_the_end() -> None:
    live = pod("x", ours("image"), args=["a"])
    live["spec"]["containers"].append({"name": "eve"})
    live["metadata"]["labels"] = {"a/b~c": "1"}
    paths = [
        ("f:metadata", "f:labels", "f:a/b~c"),
        ("f:spec", "f:containers", 'k:{"name":"side"}'),
        ("f:spec", "f:containers", 'k:{"name":"eve"}'),
        ("f:spec", "f:containers", 'k:{"name":"eve"}', "f:name"),
        ("f:spec", "f:gone"),
    ]
    version, *rest = removal(live, paths)
    assert version == {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}
    assert [(step["op"], step["path"]) for step in rest] == [
        (op, path)
        for path in ("/spec/containers/2", "/spec/containers/0", "/metadata/labels/a~1b~0c")
        for op in ("test", "remove")
    ]
    assert removal(live, [("f:spec", "f:gone")]) == []


def test_taking_over_merges_what_tools_have_and_leaves_the_rest() -> None:
    status = entry("helm", {"f:status": {}}, subresource="status")
    other = entry("helm", {"f:x": {}}, apiVersion="v2")
    person = entry("kubectl-edit", {"f:spec": {"f:y": {}}})
    helm = entry("helm", {"f:spec": {"f:z": {}}}, time="2026-01-01T00:00:00Z")
    live = pod("x", ours("image"), helm, status, person, other)
    version, replaced = adopted(live, "v1")
    assert version["value"] == "7"
    first, *rest = replaced["value"]
    assert (first["manager"], first["operation"]) == ("trueup", "Apply")
    assert first["fieldsV1"]["f:spec"].keys() == {"f:containers", "f:z"}
    assert rest == [status, person, other]
    assert adopted(pod("x", ours("image"), person), "v1") == []
    assert adopted(pod("x", person), "v1", ["kubectl-edit"])
    assert adopted({"metadata": {"resourceVersion": "7"}}, "v1") == []
