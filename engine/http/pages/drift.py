"""Drift as cases: those that are open, and each one whole: who, since when, what was done."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from msgspec import Struct

from engine.http.api import api_of
from engine.http.drift import accept_case
from engine.http.moment import reading
from engine.http.pages.actions import shown_after
from engine.http.pages.fleet import standing_of
from engine.http.pages.paths import to
from engine.http.pages.render import page
from engine.http.pages.story import rows
from engine.http.pages.target import read_done
from engine.http.problem import bad_request, not_found
from engine.http.targets import target_id
from engine.http.wire import Query
from engine.resources.spelling import did_you_mean
from events.catalog import DriftAccepted, DriftDetected, DriftResolved
from events.codec import CodecError, fact_of
from events.event import Event, Position, stream
from projections.cases import CASES, CaseDocument, case_key
from projections.drift import DRIFT, DriftDocument
from projections.projection import Reader
from projections.timeline import TIMELINE

routes = web.RouteTableDef()
PAGE = 50
STATES = ("open", "ended", "all")
_LOOKED_AT = 500
"""Events of a target that are looked through for those of a case."""


class Asked(Struct, frozen=True):
    """Which cases the address asks for."""

    state: str = "open"
    project: str = "default"
    application: str = ""
    cluster: str = ""
    after: str = ""
    at: str = ""

    def path(self, **changes: str) -> str:
        """Return the address with some of it changed, from its first page on."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        said = {**values, "after": "", **changes}
        usual = {"state": "open", "project": "default"}
        return to("drift", **{k: "" if usual.get(k) == v else v for k, v in said.items()})


@routes.get("/drift")
async def list_cases(request: web.Request) -> web.Response:
    """List the drift cases of a project by target and number, a page at a time."""
    api, asked = api_of(request), _read(Query(request))
    where = {} if asked.state == "all" else {"state": asked.state}
    if asked.application:
        where["application"] = stream("app", asked.project, asked.application)
    if asked.cluster:
        where["cluster"] = stream("cluster", asked.project, asked.cluster)
    async with reading(api, asked.at) as moment:
        found = await moment.reader.page(
            CASES,
            prefix=f"target/{asked.project}/",
            where=where,
            after=asked.after,
            limit=PAGE + 1,
        )
        standing = await standing_of(api, moment)
    return page(
        request,
        "cases.html",
        asked=asked,
        states=STATES,
        items=[item.document for item in found[:PAGE]],
        following=found[PAGE - 1].key if len(found) > PAGE else "",
        at=asked.at,
        **standing,
    )


def _read(query: Query) -> Asked:
    state = query.text("state", "open")
    if state not in STATES:
        raise bad_request(f"no state is called {state[:40]!r}{did_you_mean(state, STATES)}")
    asked = Asked(
        state=state,
        project=query.text("project", "default"),
        application=query.text("application").strip(),
        cluster=query.text("cluster").strip(),
        after=query.text("after"),
        at=query.text("at").strip(),
    )
    query.done()
    return asked


@routes.get("/drift/{project}/{target}/{number:[0-9]{1,9}}")
async def show_case(request: web.Request) -> web.Response:
    """Show one case: its differences, its authors, and its story."""
    api, query = api_of(request), Query(request)
    at, told = query.text("at").strip(), read_done(query)
    query.done()
    target, number = target_id(request), int(request.match_info["number"])
    async with reading(api, at) as moment:
        reader = moment.reader
        found = await reader.get(CASES, case_key(target.stream, number))
        if found is None:
            raise not_found(f"{target.label} has no drift case {number}")
        case = found.document
        drift = await reader.get(DRIFT, target.stream)
        positions = await _positions(reader, target.stream, case)
        standing = await standing_of(api, moment)
    known = drift.document if drift else DriftDocument()
    events = [event for event in await api.log.read_at(positions) if _is_of(event, case.case)]
    return page(
        request,
        "case.html",
        target=target,
        case=case,
        number=number,
        accepted=any(each.holds(moment.now) for each in known.accepted),
        rows=rows(reversed(events)),
        more=len(positions) == _LOOKED_AT,
        at=at,
        **told,
        **standing,
    )


async def _positions(reader: Reader, subject: str, case: CaseDocument) -> list[Position]:
    """Return the positions at which a case's events may be: its target's, while it was open."""
    return await reader.subjects(
        TIMELINE,
        subject,
        after=Position(case.opened - 1),
        before=Position(case.ended + 1) if case.ended else None,
        limit=_LOOKED_AT,
        newest_first=True,
    )


def _is_of(event: Event, case: str) -> bool:
    if event.correlation == case:
        return True
    try:
        fact = fact_of(event)
    except CodecError:
        return False
    return isinstance(fact, DriftDetected | DriftResolved | DriftAccepted) and fact.case == case


@routes.post("/drift/{project}/{target}/{number:[0-9]{1,9}}/{verb:accept|end}")
async def act_on_case(request: web.Request) -> web.Response:
    """Accept a case as it is for a while, or accept nothing any more; then show it again."""
    target, verb = target_id(request), request.match_info["verb"]
    number = request.match_info["number"]
    Query(request).done()
    form = await request.post()
    known = {"accept": ("reason", "duration"), "end": ("reason",)}[verb]
    unknown = sorted(set(form) - set(known))
    if unknown:
        raise bad_request(f"unknown field {unknown[0][:60]}; known here: {', '.join(known)}")
    body: dict[str, Any] = {name: form.get(name, "") for name in known}
    if verb == "end":
        body["end"] = True
    else:
        body["case"] = f"{target.project}/{target.label}#{number}"
    answer = await accept_case(request, target, body)
    return shown_after(answer, f"{verb}-drift", "drift", target.project, target.label, number)
