"""The life of a target: commits, edits, failures and kills in any order, decided and carried out.

Decisions, outcomes and views are the real ones; the cluster is a dictionary, so that thousands of
lives can be lived. After whatever happened, what is desired is there, and the log tells it once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct
from msgspec.structs import replace

from engine.decide.decision import decide
from engine.decide.outcome import Backoff, conclude
from engine.decide.situation import Situation
from engine.decide.state import SyncState, status
from events.catalog import (
    ClusterConnected,
    ClusterLost,
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionFailed,
    CorrectionPlanned,
    DriftDetected,
    DriftResolved,
    Fact,
    ObjectsObserved,
    Resumed,
    SourceChecked,
    Suspended,
    SyncRequested,
    TargetSynced,
)
from events.event import Event
from events.vocabulary import (
    Action,
    Desired,
    Health,
    ObjectRef,
    Observation,
    Outcome,
    Presence,
    Result,
    Verb,
)
from projections.clusters import ClusterDocument
from projections.corrections import CORRECTIONS, CorrectionDocument
from projections.declared import DeclaredDocument
from projections.desired import DesiredDocument
from projections.drift import DRIFT, DriftDocument
from projections.observed import OBSERVED, ObservedDocument
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS
from tests.deciding import (
    COMMIT,
    NOW,
    TARGET,
    Stored,
    application,
    declared_ref,
    event,
    kinds,
    ref_of,
    situation,
    target,
)

NAMES = st.sampled_from("abc")
VALUES = st.sampled_from(["one", "two", "three"])
APPLICATION = f"{TARGET.project}/{TARGET.application}"
REPOSITORY = "repo/default/shop"
PASSES = 12


class Live(Struct):
    """An object of the cluster: its value, which one it is, and whether we are among its owners."""

    value: str
    uid: str
    version: int
    ours: bool = True


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stored = Stored()
        self.now, self.position, self.count = NOW, 20, 0
        self.versions: Counter[str] = Counter({TARGET.stream: 3})
        self.facts: list[tuple[int, Fact]] = []
        self.live: dict[str, Live] = {}
        self.wanted: dict[str, str] = {}
        self.refusals = 0
        self.connected = True
        self.seen: dict[str, ObservedDocument] = {}
        self.target = target()
        self.app: DeclaredDocument = application()
        self.source = SourceDocument(commit=COMMIT, resolved=COMMIT)
        self.desired = DesiredDocument()
        self.corrections, self.drift = CorrectionDocument(), DriftDocument()
        self.commit({"a": "one"})

    # The log and its views.

    def append(self, stream: str, fact: Fact) -> int:
        self.position += 1
        self.versions[stream] += 1
        self.now += 1000
        happened = event(fact, stream, self.position, self.versions[stream], self.now)
        self.facts.append((self.position, fact))
        name = type(fact).__name__
        if name in OBSERVED.types:
            for key in OBSERVED.keys(happened, fact):
                self._observe(key, happened, fact)
        if stream == TARGET.stream:
            if name in TARGETS.types:
                self.target = TARGETS.apply(stream, self.target, happened, fact) or self.target
            if name in DRIFT.types:
                self.drift = DRIFT.apply(stream, self.drift, happened, fact) or self.drift
            if name in CORRECTIONS.types:
                applied = CORRECTIONS.apply(stream, self.corrections, happened, fact)
                self.corrections = applied or self.corrections
        if name in SOURCES.types:
            self.source = SOURCES.apply(stream, self.source, happened, fact) or self.source
        return self.position

    def _observe(self, key: str, happened: Event, fact: Fact) -> None:
        identity = key.partition("|")[2]
        document = OBSERVED.apply(key, self.seen.get(identity), happened, fact)
        if document is None:
            self.seen.pop(identity, None)
        else:
            self.seen[identity] = document

    def situation(self) -> Situation:
        wanted = tuple(
            Desired(declared_ref(ref_of("ConfigMap", name)), f"desired:{value}")
            for name, value in sorted(self.wanted.items())
        )
        cluster = ClusterDocument(connected=self.connected, since=NOW, kinds=kinds())
        made = situation({}, (), self.stored, target=self.target, application=self.app)
        return replace(
            made,
            source=self.source,
            desired=self.desired,
            cluster=cluster,
            corrections=self.corrections,
            drift=self.drift,
            inventory=wanted,
            observed=dict(self.seen),
            seen=self.position,
            now=self.now,
        )

    # The cluster, and how it is seen.

    def observation(self, ref: ObjectRef) -> Observation:
        live = self.live.get(ref.name)
        if live is None:
            return Observation(ref, Presence.ABSENT, application=APPLICATION)
        return Observation(
            ref,
            Presence.PRESENT,
            uid=live.uid,
            resource_version=str(live.version),
            digest=f"seen:{live.value}:{live.uid}:{live.ours}",
            body=self.stored.live(live.value, mine=live.ours),
            application=APPLICATION,
            health=Health.HEALTHY,
        )

    def write(self, name: str, value: str, *, ours: bool = True, anew: bool = False) -> None:
        self.count += 1
        old = self.live.get(name)
        uid = f"uid-{self.count}" if old is None or anew else old.uid
        self.live[name] = Live(value, uid, self.count, ours)

    def look(self) -> None:
        """Record what changed, as the cluster's reader would."""
        refs = [ref_of("ConfigMap", name) for name in "abc"]
        changed = []
        for ref in refs:
            now, known = self.observation(ref), self.seen.get(ref.identity)
            before = (known.presence, known.digest) if known else (Presence.ABSENT, "")
            if (now.presence, now.digest) != before:
                changed.append(now)
        if changed:
            self.append(TARGET.cluster_stream, ObjectsObserved(tuple(changed), "watch"))

    def do(self, action: Action) -> Result:
        live = self.live.get(action.ref.name)
        stale = (live.uid if live else "") != action.uid and bool(action.uid)
        if self.refusals:
            self.refusals -= 1
            return Result(action.verb, action.ref, Outcome.FORBIDDEN, message="no")
        if action.observed and live and self.observation(action.ref).digest != action.observed:
            stale = True
        if stale:
            return Result(action.verb, action.ref, Outcome.STALE, message="moved on")
        if action.verb is Verb.DELETE:
            assert live is not None
            assert action.ref.name not in self.wanted, "what is desired is never deleted"
            del self.live[action.ref.name]
            gone = self.observation(action.ref)
            return Result(action.verb, action.ref, Outcome.DELETED, observed=gone)
        value = action.desired.partition(":")[2]
        self.write(action.ref.name, value)
        now = self.observation(action.ref)
        outcome = Outcome.CHANGED if live else Outcome.CREATED
        return Result(
            action.verb,
            action.ref,
            outcome,
            desired=action.desired,
            uid=now.uid,
            resource_version=now.resource_version,
            kept=self.stored.kept(value),
            observed=now,
        )

    def settle(self, kill_after: int | None = None) -> None:
        """Decide and act until there is nothing to do; perhaps be killed after some deeds."""
        for _ in range(PASSES):
            plan = self.corrections.plan
            if plan:
                self.append(TARGET.stream, CorrectionAbandoned(plan.position, "killed"))
                continue
            decision = decide(self.situation())
            if not decision.facts:
                return
            for fact in decision.facts:
                self.append(TARGET.stream, fact)
            if decision.plan:
                position = self.corrections.plan.position if self.corrections.plan else 0
                results = []
                for index, action in enumerate(decision.plan.actions):
                    if kill_after == index:
                        self.look()
                        kill_after = None
                        break
                    results.append(self.do(action))
                else:
                    self.append(TARGET.stream, self.outcome(position, decision.plan, results))
        raise AssertionError(f"it does not come to rest: {self.facts[-12:]}")

    def outcome(self, position: int, plan: CorrectionPlanned, results: list[Result]) -> Fact:
        return conclude(
            position, plan.attempt, results, now=self.now, chance=0.5, backoff=Backoff()
        )

    def happened(self, kill_after: int | None = None) -> None:
        if self.connected:
            self.look()
        self.settle(kill_after)

    # What can happen.

    def commit(self, wanted: dict[str, str]) -> None:
        self.position += 1
        self.wanted = dict(wanted)
        self.desired = DesiredDocument(
            COMMIT, declared=2, objects="inventory", count=len(wanted), position=self.position
        )

    @rule(wanted=st.dictionaries(NAMES, VALUES, min_size=1), kill=st.none() | st.integers(0, 2))
    def a_commit(self, wanted: dict[str, str], kill: int | None) -> None:
        self.commit(wanted)
        self.happened(kill)

    @rule(name=NAMES, value=VALUES, ours=st.booleans(), anew=st.booleans())
    def an_edit(self, name: str, value: str, ours: bool, anew: bool) -> None:
        if name in self.live:
            self.write(name, value, ours=ours, anew=anew)
            self.happened()

    @rule(name=NAMES)
    def a_deletion(self, name: str) -> None:
        self.live.pop(name, None)
        self.happened()

    @rule(name=NAMES, value=VALUES)
    def an_edit_while_we_are_at_it(self, name: str, value: str) -> None:
        if name in self.live:
            self.write(name, value)  # not seen yet: the deed finds it stale
            self.settle()
            self.happened()

    @rule(number=st.integers(1, 3))
    def refusals_to_come(self, number: int) -> None:
        self.refusals = number

    @rule()
    def time_passes(self) -> None:
        self.now += 600_000_000
        self.happened()

    @rule()
    def suspend_or_resume(self) -> None:
        fact = Resumed("over") if self.target.suspended else Suspended("freeze")
        self.append(TARGET.stream, fact)
        self.happened()

    @rule()
    def the_cluster_goes_or_comes_back(self) -> None:
        self.connected = not self.connected
        fact = ClusterConnected("v1") if self.connected else ClusterLost("unreachable", "no route")
        self.append(TARGET.cluster_stream, fact)
        self.happened()

    @rule(answered=st.booleans())
    def somebody_asks_for_a_sync(self, answered: bool) -> None:
        position = self.append(TARGET.stream, SyncRequested("now"))
        self.happened()
        if answered:
            self.append(REPOSITORY, SourceChecked(position, COMMIT))
            self.happened()

    @rule(prune=st.booleans(), self_heal=st.booleans(), mode=st.sampled_from(["auto", "manual"]))
    @precondition(lambda self: not self.target.suspended)
    def another_policy(self, prune: bool, self_heal: bool, mode: str) -> None:
        self.app = self._policy(prune=prune, self_heal=self_heal, mode=mode)
        self.happened()

    def _policy(self, **how: Any) -> DeclaredDocument:
        made = application(**how)
        sync = {**made.spec["sync"], "pruneLimit": 100}
        return replace(made, spec={**made.spec, "sync": sync})

    # What holds at any time, and at the end.

    @invariant()
    def each_case_is_opened_and_ended_once(self) -> None:
        ended: set[str] = set()
        opened: list[str] = []
        for _, fact in self.facts:
            if isinstance(fact, DriftDetected):
                assert fact.case not in ended, "a case that ended is not told again"
                if fact.case not in opened:
                    assert set(opened) <= ended, "one case at a time"
                    opened.append(fact.case)
            elif isinstance(fact, DriftResolved):
                assert fact.case in opened
                assert fact.case not in ended
                ended.add(fact.case)

    @invariant()
    def each_plan_has_one_end(self) -> None:
        ends = (CorrectionApplied, CorrectionFailed, CorrectionAbandoned)
        planned = [where for where, fact in self.facts if isinstance(fact, CorrectionPlanned)]
        ended = [fact.plan for _, fact in self.facts if isinstance(fact, ends)]
        assert sorted(ended) == planned

    @invariant()
    def nothing_is_said_twice_in_a_row(self) -> None:
        for (_, before), (_, after) in zip(self.facts, self.facts[1:], strict=False):
            assert before != after or isinstance(after, SyncRequested)

    @invariant()
    def what_is_said_to_be_synced_is(self) -> None:
        if self.connected and status(self.situation()).sync is SyncState.SYNCED:
            assert {name: self.live[name].value for name in self.wanted} == self.wanted

    def teardown(self) -> None:
        """Everything is mended, and left to itself."""
        self.refusals, self.connected = 0, True
        self.app = self._policy()
        if self.target.suspended:
            self.append(TARGET.stream, Resumed("over"))
        request = self.target.request
        if request:
            self.append(REPOSITORY, SourceChecked(request.position, COMMIT))
        for _ in range(3):
            self.now += 600_000_000
            self.happened()
        there = {name: live.value for name, live in self.live.items()}
        copies = {name for name, live in self.live.items() if not live.ours}
        assert {name: there.get(name) for name in self.wanted} == self.wanted
        assert there.keys() - self.wanted.keys() <= copies
        assert self.drift.open is None
        synced = self.target.synced
        assert synced
        assert synced.desired == self.desired.position
        assert status(self.situation()).sync is SyncState.SYNCED


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)


def test_what_could_not_be_corrected_and_was_put_back_is_synced_again() -> None:
    life = Life()
    life.happened()
    life.refusals_to_come(number=1)
    life.write("a", "two")
    life.happened()
    assert status(life.situation()).sync is SyncState.FAILED
    life.write("a", "one")
    life.happened()
    assert status(life.situation()).sync is SyncState.SYNCED
    assert isinstance(life.facts[-1][1], TargetSynced)
    said = len(life.facts)
    life.happened()
    assert len(life.facts) == said
