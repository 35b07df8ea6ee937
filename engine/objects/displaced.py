"""What was edited in where ours was, and keeps it out: list items and alternatives. Pure.

An item of a list is told by its keys. Who edits a key (a Service's port from 80 to 81) has, as the
server books it, removed our item and added one of their own. An apply puts ours back beside theirs,
and where the two cannot be together (both are called "http") it is refused, for ever. What is moved
into our own entry of managedFields before the apply is taken away by it, in the same write.

So it is with alternatives: a `value` that became a `valueFrom`, an `httpGet` an `exec`, another
type of strategy with fields of its own. Where one of our fields is missing or changed, the edited
fields beside it that we do not name are moved too.

Only what was edited (operation Update) is moved: what another manager applies is its declaration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.objects.fieldset import SELF, FieldSet, Path, Tree, key_parts
from engine.objects.managed import Entry
from engine.objects.typed import (
    MISSING,
    NamedItems,
    child_of,
    is_composite,
    is_empty,
    is_nothing,
    item_key,
)


def taken_over(live: Mapping[str, Any], sent: Mapping[str, Any]) -> list[Any] | None:
    """Return managedFields in which such items are ours; None where there is none of them.

    `sent` is the body whose apply was refused. Raises `ObjectRefused("bad-fields")`.
    """
    entries = list(_entries(live))
    applied, own = next((each for each in entries if each[1].is_own()), (None, None))
    if own is None or applied is None:
        return None
    ours, others, is_any = own.fields, [], False
    for raw, entry in entries:
        if entry is own:
            continue
        theirs = entry.fields
        is_edit = entry.operation == "Update" and not entry.subresource
        if is_edit and entry.api_version == own.api_version:
            for path in list(_displaced(theirs.tree, own.fields.tree, live, sent, ())):
                item = _at(path, theirs.node(path) or {})
                ours, theirs, is_any = ours | item, theirs - item, True
        if theirs:
            others.append({**raw, "fieldsV1": theirs.raw()})
    return [{**applied, "fieldsV1": ours.raw()}, *others] if is_any else None


def _entries(live: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Entry]]:
    metadata = live.get("metadata")
    managed = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    for raw in managed if isinstance(managed, list) else ():
        if isinstance(raw, Mapping):
            yield raw, Entry(raw)


def _displaced(theirs: Tree, ours: Tree, live: Any, sent: Any, path: Path) -> Iterator[Path]:
    is_broken = path[:1] not in ((), ("f:metadata",)) and _is_broken(live, sent)
    for element, node in theirs.items():
        if element == SELF or element[0] not in "fk":
            continue
        here = (*path, element)
        if is_broken and element not in ours and element[2:] not in sent:
            yield here
            continue
        if element[0] == "k" and element not in ours and _is_in_place_of_ours(element, live, sent):
            yield here
            continue
        below_live, below_sent = child_of(live, element), _sent(sent, element)
        if below_live is not MISSING and below_sent is not MISSING:
            yield from _displaced(node, ours.get(element, {}), below_live, below_sent, here)


def _is_broken(live: Any, sent: Any) -> bool:
    """Whether a field of ours is missing, or has another value, in this mapping itself."""
    if type(live) is not dict or type(sent) is not dict:
        return False
    return any(
        field not in live or (not is_composite(value) and live[field] != value)
        for field, value in sent.items()
        if not is_empty(value) and not is_nothing(value)
    )


def _is_in_place_of_ours(element: str, live: Any, sent: Any) -> bool:
    """Whether an item that we do not want may be why one of ours cannot come back."""
    names, parts = key_parts(element)
    item = child_of(live, element)
    if item is MISSING or type(sent) is not list or type(live) is not list:
        return False
    if NamedItems(sent, names).find(parts) is not MISSING:
        return False
    present = [key for each in live if (key := item_key(each, names)) is not None]
    for wanted in sent:
        key = item_key(wanted, names)
        if key is None or any(_matches(key, other) for other in present):
            continue
        called = wanted.get("name"), item.get("name")
        # Where there are several, each needs a name of its own.
        if called[0] == called[1] or None in called:
            return True
    return False


def _matches(key: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two keys are the same; a field that the manifest leaves out has a default."""
    return all(mine in (None, theirs) for mine, theirs in zip(key, other, strict=True))


def _sent(sent: Any, element: str) -> Any:
    if element[0] == "k":
        names, parts = key_parts(element)
        return NamedItems(sent, names).find(parts)
    return child_of(sent, element)


def _at(path: Path, node: Tree) -> FieldSet:
    tree = node
    for element in reversed(path):
        tree = {element: tree}
    return FieldSet(tree)
