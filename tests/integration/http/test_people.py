"""Who is behind a pseudonym: told to whoever is logged in, until somebody asks to forget it."""

from __future__ import annotations

import pytest

from engine.people import forget_again
from events.actor_keys import MemoryActorKeys
from events.catalog import ActorForgotten, CommitSeen
from events.event import Actor
from events.sealed import Person, git_actor
from events.vocabulary import SealedActor
from tests.serving import OTHER_SHA, SHA, Bench

pytestmark = pytest.mark.anyio
ADA, BOB = git_actor(b"ada@example.org"), git_actor(b"bob@example.org")
PEOPLE = {ADA: Person("Ada Canary", "ada@example.org"), BOB: Person("Bob", "bob@example.org")}
PATH = f"/v1/actors/{ADA}"


async def commit(api: Bench, sha: str = SHA) -> None:
    """See a commit of Ada's that Bob committed, and wait for the views."""
    sealed = await api.people.seal(PEOPLE)
    committer = SealedActor(BOB, sealed.get(BOB, ""))
    fact = CommitSeen(sha, (), "subject", 1, sealed.get(ADA, ""), committer)
    await api.views.reached(await api.tell("repo/default/shop", fact, actor=ADA))


async def test_author_and_committer_are_named_until_they_are_forgotten(api: Bench) -> None:
    await commit(api)
    told = await api.call("GET", PATH, status=200)
    assert (told["name"], told["email"], told["forgotten"]) == (
        "Ada Canary",
        "ada@example.org",
        None,
    )
    assert (await api.call("GET", f"/v1/actors/{BOB}", status=200))["name"] == "Bob"
    for path in ("/v1/timeline?subject=" + ADA, "/v1/events"):
        page = await api.call("GET", path, status=200)
        assert page["names"] == {ADA: "Ada Canary"}
    done = await api.call("POST", f"{PATH}/forget", {"reason": "request 17"}, status=200)
    assert (done["subject"], done["changed"]) == (ADA, True)
    again = await api.call("POST", f"{PATH}/forget", {"reason": "once more"}, status=200)
    assert (again["position"], again["changed"]) == (done["position"], False)
    gone = await api.call("GET", PATH, status=200)
    assert (gone["name"], gone["email"]) == ("", "")
    assert gone["forgotten"]["reason"] == "request 17"
    assert gone["forgotten"]["position"] == done["position"]
    assert (await api.call("GET", f"/v1/actors/{BOB}", status=200))["name"] == "Bob"
    page = await api.call("GET", "/v1/timeline?subject=" + ADA, status=200)
    assert page["names"] == {ADA: "forgotten"}
    assert [item["type"] for item in page["items"]] == ["CommitSeen", "ActorForgotten"]


async def test_what_comes_after_is_not_named_either(api: Bench) -> None:
    await commit(api)
    await api.call("POST", f"{PATH}/forget", {"reason": "gone"}, status=200)
    assert ADA not in await api.people.seal(PEOPLE)
    await commit(api, OTHER_SHA)
    assert (await api.call("GET", PATH, status=200))["name"] == ""


async def test_a_key_that_a_restore_brought_back_is_destroyed_again(api: Bench) -> None:
    await commit(api)
    await api.tell(f"actor/default/{ADA}", ActorForgotten(ADA, "killed before the deed"))
    assert ADA in await api.people.seal(PEOPLE)
    await forget_again(api.log, api.people)
    assert set(await api.people.seal(PEOPLE)) == {BOB}


async def test_a_name_whose_key_is_lost_is_not_told_and_no_error(api: Bench) -> None:
    await commit(api)
    api.people._keys = MemoryActorKeys()
    assert (await api.call("GET", PATH, status=200))["name"] == ""
    await api.people.seal(PEOPLE)  # other keys, under which the old text does not open
    told = await api.call("GET", PATH, status=200)
    assert (told["name"], told["forgotten"]) == ("", None)


async def test_who_is_not_there_or_has_no_pseudonym_is_refused(api: Bench) -> None:
    for method, path in (("GET", ""), ("POST", "/forget")):
        body = {"reason": "x"} if path else None
        told = await api.call(method, f"/v1/actors/{ADA}{path}", body, status=404)
        assert ADA in told["detail"]
        told = await api.call(method, f"/v1/actors/user:ada{path}", body, status=400)
        assert "stands in the record" in told["detail"]
        await api.call(method, f"/v1/actors/git:x{path}", body, status=404)
    await commit(api)
    await api.call("POST", f"{PATH}/forget", {}, status=400)
    await api.call("POST", f"{PATH}/forget", {"reason": " "}, status=400)
    assert Actor(ADA) in await api.people.seal(PEOPLE)
