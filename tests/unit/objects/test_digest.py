"""When an object counts as the same, and when as changed."""

from copy import deepcopy
from typing import Any

import pytest

from engine.objects.digest import body_hash, change_digest, managed_signature, storable
from engine.objects.foreign import foreign
from engine.objects.identity import ObjectRefused
from engine.objects.kept import Kept, freeze
from events.vocabulary import Health, Presence
from tests.unit.objects.test_kept import REF, applied, obj, updated


def live() -> dict[str, Any]:
    made = obj({"a": 1, "b": 2}, applied({"f:a": {}}, time="2026-01-01T00:00:00Z"))
    made["metadata"].update(uid="u", resourceVersion="1", generation=1)
    made["status"] = {"ready": 1}
    return made


def changed(*path: str, to: Any) -> dict[str, Any]:
    made = live()
    holder = made
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = to
    return made


def digest(seen: dict[str, Any], health: Health = Health.HEALTHY, message: str = "ok") -> str:
    kept = freeze(live())
    others = foreign(kept, seen, REF)
    return change_digest(kept, seen, others, health, message, Presence.PRESENT)


@pytest.mark.parametrize("name", ["resourceVersion", "generation", "managedFields"])
def test_bookkeeping_and_status_are_not_of_the_body(name: str) -> None:
    assert body_hash(changed("metadata", name, to="other")) == body_hash(live())
    assert body_hash(changed("status", to={})) == body_hash(live())


def test_everything_else_is_of_the_body() -> None:
    others = [
        changed("spec", "b", to=3),
        changed("metadata", "uid", to="v"),
        changed("metadata", "deletionTimestamp", to="2026"),
        changed("metadata", "labels", to={"x": "y"}),
    ]
    hashes = {body_hash(other) for other in [live(), *others]}
    assert len(hashes) == len(others) + 1
    assert len(body_hash(live())) == 16


def test_the_signature_is_of_who_owns_what_and_not_of_when() -> None:
    later = live()
    later["metadata"]["managedFields"][0]["time"] = "2027-01-01T00:00:00Z"
    later["metadata"]["managedFields"].append(updated({"f:x": {}}, subresource="status"))
    assert managed_signature(later) == managed_signature(live())
    more = live()
    more["metadata"]["managedFields"].append(updated({"f:b": {}}))
    assert managed_signature(more) != managed_signature(live())
    assert managed_signature({}) == managed_signature({"metadata": {"managedFields": []}})


def test_what_is_no_change_keeps_the_digest() -> None:
    assert digest(changed("status", to={"ready": 9})) == digest(live())
    assert digest(changed("metadata", "resourceVersion", to="9")) == digest(live())
    assert digest(changed("spec", "b", to=9)) == digest(live())


def test_foreign_fields_count_and_their_values_do_not() -> None:
    theirs = live()
    theirs["metadata"]["managedFields"].append(updated({"f:b": {}}))
    assert digest(theirs) != digest(live())
    again = deepcopy(theirs)
    again["spec"]["b"] = 99
    assert digest(again) == digest(theirs)


def test_our_values_ownership_health_and_identity_count() -> None:
    lost = live()
    lost["metadata"]["managedFields"] = []
    others = {
        digest(live()),
        digest(changed("spec", "a", to=2)),
        digest(changed("metadata", "uid", to="v")),
        digest(lost),
        digest(live(), Health.DEGRADED),
        digest(live(), message="other"),
        change_digest(freeze(live()), live(), [], Health.HEALTHY, "ok", Presence.TERMINATING),
    }
    assert len(others) == 7


def test_a_kept_form_that_was_stored_gives_the_same_digest() -> None:
    seen = obj({"b": 2, "a": 1}, applied({"f:b": {}, "f:a": {}}))
    kept = freeze(seen)
    assert kept is not None
    again = Kept.decode(kept.encode())
    for live in (seen, obj({"b": 3, "a": 1}, applied({"f:a": {}, "f:b": {}}))):
        one, two = (
            change_digest(form, live, [], Health.HEALTHY, "", Presence.PRESENT)
            for form in (kept, again)
        )
        assert one == two


def test_without_a_kept_form_the_body_counts() -> None:
    def bare(seen: dict[str, Any]) -> str:
        return change_digest(None, seen, [], Health.HEALTHY, "", Presence.PRESENT)

    assert bare(live()) != bare(changed("spec", "b", to=3))
    assert bare(live()) == bare(changed("status", to={}))


def test_what_is_stored_has_all_but_the_status() -> None:
    assert storable(live()) == {k: v for k, v in live().items() if k != "status"}


def test_an_object_nested_too_deeply_is_refused() -> None:
    deep: Any = {}
    for _ in range(2000):
        deep = {"a": deep}
    for refuse in (body_hash, managed_signature):
        with pytest.raises(ObjectRefused) as refused:
            refuse({"metadata": {"managedFields": [{"fieldsV1": deep}]}, "spec": deep})
        assert refused.value.code == "bad-value"
