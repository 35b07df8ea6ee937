"""A commit: what it changed, and where it is live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from aiohttp import web
from msgspec import Struct

from engine.decide.state import SyncState, TargetStatus
from engine.http.api import Api, api_of
from engine.http.moment import Moment, reading
from engine.http.pages.fleet import standing_of
from engine.http.pages.paths import to
from engine.http.pages.render import page, see
from engine.http.pages.story import rows
from engine.http.pages.target import LATEST, latest
from engine.http.people import names_of
from engine.http.problem import not_found
from engine.http.standing import standings
from engine.http.subjects import resolve
from engine.http.wire import Query
from engine.situations import Inventories
from events.catalog import DesiredRendered, RevisionResolved
from events.codec import CodecError, fact_of
from events.event import Event, stream
from events.vocabulary import Desired, ObjectRef
from projections.commits import COMMITS, CommitDocument, commit_key
from projections.declared import DECLARED
from projections.desired import DESIRED
from projections.fleet import FLEET, SYNCED
from projections.projection import Reader
from projections.sources import SOURCES
from projections.targets import TARGETS
from projections.timeline import TIMELINE, commit_subject
from projections.views import read_all

routes = web.RouteTableDef()
MOST_EVENTS = 1000
MOST_TARGETS = 200
MOST_CHANGES = 200


class Change(Struct, frozen=True):
    """An object that a render wants otherwise than the one before it did."""

    ref: ObjectRef
    how: str


class Effect(Struct, frozen=True):
    """What a commit meant for one application; `changes` is None where that cannot be told."""

    project: str
    application: str
    rendered: int
    count: int
    changes: Sequence[Change] | None
    failed: bool = False


class Spread(Struct, frozen=True):
    """How many targets of an application are synced, and so at the commit that is its newest."""

    application: str
    synced: int


@routes.get("/commits/{project}/{commit:[0-9a-f]{4,40}}")
async def show_commit(request: web.Request) -> web.Response:
    """Show a commit; a shortened id leads to the whole one."""
    api, query = api_of(request), Query(request)
    at = query.text("at").strip()
    query.done()
    project, sha = request.match_info["project"], request.match_info["commit"]
    async with reading(api, at) as moment:
        reader = moment.reader
        if len(sha) < 40:
            subject = await resolve(reader, f"commit/{sha}", project)
            return see(to("commits", project, subject.partition("/")[2], at=at))
        found = await reader.get(COMMITS, commit_key(project, sha))
        if found is None:
            raise not_found(f"no commit {sha[:12]} was seen in project {project}")
        subject = commit_subject(sha)
        positions = await reader.subjects(TIMELINE, subject, limit=MOST_EVENTS, newest_first=True)
        events = list(reversed(await api.log.read_at(positions)))
        effects = await _effects(api, reader, project, events)
        live, gone = await _targets(moment, project, sha, events)
        spread = await _spread(reader, project, found.document) if not at else []
        standing = await standing_of(api, moment)
        newest = await latest(reader, subject)
    shown = events[: len(newest)]
    called = await names_of(api, {found.document.author, *(event.actor for event in shown)})
    return page(
        request,
        "commit.html",
        commit=found.document,
        author=called.get(found.document.author, ""),
        project=project,
        effects=effects,
        spread=spread,
        live=live[:MOST_TARGETS],
        all_live=len(live),
        gone=gone[:MOST_TARGETS],
        all_gone=len(gone),
        subject=subject,
        rows=rows(shown, called),
        more=len(newest) == LATEST,
        at=at,
        **standing,
    )


async def _targets(
    moment: Moment, project: str, sha: str, events: Sequence[Event]
) -> tuple[list[TargetStatus], list[TargetStatus]]:
    """Return the targets that were synced to a commit: those still at it, and those beyond."""
    streams = {event.stream for event in events if event.type == "TargetSynced"}
    found = await moment.reader.get_many(TARGETS, streams)
    documents = [item.document for _, item in sorted(found.items()) if item.document.assigned]
    status = [
        item
        for item in await standings(moment.reader, documents, moment.now)
        if item.project == project and item.sync is not SyncState.UNASSIGNED
    ]
    live = [item for item in status if item.revision == sha]
    return live, [item for item in status if item.revision != sha]


async def _spread(reader: Reader, project: str, commit: CommitDocument) -> list[Spread]:
    """Return where the commit is live as the newest of its repository, touched by it or not.

    A target that is in the desired state of the newest commit is at that commit, also where
    nothing had to be done for it and so no event says so.
    """
    keys = [stream("repo", project, name) for name in commit.repositories]
    sources = await reader.get_many(SOURCES, keys)
    newest = [key for key, found in sources.items() if found.document.resolved == commit.commit]
    apps: dict[str, str] = {}
    for key in newest:
        for found in await read_all(reader, DECLARED, where={"repository": key}):
            apps[found.key] = found.document.name
    desired = await reader.get_many(DESIRED, apps)
    tally = await reader.tally(FLEET, ("application", "state"), prefix=f"target/{project}/")
    counts: Counter[str] = Counter()
    for (app, value), count in tally.items():
        render = desired.get(app)
        if render and value.partition("/")[0] == f"{SYNCED}@{render.document.position}":
            counts[app] += count
    return [Spread(apps[app], count) for app, count in sorted(counts.items())]


async def _effects(api: Api, reader: Reader, project: str, events: Sequence[Event]) -> list[Effect]:
    """Return what the commit meant for each application that its files touch."""
    effects = []
    for event in events:
        try:
            fact = fact_of(event)
        except CodecError:
            continue
        name = event.stream.split("/", 2)[2]
        if isinstance(fact, DesiredRendered):
            before = await _rendered_before(api, reader, event)
            changes = None
            if before is not None:
                changes = await _changes(api, before.objects, fact.objects)
            effects.append(Effect(project, name, event.position, fact.count, changes))
        elif isinstance(fact, RevisionResolved):
            failed = [item.partition("/")[2] for item in fact.failed]
            effects += [Effect(project, item, event.position, 0, None, True) for item in failed]
    return sorted(effects, key=lambda effect: (effect.application, -effect.rendered))


async def _rendered_before(api: Api, reader: Reader, event: Event) -> DesiredRendered | None:
    """Return the render of the same application before this one."""
    end = event.position
    while positions := await reader.subjects(
        TIMELINE, event.stream, before=end, limit=100, newest_first=True
    ):
        for earlier in reversed(await api.log.read_at(positions)):
            if earlier.stream == event.stream and earlier.type == "DesiredRendered":
                fact = fact_of(earlier)
                return fact if isinstance(fact, DesiredRendered) else None
        end = positions[-1]
        if event.position - end > MOST_EVENTS * 10:
            return None
    return None


async def _changes(api: Api, before: str, after: str) -> list[Change]:
    inventories = Inventories(api.log)
    old = _by_identity(await inventories.of(before))
    new = _by_identity(await inventories.of(after))
    changes = []
    for identity in sorted(old.keys() | new.keys()):
        was, now = old.get(identity), new.get(identity)
        if was is None and now is not None:
            changes.append(Change(now.ref, "added"))
        elif now is None and was is not None:
            changes.append(Change(was.ref, "dropped"))
        elif was is not None and now is not None and was.digest != now.digest:
            changes.append(Change(now.ref, "changed"))
    return changes[:MOST_CHANGES]


def _by_identity(inventory: Sequence[Desired]) -> dict[str, Desired]:
    return {desired.ref.identity: desired for desired in inventory}
