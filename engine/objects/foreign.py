"""Fields of a live object that nobody declared: another manager's, or forged in our name. Pure.

They are shown, and left unless a policy says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from engine.objects.compare import Found, difference, limited
from engine.objects.fieldset import SELF, FieldSet, Path, Tree, key_parts
from engine.objects.kept import Kept
from engine.objects.managed import STATUS, Entry, entries_of
from engine.objects.ownership import MANAGER, OWNER_ANNOTATION, OWNER_LABEL
from engine.objects.typed import MISSING, child_of, is_empty, item_key
from events.vocabulary import Difference, DifferenceKind, ObjectRef

ALLOWED: Final = frozenset({"kube-controller-manager", "clusterrole-aggregation-controller"})
"""Managers whose fields are part of a cluster's own working."""

# Injectors write a CA's certificate here, whatever they call themselves.
_CA_BUNDLE = frozenset(
    {
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
    }
)
_SCALED = frozenset(
    {
        ("", "ReplicationController"),
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
    }
)
"""Kinds whose replicas are 1 where nobody says otherwise."""
_REPLICAS = ("f:spec", "f:replicas")
_OURS = (
    ("f:metadata", "f:labels", f"f:{OWNER_LABEL}"),
    ("f:metadata", "f:annotations", f"f:{OWNER_ANNOTATION}"),
)


def foreign(
    kept: Kept | None,
    live: Mapping[str, Any],
    ref: ObjectRef,
    allowed: Collection[str] = ALLOWED,
    manager: str = MANAGER,
) -> list[Difference]:
    """Return the fields of a live object that are not ours, each with its value as `after`.

    `live` is redacted beforehand. A field within another that is listed is not listed again for
    the same manager; replicas that were scaled without a trace are listed without an author. Not
    listed: status, what `allowed` managers own, injected caBundles, and what an entry names that
    the object no longer has. Raises `ObjectRefused("bad-fields")`.
    """
    found = foreign_found(kept, live, ref, allowed, manager)
    return [item.difference for item in limited(found, ref)]


def foreign_found(
    kept: Kept | None,
    live: Mapping[str, Any],
    ref: ObjectRef,
    allowed: Collection[str] = ALLOWED,
    manager: str = MANAGER,
) -> list[Found]:
    """Return what `foreign` returns, each with its path in elements, and all of it."""
    ours = kept.fields if kept is not None else FieldSet({})
    found: list[Found] = []
    for entry in entries_of(live):
        if entry.subresource == STATUS or entry.manager in allowed:
            continue
        # Our own entry, when it is not what was kept, was written by somebody in our name.
        if kept is not None and entry.is_own(manager) and entry.raw == kept.owned:
            continue
        walk = _Walk(kept, entry, ref)
        tree = {key: sub for key, sub in entry.fields.tree.items() if key != "f:status"}
        walk.node(tree, ours.tree, live, ())
        found += walk.found
    if kept is not None and (scaled := _scaled(kept, live, ref)) is not None:
        found.append(scaled)
    return found


def _scaled(kept: Kept, live: Mapping[str, Any], ref: ObjectRef) -> Found | None:
    """Return the replicas that somebody set though no entry says so.

    The server books a scale to whoever scales where the field was owned, and to nobody where it
    was not: all that shows is that it is no longer the default.
    """
    if (ref.group, ref.kind) not in _SCALED or kept.fields.reaches(_REPLICAS):
        return None
    spec = live.get("spec")
    value = spec.get("replicas", 1) if isinstance(spec, Mapping) else 1
    if value == 1 or any(entry.fields.reaches(_REPLICAS) for entry in entries_of(live)):
        return None
    kind = DifferenceKind.FOREIGN
    return Found(_REPLICAS, difference(kind, ref, _REPLICAS, MISSING, value, None))


class _Walk:
    """Walks one entry's fields beside ours and beside the live object."""

    def __init__(self, kept: Kept | None, entry: Entry, ref: ObjectRef) -> None:
        self.kept, self.entry, self.ref = kept, entry, ref
        self.found: list[Found] = []

    def node(self, theirs: Tree, ours: Tree | None, live: Any, path: Path) -> None:
        """Report what is below a path; `ours` is None where nothing of ours is there or below."""
        keys = key_parts(path[-1])[0] if path and path[-1][:2] == "k:" and ours is not None else ()
        for element, sub, value in _children(theirs, live):
            inner = (*path, element)
            mine = None if ours is None else ours.get(element)
            if mine is None:
                # The keys of our list items are ours, also where a default filled them in.
                if element[2:] in keys or inner in _OURS:
                    continue
                if not sub or SELF in sub:
                    self.add(inner, value)
                else:
                    self.node(sub, None, value, inner)
            elif mine:
                self.node(sub, mine, value, inner)
            elif sub and self.is_empty_of_ours(inner):
                self.node(sub, None, value, inner)

    def is_empty_of_ours(self, path: Path) -> bool:
        """Whether we named an empty map or list at a member of ours without children.

        Else it is an atomic value, all of which is ours: who names parts of it looks at it in
        another API version.
        """
        value: Any = self.kept.values if self.kept is not None else {}
        for element in path:
            value = child_of(value, element)
        return value is MISSING or is_empty(value) or path[-1][:2] == "k:"

    def add(self, path: Path, value: Any) -> None:
        if path[-1] == "f:caBundle" and (self.ref.group, self.ref.kind) in _CA_BUNDLE:
            return
        kind = DifferenceKind.FOREIGN
        self.found.append(Found(path, difference(kind, self.ref, path, MISSING, value, self.entry)))


def _children(node: Tree, live: Any) -> Iterator[tuple[str, Tree, Any]]:
    """Yield the elements of a node that exist in the live object, with their nodes and values."""
    indexes: dict[tuple[str, ...], dict[tuple[Any, ...], Any]] = {}
    for element, sub in node.items():
        if element == SELF:
            continue
        if element[:2] == "k:" and type(live) is list:
            names, parts = key_parts(element)
            if names not in indexes:
                # A list may have thousands of items, so that each is looked at once.
                pairs = ((item_key(item, names), item) for item in reversed(live))
                indexes[names] = {key: item for key, item in pairs if key is not None}
            value = indexes[names].get(parts, MISSING)
        else:
            value = child_of(live, element)
        if value is not MISSING:
            yield element, sub, value
