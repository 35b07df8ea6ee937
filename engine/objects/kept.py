"""The kept form: our fields of an object, as the server answered when they were last applied. Pure.

The field set is that of our manager in the answer, frozen: when others take fields over, the live
set shrinks, and the kept one does not. Its values are projected out of the answer, so that what
the server defaulted or normalised is no difference later.

`freeze` also takes what was sent, where the caller has it. FieldsV1 writes an empty map and an
atomic value alike, and only what was sent tells whether `strategy: {}` was named (its presence is
ours, and its defaults are not) or whether an atomic value was.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from engine.objects import compare
from engine.objects.canonical import trimmed
from engine.objects.fieldset import SELF, FieldSet, Tree, key_of, value_of
from engine.objects.identity import ObjectRefused
from engine.objects.managed import Managed, own_raw
from engine.objects.ownership import MANAGER
from engine.objects.quick import Quick, quick_of, unchanged
from engine.objects.shape import OPENED, UNSET, MapShape, shape_of
from engine.objects.typed import MISSING, NamedItems, counted, is_composite, is_empty, item_key
from events.vocabulary import Difference, ObjectRef

_FORMAT = 1


class Kept(Struct, frozen=True, dict=True):
    """What is ours in an object. Equal on every cluster that answered alike."""

    api_version: str
    """The version that the answer was in."""
    owned: dict[str, Any]
    """Our entry's FieldsV1, as the server wrote it."""
    values: dict[str, Any]
    """The object cut down to our fields; of lists our items, with their keys, in their order."""
    marks: dict[str, Any]
    """FieldsV1 with a mark at each leaf that needs one: see `UNSET` and `OPENED`."""
    format: int = _FORMAT

    @cached_property
    def fields(self) -> FieldSet:
        """Our field set."""
        return FieldSet.parse(self.owned)

    @cached_property
    def shape(self) -> MapShape:
        """The form that comparisons walk."""
        return shape_of(self.fields.tree, self.values, self.marks)

    @cached_property
    def quick(self) -> Quick:
        """The form that answers whether anything of ours differs."""
        return quick_of(self.shape)

    def encode(self) -> bytes:
        """Return the bytes to store; equal kept forms have equal bytes.

        Raises `ObjectRefused("bad-value")` on what is nested too deeply.
        """
        # Not the canonical form: that one would turn a kept 1.0 into 1, which is another value.
        try:
            return trimmed(orjson.dumps(msgspec.to_builtins(self), option=orjson.OPT_SORT_KEYS))
        except (TypeError, RecursionError) as error:
            raise ObjectRefused(
                "bad-value", f"The kept form cannot be written as JSON: {error}"
            ) from None

    @classmethod
    def decode(cls, body: bytes) -> Kept:
        """Read stored bytes. Raises `ObjectRefused("bad-kept")`."""
        try:
            kept = msgspec.convert(orjson.loads(body), cls)
        except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
            raise ObjectRefused("bad-kept", f"This is no kept form: {error}") from None
        if kept.format != _FORMAT:
            raise ObjectRefused("bad-kept", f"Kept form of unknown format {kept.format}.")
        return kept


def freeze(
    answer: Mapping[str, Any], manager: str = MANAGER, sent: Mapping[str, Any] | None = None
) -> Kept | None:
    """Return the kept form out of a server's answer to an apply; None where nothing is ours.

    `answer` is redacted beforehand, and `sent`, where given, is the body that was applied (its
    values are not kept). Raises `ObjectRefused("bad-fields")`.
    """
    own = Managed(answer, manager).own
    if own is None:
        return None
    marks: Tree = {}
    values = _frozen(own.fields.tree, answer, MISSING if sent is None else sent, marks)
    return Kept(str(answer.get("apiVersion", "")), own.raw, values, marks)


def extract(kept: Kept, live: Mapping[str, Any]) -> dict[str, Any]:
    """Cut a live object down to our fields: equal to `kept.values` where nothing differs.

    Order in lists is that of the live object, and duplicates of our items are all there.
    """
    if unchanged(kept.quick, live):
        return kept.values
    return compare.extracted(kept.shape, live, Managed(live))


def differences(kept: Kept, live: Mapping[str, Any], ref: ObjectRef) -> list[Difference]:
    """Return how a live object differs from what was kept, and who made it so.

    `live` is redacted as the kept form was. Drift comes first; where all values are equal but we
    no longer own all of them, the rest is of kind OWNERSHIP_LOST. Another uid and a pending
    deletion are the caller's to see. Raises `ObjectRefused("bad-fields")`.
    """
    return compare_with(kept, live, ref)[0]


def drift(kept: Kept, live: Mapping[str, Any], ref: ObjectRef) -> list[compare.Found]:
    """Return the differences of our values alone, each with its path in elements."""
    if unchanged(kept.quick, live):
        return []
    return compare.compared(kept.shape, live, Managed(live), ref)


def compare_with(
    kept: Kept, live: Mapping[str, Any], ref: ObjectRef, manager: str = MANAGER
) -> tuple[list[Difference], bool]:
    """Return the differences, and whether some of what differs is still ours.

    Then the server itself may have changed it, by an upgrade's new defaults say. One dry run of
    our apply tells: frozen, and without difference to the live object, it is the new kept form.
    """
    is_unchanged, is_owned = unchanged(kept.quick, live), own_raw(live, manager) == kept.owned
    if is_unchanged and is_owned:
        return [], False
    managed = Managed(live, manager)
    drift = [] if is_unchanged else compare.compared(kept.shape, live, managed, ref)
    paths = [found.path for found in drift]
    found = [found.difference for found in drift]
    if not is_owned:
        found += compare.ownership(kept.fields, managed, ref, paths)
    return found, any(managed.is_ours(path) for path in paths)


def _frozen(fields: Tree, answer: Mapping[str, Any], sent: Any, marks: Tree) -> dict[str, Any]:
    """Project an answer's map to our fields; collect the marks that are needed."""
    values: dict[str, Any] = {}
    for element, sub in fields.items():
        if element[:2] != "f:":
            continue
        name = element[2:]
        ours = _sent_field(sent, name)
        value = answer.get(name)
        if value is None:
            if not sub and _may_stay_unset(ours):
                marks[element] = UNSET
            continue
        inner: Tree = {}
        kept = _frozen_value(sub, value, ours, inner)
        if kept is not MISSING:
            values[name] = kept
        if inner:
            marks[element] = inner
        elif not sub and value and is_empty(kept):
            marks[element] = OPENED
    return values


def _frozen_value(sub: Tree, value: Any, ours: Any, marks: Tree) -> Any:
    if ours is None:
        return MISSING  # null was sent, so that whatever is there is not ours
    if not sub or not is_composite(value):
        if is_composite(value) and is_empty(ours):
            return type(value)()
        return value
    if type(value) is dict:
        inner = _frozen(sub, value, ours, marks)
        return inner if inner or SELF in sub else MISSING
    return _frozen_list(sub, value, ours, marks)


def _frozen_list(sub: Tree, value: list[Any], sent: Any, marks: Tree) -> Any:
    keys = {element: key_of(element) for element in sub if element[:2] == "k:"}
    if keys:
        return _frozen_items(sub, value, sent, marks, keys)
    ours = [value_of(element) for element in sub if element[:2] == "v:"]
    if not ours:
        return value  # by place only: as good as atomic
    # In the order of the field set and not of the list: a set has none.
    there = counted(value)
    return [item for item in ours if not is_composite(item) and (type(item), item) in there]


def _frozen_items(
    sub: Tree, value: list[Any], sent: Any, marks: Tree, keys: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    names = tuple(sorted({name for key in keys.values() for name in key}))
    by_key = {tuple(key.get(name) for name in names): element for element, key in keys.items()}
    named = NamedItems(sent, names)
    items: list[dict[str, Any]] = []
    for item in value:
        # Popped, so that of duplicates only the first is kept.
        found = item_key(item, names)
        element = by_key.pop(found, None) if found is not None else None
        if element is None:
            continue
        inner: Tree = {}
        key = keys[element]
        ours = named.find(tuple(key.get(name) for name in names))
        kept = _frozen(sub[element], item, ours, inner)
        # The keys are ours even where a default filled one in.
        items.append({**key, **kept})
        if inner:
            marks[element] = inner
    return items


def _sent_field(sent: Any, name: str) -> Any:
    return sent.get(name, MISSING) if isinstance(sent, Mapping) else MISSING


def _may_stay_unset(ours: Any) -> bool:
    """Whether a field that we named and the answer lacks was named as zero, as far as is known."""
    return ours is MISSING or (ours is not None and not ours)
