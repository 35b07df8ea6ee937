"""Which targets of the fleet are meant, as the page's address says; and those that are.

Counting goes by one grouped look at an index, and a page by as many as it takes to fill it: no
page of a fleet reads the fleet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from engine.decide.fleet import AppState, app_state, sync_of
from engine.decide.state import SyncState, TargetStatus
from engine.http.moment import Moment
from engine.http.pages.paths import to
from engine.http.problem import bad_request
from engine.http.standing import standings
from engine.http.wire import Query
from engine.resources.spelling import did_you_mean
from events.event import stream
from events.vocabulary import Health
from projections.declared import DECLARED
from projections.desired import DESIRED, DesiredDocument
from projections.fleet import FLEET
from projections.projection import Reader
from projections.sources import SOURCES, SourceDocument
from projections.targets import TARGETS, TargetDocument
from projections.views import read_all

DEFAULT = "default"
PAGE = 50
_PART = 500
"""Applications that are read at once."""
SHOWN_STATES = tuple(state for state in SyncState if state is not SyncState.UNASSIGNED)


class Filters(Struct, frozen=True):
    """What the address asks for; "" for any. `name` is how a target's name begins.

    `fixed` names what the page itself says, so that its addresses need not.
    """

    project: str = ""
    state: str = ""
    health: str = ""
    cluster: str = ""
    application: str = ""
    name: str = ""
    after: str = ""
    at: str = ""
    fixed: frozenset[str] = frozenset()

    def path(self, *parts: str, **changes: str) -> str:
        """Return the address with some filters changed, from its first page on."""
        names = set(self.__struct_fields__) - self.fixed - {"fixed"}
        values = {name: getattr(self, name) for name in sorted(names)}
        return to(*(parts or ("",)), **{**values, "after": "", **changes})

    @property
    def cleared(self) -> dict[str, str]:
        """The changes after which everything is shown."""
        some = ("state", "health", "name", "cluster", "application", "project")
        return {name: "" for name in some if name not in self.fixed}

    @property
    def in_project(self) -> str:
        """The project that names without one mean."""
        return self.project or DEFAULT

    @property
    def prefix(self) -> str:
        """How the keys of these targets begin."""
        anywhere = not (self.project or self.name)
        return "target/" if anywhere else f"target/{self.in_project}/{self.name}"

    @property
    def where(self) -> dict[str, str]:
        """The indexed values of these targets, but for their state."""
        found: dict[str, str] = {}
        if self.application:
            found["application"] = stream("app", self.in_project, self.application)
        if self.cluster:
            found["cluster"] = stream("cluster", self.in_project, self.cluster)
        return found

    @property
    def is_any(self) -> bool:
        """Whether nothing is asked for but the fleet."""
        return not (self.state or self.health or self.cluster or self.application or self.name)

    def takes(self, state: str, health: str) -> bool:
        """Whether a target in this state and health is meant."""
        if self.health and health != self.health:
            return False
        return state == self.state if self.state else state != SyncState.UNASSIGNED


class Fleet(Struct, frozen=True):
    """A page of targets, how many there are of each state and health, and where the rest begins.

    The counts of states leave the filter of states aside, so that they can be its links; those of
    health likewise. `projects` are those that have targets among those that were looked through.
    """

    items: Sequence[TargetStatus]
    states: Mapping[str, int]
    healths: Mapping[str, int]
    total: int
    following: str
    projects: Sequence[str] = ()


def read_filters(query: Query, **fixed: str) -> Filters:
    """Read filters out of an address; `fixed` are given by the page itself."""

    def word(name: str, known: Sequence[str]) -> str:
        value = query.text(name)
        if value and value not in known:
            raise bad_request(f"no {name} is called {value[:40]!r}{did_you_mean(value, known)}")
        return value

    given = {
        "state": word("state", list(SyncState)),
        "health": word("health", list(Health)),
        "after": query.text("after"),
        "at": query.text("at"),
    }
    for name in ("project", "cluster", "application", "name"):
        if name not in fixed:
            given[name] = query.text(name).strip()
    return Filters(**{**given, **fixed}, fixed=frozenset(fixed))


async def read_fleet(moment: Moment, filters: Filters) -> Fleet:
    """Read the page of the fleet that the filters ask for."""
    if filters.at:
        return await _past(moment, filters)
    reader = moment.reader
    tally = await reader.tally(
        FLEET, ("application", "state"), prefix=filters.prefix, where=filters.where
    )
    apps = await app_states(reader, {app for app, _ in tally})
    states: Counter[str] = Counter()
    healths: Counter[str] = Counter()
    meant: dict[str, list[str]] = {}
    there: Counter[str] = Counter()
    total = 0
    for (app, value), count in tally.items():
        there[app] += 1
        word, _, health = value.partition("/")
        state = sync_of(word, apps[app])
        _count(filters, state, health, count, states, healths)
        if filters.takes(state, health):
            meant.setdefault(app, []).append(value)
            total += count
    if len(tally) == sum(map(len, meant.values())):
        keys, following = await _straight(reader, filters)
    else:
        keys, following = await _by_state(reader, filters, meant, there)
    found = await reader.get_many(TARGETS, keys)
    documents = [found[key].document for key in keys if key in found]
    items = await standings(reader, documents, moment.now)
    projects = sorted({app.split("/", 2)[1] for app in there})
    return Fleet(items, states, healths, total, following, projects)


def _count(
    filters: Filters,
    state: str,
    health: str,
    count: int,
    states: Counter[str],
    healths: Counter[str],
) -> None:
    if not filters.health or health == filters.health:
        states[state] += count
    if state == filters.state or (not filters.state and state != SyncState.UNASSIGNED):
        healths[health] += count


async def app_states(reader: Reader, apps: Collection[str]) -> dict[str, AppState]:
    """Return what these applications add to how each of their targets stands, by stream."""
    states: dict[str, AppState] = {}
    order = sorted(apps)
    # A part at a time: nothing else is answered while documents are decoded.
    for start in range(0, len(order), _PART):
        states |= await _some_states(reader, order[start : start + _PART])
    return states


async def _some_states(reader: Reader, apps: Collection[str]) -> dict[str, AppState]:
    declared = await reader.get_many(DECLARED, apps)
    desired = await reader.get_many(DESIRED, apps)
    repositories = {
        app: stream("repo", found.document.project, found.document.spec["source"]["repository"])
        for app, found in declared.items()
        if not found.document.withdrawn
    }
    sources = await reader.get_many(SOURCES, set(repositories.values()))
    states = {}
    for app in apps:
        source = sources.get(repositories.get(app, ""))
        render, application = desired.get(app), declared.get(app)
        states[app] = app_state(
            application.document if application else None,
            source.document if source else SourceDocument(),
            render.document if render else DesiredDocument(),
        )
    return states


async def _straight(reader: Reader, filters: Filters) -> tuple[list[str], str]:
    page = await reader.page(
        FLEET, prefix=filters.prefix, where=filters.where, after=filters.after, limit=PAGE + 1
    )
    keys = [found.key for found in page[:PAGE]]
    return keys, keys[-1] if len(page) > PAGE else ""


async def _by_state(
    reader: Reader,
    filters: Filters,
    meant: Mapping[str, Sequence[str]],
    there: Mapping[str, int],
) -> tuple[list[str], str]:
    """Go through the applications in the order of their targets' keys, until a page is full."""
    keys: list[str] = []
    # The order of keys, `target/project/application@cluster`, is that of `application@`.
    for app in sorted(meant, key=lambda name: name.split("/", 1)[1] + "@"):
        if "target/" + app.split("/", 1)[1] + "@\U0010ffff" <= filters.after:
            continue
        where = {**filters.where, "application": app}
        left = PAGE + 1 - len(keys)
        found: list[str] = []
        choices: list[dict[str, str]] = [{"state": value} for value in meant[app]]
        if len(choices) == there[app]:
            choices = [{}]
        for choice in choices:
            page = await reader.page(
                FLEET,
                prefix=filters.prefix,
                where={**where, **choice},
                after=filters.after,
                limit=left,
            )
            found += [item.key for item in page]
        keys += sorted(found)[:left]
        if len(keys) > PAGE:
            return keys[:PAGE], keys[PAGE - 1]
    return keys, ""


async def _past(moment: Moment, filters: Filters) -> Fleet:
    """Read the fleet as it was: by reading all of it, for yesterday's states have no index."""
    reader = moment.reader
    found = await read_all(reader, TARGETS, prefix=filters.prefix, where=filters.where)
    documents: list[TargetDocument] = [item.document for item in found]
    standing = await standings(reader, documents, moment.now)
    states: Counter[str] = Counter()
    healths: Counter[str] = Counter()
    for item in standing:
        _count(filters, item.sync, item.health, 1, states, healths)
    matching = [
        (found_item.key, item)
        for found_item, item in zip(found, standing, strict=True)
        if filters.takes(item.sync, item.health)
    ]
    rest = [(key, item) for key, item in matching if key > filters.after]
    following = rest[PAGE - 1][0] if len(rest) > PAGE else ""
    shown = [item for _, item in rest[:PAGE]]
    projects = sorted({item.project for item in standing})
    return Fleet(shown, states, healths, len(matching), following, projects)
