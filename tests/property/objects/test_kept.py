"""What is kept of any answer, and what any live object makes of it."""

from copy import deepcopy
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.objects import compare
from engine.objects.digest import change_digest
from engine.objects.foreign import foreign
from engine.objects.identity import ref_of
from engine.objects.kept import Kept, differences, extract, freeze
from engine.objects.managed import Managed
from engine.objects.mutated import mutated
from engine.objects.quick import unchanged
from engine.objects.typed import same_value
from events.vocabulary import DifferenceKind, Health, ObjectRef, Presence
from tests.property.objects.worlds import entry, maps, merged, obj, reordered

REF = ObjectRef("x.io/v1", "Thing", "", "thing")


def frozen(declared: dict[str, Any], answer: dict[str, Any], *, whole: bool) -> Kept:
    kept = freeze(answer, sent=obj(declared) if whole else None)
    assert kept is not None
    return kept


@given(maps, maps, st.booleans())
def test_an_answer_is_no_difference_to_itself(
    declared: dict[str, Any], defaults: dict[str, Any], whole: bool
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=whole)
    assert differences(kept, answer, REF) == []
    assert same_value(extract(kept, answer), kept.values)
    at_once, compared = (
        change_digest(kept, answer, [], Health.HEALTHY, "", Presence.PRESENT, is_frozen=is_frozen)
        for is_frozen in (True, False)
    )
    assert at_once == compared
    assert same_value(compare.extracted(kept.shape, answer, Managed(answer)), kept.values)
    assert foreign(kept, answer, REF, ()) == []


@given(maps, maps, st.booleans())
def test_a_kept_form_is_read_back_as_it_was(
    declared: dict[str, Any], defaults: dict[str, Any], whole: bool
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=whole)
    again = Kept.decode(kept.encode())
    assert again == kept
    assert same_value(again.values, kept.values)
    assert again.encode() == kept.encode()


@given(maps, maps, maps)
def test_what_nobody_declared_is_no_drift(
    declared: dict[str, Any], defaults: dict[str, Any], more: dict[str, Any]
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=True)
    live = obj(merged(merged(declared, defaults), more), entry(declared))
    assert differences(kept, live, REF) == []


@settings(max_examples=300, deadline=None)
@given(maps, maps, maps, maps)
def test_there_is_drift_just_where_our_values_differ(
    declared: dict[str, Any],
    defaults: dict[str, Any],
    other: dict[str, Any],
    theirs: dict[str, Any],
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=True)
    live = obj(merged(other, answer["spec"]), entry(declared), entry(theirs, "other", "Update"))
    drift = [d for d in differences(kept, live, REF) if d.kind.is_drift]
    values = compare.extracted(kept.shape, live, Managed(live))
    assert (not drift) == same_value(values, kept.values)
    assert same_value(extract(kept, live), values)
    if unchanged(kept.quick, live):
        assert drift == []
    if drift:
        assert not unchanged(kept.quick, live)


@given(maps, maps)
def test_the_order_of_keys_is_no_difference(
    declared: dict[str, Any], defaults: dict[str, Any]
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=True)
    assert differences(kept, reordered(answer), REF) == []


@given(maps, maps, maps)
def test_nothing_that_goes_in_is_changed(
    declared: dict[str, Any], defaults: dict[str, Any], other: dict[str, Any]
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    live = obj(other, entry(declared), entry(other, "other", "Update"))
    before = deepcopy((answer, live))
    kept = frozen(declared, answer, whole=True)
    encoded = kept.encode()
    differences(kept, live, REF)
    extract(kept, live)
    foreign(kept, live, REF)
    mutated(obj(declared), live, REF)
    assert (answer, live) == before
    assert kept.encode() == encoded


@given(maps, maps)
def test_another_managers_fields_are_foreign_and_ours_never_are(
    declared: dict[str, Any], theirs: dict[str, Any]
) -> None:
    answer = obj(declared, entry(declared))
    kept = frozen(declared, answer, whole=True)
    live = obj(merged(declared, theirs), entry(declared), entry(theirs, "other", "Update"))
    found = foreign(kept, live, REF)
    assert all(d.kind is DifferenceKind.FOREIGN and d.manager == "other" for d in found)
    if same_value(live["spec"], declared):
        assert found == []
    assert foreign(kept, live, REF, {"other"}) == []
    ours = {d.path for d in foreign(None, answer, REF)}
    assert ours.isdisjoint({d.path for d in found})


@given(maps, maps)
def test_whatever_is_sent_and_answered_as_declared_is_not_mutated(
    declared: dict[str, Any], defaults: dict[str, Any]
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    assert mutated(obj(declared), answer, REF) == []


@given(maps, maps)
def test_cleared_managed_fields_are_ownership_lost_and_no_drift(
    declared: dict[str, Any], defaults: dict[str, Any]
) -> None:
    answer = obj(merged(declared, defaults), entry(declared))
    kept = frozen(declared, answer, whole=True)
    live = deepcopy(answer)
    live["metadata"]["managedFields"] = []
    expected = [DifferenceKind.OWNERSHIP_LOST] if kept.owned else []
    assert [d.kind for d in differences(kept, live, ref_of(live))] == expected


@given(maps)
def test_differences_can_be_written_as_json(declared: dict[str, Any]) -> None:
    kept = frozen(declared, obj(declared, entry(declared)), whole=True)
    for found in differences(kept, obj({}), REF):
        orjson.dumps([found.before, found.after])
