"""What a followed repository does becomes facts: each once, in order, with its cause."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import anyio
import pytest

from engine.people import People
from engine.resources.model import GitRef
from engine.sources.follower import Followed, RepositoryFollower, SourceState
from engine.sources.mirror import Mirrors, MirrorSettings
from events.actor_keys import MemoryActorKeys
from events.catalog import (
    CommitSeen,
    Fact,
    RefMoved,
    SourceChecked,
    SourceFailed,
    SourceRecovered,
)
from events.codec import fact_of
from events.event import START, Actor, Blob, Event, NewEvent, Position, StreamName
from events.log import Appended, LogUnavailable
from events.memory import MemoryLog
from events.sealed import Person, git_actor, unseal
from tests.fakes import ManualClock
from tests.repositories import Repository
from tests.serving import until

pytestmark = pytest.mark.anyio
STREAM = StreamName("repo/default/web")


class FlakyLog(MemoryLog):
    """A log that may be away, or lose an answer after it has written."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock.now)
        self.away = self.deaf = 0

    async def append(self, events: Sequence[NewEvent], blobs: Collection[Blob] = ()) -> Appended:
        if self.away:
            self.away -= 1
            raise LogUnavailable("away")
        appended = await super().append(events, blobs)
        if self.deaf:
            self.deaf -= 1
            raise LogUnavailable("the answer was lost")
        return appended


class Scene:
    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder / "git" / "web.git")
        self.folder = folder
        self.clock = ManualClock()
        self.log = FlakyLog(self.clock)
        self.keys = MemoryActorKeys()
        self.people = People(self.keys)

    def follower(
        self,
        state: SourceState | None = None,
        ref: GitRef | None = None,
        commits: int = 1000,
        url: str = "",
    ) -> RepositoryFollower:
        settings = MirrorSettings(
            folder=self.folder / "mirrors", repository_roots=(self.folder / "git",)
        )
        mirror = Mirrors(settings).open(url or self.repository.url)
        followed = Followed(STREAM, ref or GitRef(), 60.0, commits)
        return RepositoryFollower(
            followed, mirror, self.log, self.clock, state or SourceState(), self.people
        )

    async def key(self, actor: Actor) -> bytes:
        return (await self.keys.get([actor]))[actor]

    async def events(self, after: int = 0) -> Sequence[Event]:
        return [event for event in await self.log.read(START) if event.position > after]

    async def facts(self, after: int = 0) -> list[Fact]:
        return [fact_of(event) for event in await self.events(after)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_at_first_sight_the_tip_alone_is_recorded(scene: Scene) -> None:
    scene.repository.commit({"a": "1"}, "first")
    second = scene.repository.commit({"a": "2"}, "second\n\nat length", email="Bob@Example.org")
    follower = scene.follower()
    await follower.check()
    seen, moved = await scene.events()
    fact = fact_of(seen)
    assert isinstance(fact, CommitSeen)
    assert (fact.commit, fact.subject) == (second, "second")
    assert fact.committed_at == seen.occurred_at == 1_700_000_002_000_000
    assert seen.actor == git_actor(b"bob@example.org")
    assert b"ob@" not in seen.payload
    assert fact.committer is None
    assert unseal(fact.author, seen.actor, await scene.key(seen.actor)) == Person(
        "Ada", "Bob@Example.org"
    )
    assert fact_of(moved) == RefMoved("refs/heads/main", second)
    assert moved.actor == "engine:sources"
    assert seen.correlation == moved.correlation == moved.event_id
    assert {seen.stream, moved.stream} == {STREAM}
    assert follower.state == SourceState("refs/heads/main", second)


async def test_a_look_without_news_that_nobody_asked_for_is_no_event(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    follower = scene.follower()
    await follower.check()
    head = await scene.log.head()
    await follower.check()
    assert await scene.log.head() == head


async def test_each_new_commit_is_recorded_the_oldest_first(scene: Scene) -> None:
    first = scene.repository.commit({"a": "1"})
    follower = scene.follower()
    await follower.check()
    head = await scene.log.head()
    new = [scene.repository.commit({"a": str(number)}) for number in range(3)]
    await follower.check()
    facts = await scene.facts(head)
    assert [fact.commit for fact in facts if isinstance(fact, CommitSeen)] == new
    assert facts[-1] == RefMoved("refs/heads/main", new[-1], first)
    assert len({event.correlation for event in await scene.events(head)}) == 1


async def test_of_too_many_commits_the_newest_are_recorded_and_the_rest_counted(
    scene: Scene,
) -> None:
    scene.repository.commit({"a": "1"})
    follower = scene.follower(commits=2)
    await follower.check()
    head = await scene.log.head()
    new = [scene.repository.commit({"a": str(number)}) for number in range(5)]
    await follower.check()
    *seen, moved = await scene.facts(head)
    assert [fact.commit for fact in seen if isinstance(fact, CommitSeen)] == new[-2:]
    assert isinstance(moved, RefMoved)
    assert moved.skipped == 3


async def test_a_forced_push_is_said(scene: Scene) -> None:
    base = scene.repository.commit({"a": "1"})
    old = scene.repository.commit({"a": "2"})
    follower = scene.follower()
    await follower.check()
    head = await scene.log.head()
    new = scene.repository.commit({"a": "3"}, parents=[base])
    await follower.check()
    assert [type(fact) for fact in await scene.facts(head)] == [CommitSeen, RefMoved]
    assert (await scene.facts(head))[-1] == RefMoved("refs/heads/main", new, old, forced=True)
    head = await scene.log.head()
    scene.repository.move("main", base)
    await follower.check()
    assert await scene.facts(head) == [RefMoved("refs/heads/main", base, new, forced=True)]


async def test_a_deleted_ref_is_a_failure_once_and_its_return_a_recovery(scene: Scene) -> None:
    commit = scene.repository.commit({"a": "1"})
    follower = scene.follower(ref=GitRef(branch="main"))
    await follower.check()
    head = await scene.log.head()
    scene.repository.delete("refs/heads/main")
    await follower.check()
    await follower.check()
    (failed,) = await scene.facts(head)
    assert isinstance(failed, SourceFailed)
    assert failed.code == "ref-missing"
    assert follower.state.commit == commit, "the last good commit stays in force"
    head = await scene.log.head()
    scene.repository.move("main", commit)
    await follower.check()
    assert await scene.facts(head) == [SourceRecovered()]
    head = await scene.log.head()
    scene.repository.delete("refs/heads/main")
    await follower.check()
    scene.repository.commit({"a": "2"}, parents=[commit])
    await follower.check()
    kinds = [type(fact) for fact in await scene.facts(head)]
    assert kinds == [SourceFailed, SourceRecovered, CommitSeen, RefMoved]


async def test_a_failure_that_changes_is_recorded_again(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    failing = scene.follower(ref=GitRef(branch="gone"))
    await failing.check()
    aside = scene.repository.folder.with_name("aside.git")
    scene.repository.folder.rename(aside)
    await failing.check()
    codes = [fact.code for fact in await scene.facts() if isinstance(fact, SourceFailed)]
    assert codes == ["ref-missing", "path-refused"]


async def test_a_restarted_follower_goes_on_from_what_was_recorded(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    before = scene.follower()
    await before.check()
    head = await scene.log.head()
    new = scene.repository.commit({"a": "2"})
    after = scene.follower(before.state)
    await after.check()
    assert [type(fact) for fact in await scene.facts(head)] == [CommitSeen, RefMoved]
    assert after.state.commit == new
    failed = scene.follower(SourceState("refs/heads/main", new, "ref-missing", "gone"))
    head = await scene.log.head()
    await failed.check()
    assert await scene.facts(head) == [SourceRecovered()]


async def test_another_ref_or_repository_is_a_move_and_not_a_history(scene: Scene) -> None:
    first = scene.repository.commit({"a": "1"})
    scene.repository.commit({"a": "2"})
    scene.repository.commit({"a": "3"}, branch="next", parents=[first])
    tip = scene.repository.commit({"a": "4"}, branch="next")
    before = scene.follower()
    await before.check()
    head = await scene.log.head()
    await scene.follower(before.state, ref=GitRef(branch="next")).check()
    moved = RefMoved("refs/heads/next", tip, before.state.commit, forced=True)
    assert (await scene.facts(head))[-1] == moved
    assert len(await scene.facts(head)) == 2
    other = Repository(scene.folder / "git" / "other.git")
    elsewhere = other.commit({"b": "1"})
    head = await scene.log.head()
    await scene.follower(before.state, url=other.url).check()
    assert [type(fact) for fact in await scene.facts(head)] == [CommitSeen, RefMoved]
    assert (await scene.facts(head))[-1] == RefMoved(
        "refs/heads/main", elsewhere, before.state.commit, forced=True
    )


async def test_a_look_that_was_asked_for_is_answered_with_its_outcome(scene: Scene) -> None:
    commit = scene.repository.commit({"a": "1"})
    follower = scene.follower()
    await follower.check(Position(7))
    seen, moved, checked = await scene.events()
    assert fact_of(checked) == SourceChecked(7, commit)
    assert {seen.causation, moved.causation, checked.causation} == {7}
    await follower.check(Position(9))
    assert (await scene.facts())[-1] == SourceChecked(9, commit)
    scene.repository.delete("refs/heads/main")
    await follower.check(Position(11))
    assert (await scene.facts())[-1] == SourceChecked(11, commit, "ref-missing")


async def test_a_damaged_mirror_is_on_the_record(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    follower = scene.follower()
    await follower.check()
    head = await scene.log.head()
    for pack in (scene.folder / "mirrors").rglob("*.pack"):
        pack.chmod(0o600)
        pack.write_bytes(b"nonsense")
    await follower.check()
    failed, recovered = await scene.facts(head)
    assert isinstance(failed, SourceFailed)
    assert failed.code == "mirror-broken"
    assert recovered == SourceRecovered()


async def test_a_lost_answer_of_the_log_doubles_nothing(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    follower = scene.follower()
    scene.log.deaf = 1
    with pytest.raises(LogUnavailable):
        await follower.check()
    second = scene.repository.commit({"a": "2"})
    await follower.check()
    kinds = [type(fact) for fact in await scene.facts()]
    assert kinds == [CommitSeen, RefMoved, CommitSeen, RefMoved]
    assert follower.state.commit == second


async def test_it_looks_at_the_interval_and_whenever_poked(scene: Scene) -> None:
    scene.repository.commit({"a": "1"})
    follower = scene.follower()
    async with anyio.create_task_group() as group:
        group.start_soon(follower.run)
        await until(lambda: follower.state.commit != "")
        await scene.clock.settle()
        second = scene.repository.commit({"a": "2"})
        await scene.clock.advance(53)
        assert follower.state.commit != second, "a tenth less than the interval is the least"
        await scene.clock.advance(13.1)
        await until(lambda: follower.state.commit == second)
        third = scene.repository.commit({"a": "3"})
        follower.poke(Position(3))
        await until(lambda: follower.state.commit == third)
        group.cancel_scope.cancel()
    assert SourceChecked(3, third) in await scene.facts()


async def test_it_backs_off_while_it_fails_and_a_poke_is_still_heard(scene: Scene) -> None:
    follower = scene.follower(ref=GitRef(branch="main"))
    async with anyio.create_task_group() as group:
        group.start_soon(follower.run)
        await until(lambda: follower.state.failure_code == "ref-missing")
        await scene.clock.settle()
        commit = scene.repository.commit({"a": "1"})
        await scene.clock.advance(70)
        assert follower.state.commit == "", "twice the interval after the first failure"
        follower.poke()
        await until(lambda: follower.state.commit == commit)
        group.cancel_scope.cancel()


async def test_it_waits_for_a_log_that_is_away_and_forgets_no_request(scene: Scene) -> None:
    commit = scene.repository.commit({"a": "1"})
    scene.log.away = 2
    follower = scene.follower()
    follower.poke(Position(5))
    async with anyio.create_task_group() as group:
        group.start_soon(follower.run)
        await until(lambda: scene.log.away == 1)
        await scene.clock.settle()
        follower.poke()
        await until(lambda: scene.log.away == 0)
        await scene.clock.settle()
        follower.poke()
        await until(lambda: follower.state.commit == commit)
        group.cancel_scope.cancel()
    facts = await scene.facts()
    assert [type(fact) for fact in facts].count(RefMoved) == 1
    assert SourceChecked(5, commit) in facts


async def test_messages_hold_no_path_and_no_secret(scene: Scene, tmp_path: Path) -> None:
    for url in ("https://user:canary@example.com/a", f"file://{tmp_path}/elsewhere"):
        await scene.follower(url=url).check()
    for event in await scene.events():
        assert b"canary" not in event.payload
        assert str(tmp_path).encode() not in event.payload


async def test_a_subject_is_one_short_line_of_fit_characters(scene: Scene) -> None:
    scene.repository.commit({"a": "1"}, "\n\n\x1b[31mred\u202e " + "x" * 500 + "\nmore")
    await scene.follower().check()
    (fact, _) = await scene.facts()
    assert isinstance(fact, CommitSeen)
    assert fact.subject.startswith("[31mred")
    assert len(fact.subject) == 200
    assert "more" not in fact.subject
