"""Payloads come back as they went in, old shapes are upcast, and later ones are carried along."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import codec
from events.catalog import CATALOG, CommitSeen, CorrectionPlanned, Fact, Facts, SourceFailed
from events.codec import CodecError, UnknownFact, encode, fact_of, type_of
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version
from events.shapes import ADDED
from events.vocabulary import Action, ObjectRef, Verb


def event(name: str, schema: int, payload: bytes) -> Event:
    return Event(
        position=Position(7),
        stream=StreamName("repo/default/a"),
        version=Version(1),
        event_id=EventId("01890000-0000-7000-8000-000000000000"),
        type=name,
        schema=schema,
        recorded_at=Micros(1),
        occurred_at=Micros(1),
        actor=Actor("user:a"),
        causation=None,
        correlation="",
        traceparent="",
        payload=payload,
    )


def round_trip(fact: Fact) -> Fact:
    name, schema = type_of(fact)
    return fact_of(event(name, schema, encode(fact)))


# `Any` stands for JSON, which is what comes back.
json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
st.register_type_strategy(type(Any), json)


@pytest.mark.parametrize("name", sorted(CATALOG))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_type_of_the_catalogue_survives(name: str, data: st.DataObject) -> None:
    cls = CATALOG[name]
    fields = {
        field.name: data.draw(_values(field.type), label=field.name)
        for field in msgspec.structs.fields(cls)
    }
    fact = cls(**fields)
    assert round_trip(fact) == fact


def _values(kind: Any) -> st.SearchStrategy[Any]:
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if kind is str:
        return st.text(max_size=10)
    if kind == dict[str, Any]:
        return st.dictionaries(st.text(max_size=5), json, max_size=3)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return st.fixed_dictionaries(
            {field.name: _values(field.type) for field in msgspec.structs.fields(kind)}
        ).map(lambda fields: kind(**fields))
    arguments = getattr(kind, "__args__", ())
    if getattr(kind, "__origin__", None) is tuple:
        return st.lists(_values(arguments[0]), max_size=2).map(tuple)
    if arguments and getattr(kind, "__origin__", None) is None:  # a union
        return st.one_of(*(_values(one) for one in arguments))
    return json if kind is Any else st.from_type(kind)


def test_defaults_are_left_out_and_fields_keep_their_order() -> None:
    assert encode(CommitSeen("c0ffee")) == b'{"commit":"c0ffee"}'
    assert encode(CommitSeen("c0ffee", ("a",), "s", 3)) == (
        b'{"commit":"c0ffee","parents":["a"],"subject":"s","committed_at":3}'
    )
    ref = ObjectRef("apps/v1", "Deployment", "web", "front")
    plan = CorrectionPlanned("c0", Facts(3), (Action(Verb.APPLY, ref, "missing"),), "drift")
    assert encode(plan) == (
        b'{"commit":"c0","facts":{"seen":3},"actions":[{"verb":"apply","ref":{"api_version":'
        b'"apps/v1","kind":"Deployment","namespace":"web","name":"front"},"reason":"missing"}],'
        b'"cause":"drift"}'
    )


def test_a_type_or_schema_of_a_later_release_is_carried_along() -> None:
    assert fact_of(event("NotYet", 1, b"{}")) == UnknownFact("NotYet", 1, b"{}")
    later = b'{"commit":{"of":"another shape"}}'
    assert fact_of(event("CommitSeen", 9, later)) == UnknownFact("CommitSeen", 9, later)


def test_a_field_of_a_later_release_is_passed_over() -> None:
    assert fact_of(event("CommitSeen", 1, b'{"commit":"c0","new":1}')) == CommitSeen("c0")


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"commit":1}', b"{}", b"\xff\x00"])
def test_bytes_that_are_not_what_the_envelope_says_are_an_error(payload: bytes) -> None:
    with pytest.raises(CodecError, match="position 7"):
        fact_of(event("CommitSeen", 1, payload))


def test_old_shapes_are_upcast_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class Renamed(SourceFailed, frozen=True):
        schema = 3

    def first(plain: dict[str, Any]) -> dict[str, Any]:
        return {"code": plain["reason"], "text": plain["text"]}

    def second(plain: dict[str, Any]) -> dict[str, Any]:
        return {"code": plain["code"], "message": plain["text"]}

    monkeypatch.setitem(codec.CATALOG, "Renamed", Renamed)
    monkeypatch.setitem(codec._decoders, "Renamed", msgspec.json.Decoder(Renamed))
    monkeypatch.setitem(codec.UPCASTERS, ("Renamed", 1), first)
    monkeypatch.setitem(codec.UPCASTERS, ("Renamed", 2), second)
    today = Renamed("dns", "no such host")
    assert fact_of(event("Renamed", 1, b'{"reason":"dns","text":"no such host"}')) == today
    assert fact_of(event("Renamed", 2, b'{"code":"dns","text":"no such host"}')) == today
    assert fact_of(event("Renamed", 3, encode(today))) == today
    with pytest.raises(CodecError):
        fact_of(event("Renamed", 1, b"[]"))
    with pytest.raises(CodecError):
        fact_of(event("Renamed", 0, b"{}"))


def test_every_older_schema_of_the_catalogue_has_its_upcaster_or_only_gained_fields() -> None:
    needed = {(name, schema) for name, cls in CATALOG.items() for schema in range(1, cls.schema)}
    gained = {(name, schema - 1) for name, schema in ADDED}
    assert gained | set(codec.UPCASTERS) == needed
    assert not gained & set(codec.UPCASTERS)
