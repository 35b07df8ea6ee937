"""What is remembered of objects, and which of two versions is the later one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clusters import memory as module
from engine.clusters.memory import Baseline, Entry, Held, Memory
from engine.clusters.wire import is_newer, is_older
from events.vocabulary import ObjectRef, Presence

ONE = ObjectRef("v1", "ConfigMap", "default", "one")


def _entry(ref: ObjectRef = ONE, **changes: Any) -> Entry:
    given: dict[str, Any] = {
        "ref": ref,
        "uid": "u1",
        "version": "5",
        "digest": "d",
        "kept": None,
        "presence": Presence.PRESENT,
        "application": "default/shop",
    }
    return Entry(**(given | changes))


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_versions_are_compared_as_numbers_of_any_length(a: int, b: int) -> None:
    assert is_newer(str(a), str(b)) == (a > b)
    assert is_older(str(a), str(b)) == (a < b)


@given(st.text(), st.text())
def test_versions_of_another_form_only_differ(a: str, b: str) -> None:
    if not (a.isascii() and a.isdecimal() and b.isascii() and b.isdecimal()):
        assert is_newer(a, b) == (a != b)
        assert not is_older(a, b)


def test_a_version_of_thousands_of_digits_is_no_number() -> None:
    assert is_newer("9" * 5000, "1")
    assert not is_older("1", "9" * 5000)


def test_an_object_is_one_whatever_version_names_it() -> None:
    memory = Memory()
    memory.put(_entry(ObjectRef("apps/v1beta1", "Deployment", "a", "b")))
    assert memory.get(ObjectRef("apps/v1", "Deployment", "a", "b")) is not None
    assert memory.get(ObjectRef("other/v1", "Deployment", "a", "b")) is None
    assert len(memory.of_kind("apps/v1", "Deployment")) == 1


def test_only_what_has_a_deed_in_flight_is_held() -> None:
    memory = Memory()
    assert not memory.hold(Held(ONE))
    memory.begin(ONE.identity)
    assert memory.hold(Held(ONE, "u1", "6"))
    found = memory.end(ONE.identity)
    assert found is not None
    assert found.version == "6"
    assert not memory.hold(Held(ONE))


def test_of_several_held_states_the_latest_counts_however_they_come() -> None:
    memory = Memory()
    memory.begin(ONE.identity)
    for version in ("6", "8", "7"):
        memory.hold(Held(ONE, "u1", version))
    found = memory.end(ONE.identity)
    assert found is not None
    assert found.version == "8"


def test_that_an_object_left_is_never_forgotten_while_held() -> None:
    memory = Memory()
    memory.begin(ONE.identity)
    memory.hold(Held(ONE, left=True))
    memory.hold(Held(ONE, "u2", "9"))
    found = memory.end(ONE.identity)
    assert found is not None
    assert found.left


def test_of_two_deeds_on_one_object_the_last_releases() -> None:
    memory = Memory()
    memory.begin(ONE.identity)
    memory.begin(ONE.identity)
    memory.hold(Held(ONE, "u1", "6"))
    assert memory.end(ONE.identity) is None
    assert memory.end(ONE.identity) is not None


def test_absent_objects_are_forgotten_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ABSENT", 2)
    memory = Memory()
    refs = [ObjectRef("v1", "ConfigMap", "default", name) for name in "abc"]
    for ref in refs:
        memory.put(_entry(ref, presence=Presence.ABSENT))
    assert [memory.get(ref) is None for ref in refs] == [True, False, False]
    memory.put(_entry(refs[1]))
    memory.put(_entry(refs[0], presence=Presence.ABSENT))
    assert memory.get(refs[1]) is not None, "it is there again"


def test_baselines_replace_what_was_remembered() -> None:
    memory = Memory()
    memory.put(_entry())
    two = ObjectRef("v1", "ConfigMap", "default", "two")
    memory.load([Baseline(two, "u2", "7", "d2", "k2", Presence.PRESENT, "default/shop")])
    assert [entry.ref.name for entry in memory] == ["two"]
