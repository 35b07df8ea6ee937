"""Situations made by hand, and a small world that is folded from its own facts, for decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from engine.decide.situation import Situation
from engine.objects.kept import freeze
from engine.objects.ownership import MANAGER
from events.catalog import Fact
from events.codec import encode
from events.event import Actor, Event, EventId, Micros, Position, StreamName, Version, digest_of
from events.vocabulary import Desired, Health, ObjectRef, Presence
from projections.clusters import ClusterDocument, KindState, kind_key
from projections.corrections import CORRECTIONS, CorrectionDocument
from projections.declared import DeclaredDocument
from projections.desired import DesiredDocument
from projections.drift import DRIFT, DriftDocument
from projections.fold import TargetId
from projections.observed import Applied, ObservedDocument
from projections.sources import SourceDocument
from projections.targets import TARGETS, TargetDocument

TARGET = TargetId("default", "shop", "prod")
NAMESPACE = "shop"
COMMIT, OTHER_COMMIT = "c0ffee00" * 5, "deadbeef" * 5
NOW = 1_700_000_000_000_000
KINDS: dict[str, tuple[str, bool]] = {
    "ConfigMap": ("v1", True),
    "Secret": ("v1", True),
    "Namespace": ("v1", False),
    "PersistentVolumeClaim": ("v1", True),
    "Deployment": ("apps/v1", True),
    "Job": ("batch/v1", True),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", False),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", False),
    "Widget": ("example.com/v1", True),
}
"""Kinds of every sort that a decision tells apart: their API version, and whether namespaced."""


def ref_of(kind: str, name: str = "a", namespace: str | None = None) -> ObjectRef:
    """Return where an object of a kind is on the cluster."""
    api_version, namespaced = KINDS[kind]
    place = (NAMESPACE if namespace is None else namespace) if namespaced else ""
    return ObjectRef(api_version, kind, place, name)


def declared_ref(ref: ObjectRef) -> ObjectRef:
    """Return an object's reference as a manifest without a namespace writes it."""
    return msgspec.structs.replace(ref, namespace="")


def live_body(value: str, manager: str = MANAGER, mine: bool = True) -> dict[str, Any]:
    """Return a live object whose only field is `.data.key`."""
    entry = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": "v1",
        "time": "2026-01-01T00:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:key": {}}},
    }
    return {
        "apiVersion": "v1",
        "metadata": {"managedFields": [entry] if mine else []},
        "data": {"key": value},
    }


class Stored:
    """Bodies by digest."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}

    def put(self, body: bytes) -> str:
        digest = digest_of(body)
        self.bodies[digest] = body
        return digest

    def live(self, value: str, **how: Any) -> str:
        return self.put(orjson.dumps(live_body(value, **how)))

    def kept(self, value: str) -> str:
        kept = freeze(live_body(value))
        assert kept is not None
        return self.put(kept.encode())


def observed(
    stored: Stored,
    ref: ObjectRef,
    *,
    presence: Presence = Presence.PRESENT,
    applied: str | None = "one",
    live: str | None = None,
    recreated: bool = False,
    health: Health = Health.HEALTHY,
    message: str = "",
    mine: bool = True,
) -> ObservedDocument:
    """Return an object as last seen: we applied the value `applied`, and it has `live` now.

    A value stands for a desired body too: what was applied is the digest `desired:<value>`.
    """
    value = live if live is not None else (applied or "one")
    uid = "uid-2" if recreated else "uid-1"
    as_applied = None
    if applied is not None:
        as_applied = Applied(
            desired=f"desired:{applied}",
            kept=stored.kept(applied),
            uid="uid-1",
            resource_version="1",
            digest=f"seen:{applied}:uid-1",
            position=5,
            at=NOW - 60_000_000,
        )
    is_there = presence is not Presence.ABSENT
    return ObservedDocument(
        ref=ref,
        application=f"{TARGET.project}/{TARGET.application}",
        cluster=TARGET.cluster,
        presence=presence,
        uid=uid,
        resource_version="2",
        digest=f"seen:{value}:{uid}" if is_there else "",
        body=stored.live(value, mine=mine) if is_there else None,
        health=health,
        message=message,
        seen=7,
        applied=as_applied,
    )


def application(
    *,
    mode: str = "auto",
    prune: bool = True,
    self_heal: bool = True,
    withdrawn: bool = False,
    position: int = 2,
    **sync: Any,
) -> DeclaredDocument:
    """Return the application's declaration; `sync` has more of its fields, as YAML writes them."""
    spec = {
        "source": {"repository": "shop", "path": "deploy"},
        "targets": {"clusters": [TARGET.cluster], "namespace": NAMESPACE},
        "sync": {"mode": mode, "prune": prune, "selfHeal": self_heal, **sync},
    }
    return DeclaredDocument(
        kind="Application",
        project=TARGET.project,
        name=TARGET.application,
        spec=spec,
        labels={},
        position=position,
        at=NOW - 100_000_000,
        actor="user:ada",
        withdrawn=withdrawn,
    )


def kinds(unknown: Mapping[str, str] | None = None, unlisted: Iterable[str] = ()) -> Any:
    """Return the kinds that a cluster was asked for: all but `unlisted`, `unknown` with a code."""
    return {
        kind_key(api_version, kind): KindState(
            namespaced, code=(unknown or {}).get(kind, ""), message="may not be listed"
        )
        for kind, (api_version, namespaced) in KINDS.items()
        if kind not in set(unlisted)
    }


def target(**changes: Any) -> TargetDocument:
    """Return the target, assigned."""
    known = TargetDocument(
        project=TARGET.project,
        application=TARGET.application,
        cluster=TARGET.cluster,
        version=3,
        position=9,
        namespace=NAMESPACE,
        assigned=True,
    )
    return msgspec.structs.replace(known, **changes)


def situation(
    objects: Mapping[ObjectRef, str] | None = None,
    there: Iterable[ObservedDocument] = (),
    stored: Stored | None = None,
    /,
    **changes: Any,
) -> Situation:
    """Return a situation: `objects` has a desired value for each object, `there` what is seen."""
    wanted = objects or {}
    made = Situation(
        target=target(),
        application=application(),
        source=SourceDocument(commit=COMMIT, resolved=COMMIT),
        desired=DesiredDocument(
            commit=COMMIT, declared=2, objects="inventory", count=len(wanted), position=4
        ),
        cluster=ClusterDocument(connected=True, since=NOW - 90_000_000, kinds=kinds()),
        corrections=CorrectionDocument(),
        drift=DriftDocument(),
        inventory=tuple(
            sorted(
                Desired(declared_ref(ref), f"desired:{value}", ref.kind == "Secret")
                for ref, value in wanted.items()
            )
        ),
        observed={document.ref.identity: document for document in there},
        bodies=stored.bodies if stored else {},
        seen=10,
        now=NOW,
    )
    return msgspec.structs.replace(made, **changes)


def event(fact: Fact, stream: str, position: int, version: int, now: int = NOW) -> Event:
    """Return a fact as the log would hold it."""
    return Event(
        position=Position(position),
        stream=StreamName(stream),
        version=Version(version),
        event_id=EventId(f"00000000-0000-7000-8000-{position:012x}"),
        type=type(fact).__name__,
        schema=fact.schema,
        recorded_at=Micros(now),
        occurred_at=Micros(now),
        actor=Actor("user:ada"),
        causation=None,
        correlation="",
        traceparent="",
        payload=encode(fact),
    )


def folded(made: Situation, facts: Iterable[Fact]) -> Situation:
    """Return the situation after a decision's own facts, as the views fold them."""
    now_target, drift, corrections = made.target, made.drift, made.corrections
    position, version = made.seen, now_target.version
    for fact in facts:
        position, version = position + 1, version + 1
        happened = event(fact, TARGET.stream, position, version, made.now)
        name = type(fact).__name__
        if name in TARGETS.types:
            now_target = TARGETS.apply(TARGET.stream, now_target, happened, fact) or now_target
        if name in DRIFT.types:
            drift = DRIFT.apply(TARGET.stream, drift, happened, fact) or drift
        if name in CORRECTIONS.types:
            corrections = (
                CORRECTIONS.apply(TARGET.stream, corrections, happened, fact) or corrections
            )
    return msgspec.structs.replace(
        made, target=now_target, drift=drift, corrections=corrections, seen=position
    )
