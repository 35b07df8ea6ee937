"""In which order a plan's actions are done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.decide.order import in_order, is_protected, wave_of
from events.vocabulary import Action, ObjectRef, Verb
from tests.deciding import KINDS, ref_of

actions = st.builds(
    lambda ref, verb: Action(verb, ref, "new", wave=wave_of(ref, verb)),
    st.builds(ref_of, st.sampled_from(sorted(KINDS)), st.sampled_from("abc")),
    st.sampled_from(Verb),
)


@given(st.lists(actions))
def test_the_order_does_not_depend_on_how_they_came_and_deletions_are_last(
    given_actions: list[Action],
) -> None:
    ordered = in_order(given_actions)
    assert ordered == in_order(list(reversed(given_actions)))
    assert sorted(ordered, key=lambda a: a.verb is Verb.DELETE) == list(ordered)


def test_what_others_need_comes_first_and_goes_last() -> None:
    chain = [
        ref_of("Namespace"),
        ref_of("CustomResourceDefinition"),
        ref_of("ConfigMap"),
        ref_of("Deployment"),
        ref_of("Widget"),
    ]
    applied = [wave_of(ref, Verb.APPLY) for ref in chain]
    assert applied == sorted(applied)
    deleted = [wave_of(ref, Verb.DELETE) for ref in chain]
    assert deleted == sorted(deleted, reverse=True)
    assert min(deleted) > max(applied)


def test_only_a_core_persistent_volume_claim_is_protected() -> None:
    assert is_protected(ref_of("PersistentVolumeClaim"))
    assert not is_protected(ObjectRef("example.com/v1", "PersistentVolumeClaim", "a", "b"))
