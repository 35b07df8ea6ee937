"""Which list items an apply takes away because they keep ours out, and which it leaves."""

from __future__ import annotations

from typing import Any

from engine.objects.displaced import taken_over

KEY_80, KEY_81 = 'k:{"port":80,"protocol":"TCP"}', 'k:{"port":81,"protocol":"TCP"}'
FIELDS = {".": {}, "f:name": {}, "f:port": {}}
SENT = {"spec": {"ports": [{"name": "http", "port": 80}]}}


def entry(manager: str, operation: str, *keys: str, **more: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"f:selector": {}} if operation == "Apply" else {}
    if keys:
        spec["f:ports"] = dict.fromkeys(keys, FIELDS)
    told = {"manager": manager, "operation": operation, "apiVersion": "v1"}
    return {**told, "fieldsV1": {"f:spec": spec}, **more}


def service(*entries: dict[str, Any], **ports: Any) -> dict[str, Any]:
    listed = [{"protocol": "TCP", **port} for port in ports.values()]
    return {"metadata": {"managedFields": list(entries)}, "spec": {"ports": listed}}


OURS = entry("trueup", "Apply")
EDITED = entry("kubectl-edit", "Update", KEY_81)


def test_an_item_whose_key_was_edited_becomes_ours_and_nothing_else_does() -> None:
    fields = taken_over(service(OURS, EDITED, a={"name": "http", "port": 81}), SENT)
    assert fields == [entry("trueup", "Apply", KEY_81)], "the editor's entry is empty, and gone"


def test_what_else_the_editor_owns_stays_with_them() -> None:
    edited = entry("kubectl-edit", "Update", KEY_81)
    edited["fieldsV1"]["f:metadata"] = {"f:labels": {"f:a": {}}}
    fields = taken_over(service(OURS, edited, a={"name": "http", "port": 81}), SENT)
    assert fields is not None
    assert fields[1]["fieldsV1"] == {"f:metadata": {"f:labels": {"f:a": {}}}}


def test_an_item_without_a_name_is_in_the_way_too() -> None:
    assert taken_over(service(OURS, EDITED, a={"port": 81}), SENT) is not None


def test_what_can_be_beside_ours_or_was_applied_is_left() -> None:
    renamed = service(OURS, EDITED, a={"name": "other", "port": 81})
    assert taken_over(renamed, SENT) is None
    both = {"a": {"name": "http", "port": 80}, "b": {"name": "more", "port": 81}}
    assert taken_over(service(entry("trueup", "Apply", KEY_80), EDITED, **both), SENT) is None
    for theirs in (
        entry("rival", "Apply", KEY_81),
        entry("kubectl", "Update", KEY_81, subresource="status"),
        entry("kubectl", "Update", KEY_81, apiVersion="v2"),
    ):
        assert taken_over(service(OURS, theirs, a={"name": "http", "port": 81}), SENT) is None


def test_an_alternative_that_was_edited_in_becomes_ours() -> None:
    """As when `value` became `valueFrom`, or a strategy's type has the other one's fields."""

    def live(strategy: dict[str, Any], *, labels: bool = False) -> dict[str, Any]:
        fields = {"f:type": {}, "f:rollingUpdate": {".": {}, "f:maxSurge": {}}}
        edited = {"f:spec": {"f:strategy": fields, "f:paused": {}}}
        if labels:
            edited["f:metadata"] = {"f:labels": {"f:b": {}}}
        entries = [entry("trueup", "Apply"), {**EDITED, "fieldsV1": edited}]
        metadata = {"managedFields": entries, "labels": {"b": "1"}}
        return {"metadata": metadata, "spec": {"strategy": strategy, "paused": True}}

    sent = {"metadata": {"labels": {"a": "1"}}, "spec": {"strategy": {"type": "Recreate"}}}
    broken = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    fields = taken_over(live(broken, labels=True), sent)
    assert fields is not None
    assert fields[0]["fieldsV1"]["f:spec"]["f:strategy"] == {
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}}
    }
    assert fields[1]["fieldsV1"]["f:spec"] == {"f:strategy": {"f:type": {}}, "f:paused": {}}
    assert fields[1]["fieldsV1"]["f:metadata"] == {"f:labels": {"f:b": {}}}, "labels never clash"
    whole = {**broken, "type": "Recreate"}
    assert taken_over(live(whole), sent) is None, "all of ours is there: nothing was displaced"


def test_an_object_that_tells_of_no_manager_is_left() -> None:
    assert taken_over({"metadata": {}}, SENT) is None
    assert taken_over(service(EDITED, a={"name": "http", "port": 81}), SENT) is None
