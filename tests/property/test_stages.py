"""The way of a sync: whatever hooks and waves there are, and however often it is cut off."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.decide.decision import decide
from engine.decide.hooks import HOOK
from engine.decide.situation import Dependency, Situation
from engine.decide.stages import DEPENDENCY, HOOK_FAILED, WAVE
from engine.decide.why import why
from events.catalog import (
    CorrectionAbandoned,
    CorrectionApplied,
    CorrectionPlanned,
    HookEnded,
    ReconcileHeld,
    TargetSynced,
)
from events.vocabulary import Action, Desired, Health, Outcome, Presence, Result, Verb
from projections.observed import ObservedDocument
from tests.deciding import Stored, declared_ref, folded, observed, ref_of, situation

PHASES = ("pre-sync", "sync", "post-sync", "sync-fail")
waves = st.integers(-1, 2)
plain = st.builds(
    Desired,
    st.sampled_from("abc").map(lambda name: declared_ref(ref_of("Deployment", name))),
    st.just("desired:one"),
    wave=waves,
)
hooks = st.builds(
    Desired,
    st.tuples(st.sampled_from(["Job", "ConfigMap"]), st.sampled_from("xyz")).map(
        lambda which: declared_ref(ref_of(*which))
    ),
    st.just("desired:one"),
    wave=waves,
    hooks=st.just(("skip",))
    | st.sets(st.sampled_from(PHASES), min_size=1, max_size=2).map(lambda s: tuple(sorted(s))),
    cleanup=st.sampled_from([("before-hook-creation",), ("hook-succeeded",), ("hook-failed",)]),
)
inventories = st.lists(plain | hooks, min_size=1, max_size=7, unique_by=lambda item: item.ref)


KILLED = 12
"""After so many steps nobody is killed any more, so that it ends."""


class Life:
    """A target whose cluster is a dictionary."""

    def __init__(self, inventory: list[Desired], failing: str) -> None:
        self.stored, self.failing = Stored(), failing
        self.inventory = sorted(inventory)
        self.now: Situation = situation(
            {}, (), self.stored, inventory=tuple(self.inventory), bodies=self.stored.bodies
        )
        self.made: Counter[str] = Counter()
        self.steps: list[CorrectionPlanned] = []
        self.synced = False

    def wave_of(self, action: Action) -> int:
        name = action.ref.name.partition("-")[0]
        kind = action.ref.kind
        return next(i.wave for i in self.inventory if (i.ref.kind, i.ref.name) == (kind, name))

    def put(self, document: ObservedDocument) -> None:
        there = {**self.now.observed, document.ref.identity: document}
        self.now = replace(self.now, observed=there, bodies=self.stored.bodies)

    def act(self, action: Action) -> Result:
        identity = action.ref.identity
        if action.verb is Verb.DELETE:
            left = {key: item for key, item in self.now.observed.items() if key != identity}
            self.now = replace(self.now, observed=left)
            return Result(action.verb, action.ref, Outcome.DELETED)
        if identity not in self.now.observed:
            self.made[identity] += 1
            is_at_once = action.ref.kind == "ConfigMap"
            health = Health.HEALTHY if is_at_once else Health.PROGRESSING
            self.put(observed(self.stored, action.ref, health=health))
        return Result(action.verb, action.ref, Outcome.CREATED, desired=action.desired)

    def pass_time(self) -> bool:
        """Let what runs come to its end; False where nothing does."""
        running = [item for item in self.now.observed.values() if item.health is Health.PROGRESSING]
        for item in running:
            is_bad = bool(self.failing) and item.ref.name.startswith(self.failing)
            health = Health.DEGRADED if is_bad and item.ref.kind == "Job" else Health.HEALTHY
            self.put(replace(item, health=health, message="it says so"))
        return bool(running)

    def fold(self, *facts: Any) -> None:
        self.now = folded(self.now, facts)


def live(life: Life, draw: Any) -> str:
    """Live until nothing happens any more; return the code of what it is held by, or ""."""
    for _ in range(200):
        decision = decide(life.now)
        plan = decision.plan
        check_step(life, plan)
        life.fold(*decision.facts)
        life.synced |= any(isinstance(fact, TargetSynced) for fact in decision.facts)
        if plan is not None:
            life.steps.append(plan)
            position = life.now.seen
            if len(life.steps) < KILLED and draw(st.integers(0, 3)) == 0:
                # Killed: some of it was done, and no outcome is on record.
                for action in plan.actions[: draw(st.integers(0, len(plan.actions)))]:
                    life.act(action)
                life.fold(CorrectionAbandoned(position, "killed"))
            else:
                results = tuple(life.act(action) for action in plan.actions)
                life.fold(CorrectionApplied(position, results))
        elif not decision.facts and not life.pass_time():
            hold = life.now.target.hold
            return hold.code if hold else ""
    raise AssertionError("it goes on for ever")


def check_step(life: Life, plan: CorrectionPlanned | None) -> None:
    """Assert that what comes before a step is through."""
    work = [action for action in plan.actions if action.verb is Verb.APPLY] if plan else []
    ended = {hook.ref.identity for hook in life.now.corrections.hooks if hook.succeeded}
    before = [item for item in life.inventory if "pre-sync" in item.hooks]
    for action in work:
        if action.reason == HOOK and action.hook in ("pre-sync", "sync-fail"):
            continue
        pre = {h.ref.identity for h in life.now.corrections.hooks if h.phase == "pre-sync"}
        assert pre <= ended | newly_ended(life), "hooks before are through"
        assert len(pre) == len(before)
        wave = life.wave_of(action) if action.hook != "post-sync" else 99
        for item in life.inventory:
            if not item.hooks and item.wave < wave:
                there = life.now.observed[life.now.placed(item.ref, kind(life, item)).identity]
                assert there.health is Health.HEALTHY, "a wave waits for the ones before it"
    stages = {action.hook for action in work if action.hook}
    assert len(stages) <= 1, "a plan holds one step"


def newly_ended(life: Life) -> set[str]:
    facts = decide(life.now).facts
    return {f.ref.identity for f in facts if isinstance(f, HookEnded) and f.succeeded}


def kind(life: Life, item: Desired) -> Any:
    found = life.now.kind(item.ref)
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(inventories, st.sampled_from(["", "", "x", "y"]), st.data())
def test_a_sync_goes_its_way_and_each_hook_runs_once(
    inventory: list[Desired], failing: str, data: st.DataObject
) -> None:
    life = Life(inventory, failing)
    code = live(life, data.draw)
    assert set(life.made.values()) <= {1}, "nothing is made twice"
    assert code in ("", HOOK_FAILED)
    assert life.synced is (code == "")
    hooked = [hook for hook in life.now.corrections.hooks if hook.phase == "sync-fail"]
    if code == "":
        assert not hooked
        for item in life.inventory:
            if not item.hooks:
                assert life.made[ref_of("Deployment", item.ref.name).identity] == 1
        guards = why(life.now, None).guards
        assert all(guard.passes for guard in guards if guard.name == "order")
    assert all(hook.ended for hook in life.now.corrections.hooks)
    assert not [item for item in life.now.observed.values() if item.ref.name == "skip"]


@given(inventories)
def test_what_depends_on_another_application_waits_for_it(inventory: list[Desired]) -> None:
    assume(any(item.hooks != ("skip",) and item.hooks != ("sync-fail",) for item in inventory))
    life = Life(inventory, "")
    waits = Dependency("db", "target/default/db@prod", False, "it is pending, missing")
    held = decide(replace(life.now, dependencies=(waits,))).facts
    (hold,) = [fact for fact in held if isinstance(fact, ReconcileHeld)]
    assert (hold.code, hold.waits_for) == (DEPENDENCY, waits.stream)
    assert not [fact for fact in held if isinstance(fact, CorrectionPlanned)]


def test_a_wave_that_takes_its_time_is_waited_for_until_a_moment() -> None:
    first, second = (
        Desired(declared_ref(ref_of("Deployment", name)), "desired:one", wave=wave)
        for name, wave in (("a", 0), ("b", 1))
    )
    life = Life([first, second], "")
    life.fold(*decide(life.now).facts)
    life.fold(CorrectionApplied(life.now.seen, tuple(map(life.act, plan_actions(life)))))
    decision = decide(life.now)
    (hold,) = [fact for fact in decision.facts if isinstance(fact, ReconcileHeld)]
    assert hold.code == WAVE
    assert decision.until == hold.until == life.now.now + 600_000_000
    assert life.now.observed[ref_of("Deployment", "a").identity].presence is Presence.PRESENT


def plan_actions(life: Life) -> tuple[Action, ...]:
    plan = life.now.corrections.plan
    assert plan is not None
    return plan.actions
