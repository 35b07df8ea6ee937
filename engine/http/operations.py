"""Every operation of the API, as its description tells it: one table.

A test holds it to the routes that there are, and every answer in the tests to the shapes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.http import applied, shapes
from engine.http.operation import (
    AFTER_KEY,
    AFTER_POSITION,
    ANY_RESOURCE,
    APPLICATION,
    AT,
    FLAG,
    GIVEN,
    IF_MATCH,
    IF_NONE_MATCH,
    IN_PROJECT,
    JSON,
    JSONL,
    KEY,
    KIND_WORDS,
    LAST_EVENT,
    MAYBE_NAME,
    POSITION,
    PROJECT,
    REASON,
    STREAM,
    TARGET,
    YAML,
    Operation,
    Schema,
    limit,
    path,
    query,
)
from engine.http.upkeep import VIEW_NAMES
from engine.resources.model import Resource
from events.catalog import CATALOG

AGAINST = query(
    "against",
    "What to compare with: `live`, a commit's first 7 digits or more, or a time.",
    {
        "type": "string",
        "anyOf": [{"const": "live"}, {"pattern": "^[0-9a-f]{7,40}$"}, *AT.schema["anyOf"]],
    },
)


def _operations() -> Iterator[Operation]:
    yield from _engine()
    yield from _resources()
    yield from _people()
    yield from _notifications()
    yield from _targets()
    yield from _drift()
    yield from _history()
    yield from _tokens()


def _engine() -> Iterator[Operation]:
    for name, about in (("healthz", "the process answers"), ("readyz", "everything runs")):
        yield Operation(
            method="GET",
            path=f"/{name}",
            id=name,
            tag="engine",
            summary=f"Say whether {about}; needs no token.",
            answer=shapes.Status,
            is_open=True,
            or_status=503 if name == "readyz" else 0,
        )
    yield Operation(
        method="GET",
        path="/metrics",
        id="metrics",
        tag="engine",
        summary="What is measured, for Prometheus.",
        content_type="text/plain",
        answer=str,
        also=("application/openmetrics-text",),
        problems=(404,),
    )
    yield Operation(
        method="GET",
        path="/v1/openapi.json",
        id="describeApi",
        tag="engine",
        summary="This description; needs no token.",
        is_open=True,
    )
    yield Operation(
        method="GET",
        path="/v1/version",
        id="showVersion",
        tag="engine",
        summary="Say which release this is, which log it keeps, and how far log and views are.",
        answer=shapes.Version,
    )
    yield Operation(
        method="GET",
        path="/v1/views",
        id="listViews",
        tag="engine",
        summary="List the views: how far each is, how many documents it has, what of it is parked.",
        answer=shapes.ViewList,
    )
    yield Operation(
        method="GET",
        path="/v1/doctor",
        id="showCheckup",
        tag="engine",
        summary="Look at database, disk, clocks, renderer, views, repositories and clusters, now.",
        answer=shapes.Checkup,
    )
    yield Operation(
        method="POST",
        path="/v1/views/{view}/rebuild",
        id="rebuildView",
        tag="engine",
        summary="Fold a view anew beside the live one; progress line by line, the end in the last.",
        parameters=(
            path("view", "The view.", {"type": "string", "enum": list(VIEW_NAMES)}),
            query(
                "dropPrevious",
                "Whether to remove the generation before, once the new one is live.",
                {"type": "boolean"},
            ),
        ),
        answer=str,
        content_type=JSONL,
        problems=(404,),
    )


def _resources() -> Iterator[Operation]:
    yield Operation(
        method="POST",
        path="/v1/resources",
        id="applyResources",
        tag="resources",
        summary="Declare resources: all that changed, or none.",
        parameters=(KEY,),
        body=ANY_RESOURCE,
        body_types=(JSON, YAML),
        example=APPLICATION,
        answer=applied.AppliedAll,
        problems=(409, 422),
    )
    one = (path("kind", "The kind.", KIND_WORDS), PROJECT, path("name", "The resource."))
    yield Operation(
        method="GET",
        path="/v1/resources/{kind}/{project}/{name}",
        id="showDeclared",
        tag="resources",
        summary="Return a resource as it was declared; its ETag is what If-Match takes.",
        parameters=one,
        answer=Resource,
        problems=(404,),
    )
    yield Operation(
        method="PUT",
        path="/v1/resources/{kind}/{project}/{name}",
        id="putResource",
        tag="resources",
        summary="Declare one resource: only if it is as seen, or only if it is not there.",
        parameters=(*one, IF_MATCH, IF_NONE_MATCH, KEY),
        body=Resource,
        body_types=(JSON, YAML),
        example=APPLICATION,
        answer=applied.Applied,
        or_created=True,
        problems=(404, 409, 412, 422),
    )
    yield Operation(
        method="DELETE",
        path="/v1/resources/{kind}/{project}/{name}",
        id="deleteResource",
        tag="resources",
        summary="Take a resource back; with `cascade`, ask that its objects be deleted too.",
        parameters=(
            *one,
            query("cascade", "Whether its objects on clusters are deleted too.", FLAG),
            REASON,
            IF_MATCH,
            KEY,
        ),
        answer=shapes.Deleted,
        problems=(404, 409, 412, 422),
    )
    for plural, singular, page, detail in (
        ("repositories", "Repository", shapes.RepositoryPage, shapes.RepositoryDetail),
        ("clusters", "Cluster", shapes.ClusterPage, shapes.ClusterDetail),
        ("applications", "Application", shapes.ApplicationPage, shapes.ApplicationDetail),
        ("notifications", "Notification", shapes.NotificationPage, shapes.NotificationDetail),
    ):
        for suffix, where, more in (("", "All", ()), ("/{project}", "Project", (PROJECT,))):
            yield Operation(
                method="GET",
                path=f"/v1/{plural}{suffix}",
                id=f"list{where}{plural.capitalize()}",
                tag=plural,
                summary=f"List {plural} by name, each with how it stands.",
                parameters=(*more, AFTER_KEY, limit(500), AT),
                answer=page,
                problems=(404,) if more else (),
            )
        yield Operation(
            method="GET",
            path=f"/v1/{plural}/{{project}}/{{name}}",
            id=f"show{singular}",
            tag=plural,
            summary=f"Show one {singular.lower()}, how it stands, and what belongs to it.",
            parameters=(PROJECT, path("name", f"The {singular.lower()}."), AT),
            answer=detail,
            problems=(404,),
        )
    yield Operation(
        method="GET",
        path="/v1/blobs/{digest}",
        id="showBody",
        tag="log",
        summary="Return the body that an event names by its digest: redacted, as it is kept.",
        parameters=(
            path("digest", "The digest.", {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
        ),
        problems=(404, 410),
    )
    yield Operation(
        method="POST",
        path="/v1/blobs/{digest}/redact",
        id="redactBody",
        tag="log",
        summary="Erase a body for good; its digest, the events that name it and the proof stay.",
        parameters=(
            path("digest", "The digest.", {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}),
            KEY,
        ),
        body=shapes.ReasonRequest,
        example={"reason": "a password was in a ConfigMap"},
        answer=shapes.BodyErased,
        problems=(404, 409, 410, 422),
    )


def _people() -> Iterator[Operation]:
    actor = path("actor", "The pseudonym.", {"type": "string", "pattern": "^git:[0-9a-f]{12}$"})
    yield Operation(
        method="GET",
        path="/v1/actors/{actor}",
        id="showActor",
        tag="people",
        summary="Tell who is behind an author's pseudonym, as long as that is not forgotten.",
        parameters=(actor,),
        answer=shapes.Person,
        problems=(400, 404),
    )
    yield Operation(
        method="POST",
        path="/v1/actors/{actor}/forget",
        id="forgetActor",
        tag="people",
        summary="Forget who is behind a pseudonym, for good; every event and the proof stay.",
        parameters=(actor, KEY),
        body=shapes.ReasonRequest,
        example={"reason": "erasure request 17"},
        answer=shapes.Forgotten,
        problems=(400, 404, 422),
    )


def _notifications() -> Iterator[Operation]:
    for verb, body, example, summary in (
        ("test", shapes.TestRequest, {}, "Ask for an alert that is only a test."),
        (
            "replay",
            shapes.ReplayRequest,
            {"from": 1},
            "Ask that the alerts from a position on be delivered, again where they were.",
        ),
    ):
        yield Operation(
            method="POST",
            path=f"/v1/notifications/{{project}}/{{name}}/{verb}",
            id=f"{verb}Notification",
            tag="notifications",
            summary=summary,
            parameters=(PROJECT, path("name", "The notification."), KEY),
            body=body,
            example=example,
            answer=shapes.NotificationAsked,
            status=202,
            problems=(404, 409, 422),
        )


def _targets() -> Iterator[Operation]:
    kept = query("all", "Whether targets are listed that are not assigned any more.", FLAG)
    yield Operation(
        method="GET",
        path="/v1/targets",
        id="listAllTargets",
        tag="targets",
        summary="List targets by name, with how each stands.",
        parameters=(kept, AFTER_KEY, limit(500), AT),
        answer=shapes.TargetPage,
    )
    yield Operation(
        method="GET",
        path="/v1/targets/{project}",
        id="listProjectTargets",
        tag="targets",
        summary="List a project's targets; of one application or cluster, where asked.",
        parameters=(
            PROJECT,
            query("application", "Only this application's.", MAYBE_NAME),
            query("cluster", "Only those on this cluster.", MAYBE_NAME),
            kept,
            AFTER_KEY,
            limit(500),
            AT,
        ),
        answer=shapes.TargetPage,
        problems=(404,),
    )
    for suffix, id_, summary, answer in (
        ("", "showTarget", "Show all that is known of one target.", shapes.TargetDetail),
        ("/diff", "diffTarget", "Compare desired and live, field by field.", shapes.TargetDiff),
    ):
        yield Operation(
            method="GET",
            path="/v1/targets/{project}/{target}" + suffix,
            id=id_,
            tag="targets",
            summary=summary,
            parameters=(PROJECT, TARGET, AT, *((AGAINST,) if suffix else ())),
            answer=answer,
            problems=(404, 409) if suffix else (404,),
        )
    for collection, item, word in (
        ("targets", TARGET, "Target"),
        ("applications", path("name", "The application."), "Application"),
    ):
        for verb, summary in (
            ("sync", "Ask for a sync, now."),
            ("suspend", "Correct nothing until resumed."),
            ("resume", "Lift a suspension."),
        ):
            syncs = verb == "sync"
            body = shapes.SuspendRequest if verb == "suspend" else shapes.ReasonRequest
            yield Operation(
                method="POST",
                path=f"/v1/{collection}/{{project}}/{{{item.name}}}/{verb}",
                id=f"{verb}{word}",
                tag=collection,
                summary=summary,
                parameters=(PROJECT, item, KEY),
                body=shapes.SyncRequest if syncs else body,
                example={"reason": "freeze for the sale"} if not syncs else {"reason": "now"},
                answer=shapes.SyncAsked if syncs else shapes.Acted,
                status=202 if syncs else 200,
                problems=(404, 409, 422),
            )
    yield from _steering()
    yield Operation(
        method="GET",
        path="/v1/wait",
        id="wait",
        tag="targets",
        summary="Answer as soon as every target of the subject is as asked; 409 when time is over.",
        parameters=(
            query("subject", "A target (app@cluster), or an application.", GIVEN, required=True),
            IN_PROJECT,
            query("for", "What to wait for.", {"type": "string", "enum": ["synced", "healthy"]}),
            query(
                "revision",
                "The commit to wait for: its first 4 digits or more.",
                {"type": "string", "pattern": "^([0-9a-fA-F]{4,40})?$"},
            ),
            query("after", "The position of the caller's own write.", POSITION),
            query(
                "timeout",
                "How long: `30s`, or seconds; at most a minute.",
                {"type": "string", "pattern": "^(([0-9]|[1-5][0-9]|60)s?|[0-9]{1,4}ms|1m)$"},
            ),
        ),
        answer=shapes.Waited,
        problems=(404, 409),
    )


def _steering() -> Iterator[Operation]:
    path = "/v1/targets/{project}/{target}"
    yield Operation(
        method="GET",
        path=f"{path}/plan",
        id="planTarget",
        tag="targets",
        summary="Show what would be done to a target now, and what keeps it from being done.",
        parameters=(
            PROJECT,
            TARGET,
            AT,
            query(
                "dryRun",
                "With `server` the cluster is asked by dry runs what each action would come to.",
                {"type": "string", "enum": ["server"]},
            ),
        ),
        answer=shapes.Planned,
        problems=(404, 409, 422, 503),
    )
    yield Operation(
        method="GET",
        path=f"{path}/why",
        id="whyTarget",
        tag="targets",
        summary="Say why a target is or is not synced: every guard, in order.",
        parameters=(PROJECT, TARGET, AT),
        answer=shapes.WhyAnswer,
        problems=(404,),
    )
    yield Operation(
        method="GET",
        path=f"{path}/replay",
        id="replayTarget",
        tag="targets",
        summary="Make a target's recorded decisions again on the same facts, and compare.",
        parameters=(
            PROJECT,
            TARGET,
            AFTER_POSITION,
            query("to", "Up to when: a position, or a time.", AT.schema),
            limit(100),
        ),
        answer=shapes.ReplayPage,
        problems=(404,),
    )
    for verb, body, answer, summary, example in (
        (
            "rollback",
            shapes.RollbackRequest,
            shapes.RollbackDone,
            "Go back to an earlier commit and stay there; newer ones are masked.",
            {"reason": "incident 7", "revision": "5ca1ab1e"},
        ),
        (
            "lift-rollback",
            shapes.ReasonRequest,
            shapes.Acted,
            "Follow commits again.",
            {"reason": "incident 7 is over"},
        ),
        (
            "approve",
            shapes.ApproveRequest,
            shapes.Acted,
            "Approve a plan, or that a sync window was overridden.",
            {"reason": "looked at together", "plan": "sha256:" + "0" * 64},
        ),
        (
            "accept",
            shapes.AcceptRequest,
            shapes.Acted,
            "Accept the open drift case's differences as they are, for a while.",
            {"reason": "incident 7", "duration": "2h"},
        ),
        (
            "adopt",
            shapes.AdoptRequest,
            shapes.Acted,
            "Take over what is there and managed by kubectl, Helm, Argo CD or Flux.",
            {"reason": "moved from Helm"},
        ),
    ):
        yield Operation(
            method="POST",
            path=f"{path}/{verb}",
            id={"lift-rollback": "liftRollback"}.get(verb, f"{verb}Target"),
            tag="targets",
            summary=summary,
            parameters=(PROJECT, TARGET, KEY),
            body=body,
            example=example,
            answer=answer,
            problems=(404, 409, 422),
        )


def _drift() -> Iterator[Operation]:
    state = query("state", "Only cases that are so.", {"type": "string", "enum": ["open", "ended"]})
    for suffix, where, more in (
        ("", "All", ()),
        (
            "/{project}",
            "Project",
            (
                PROJECT,
                query("application", "Only this application's.", MAYBE_NAME),
                query("cluster", "Only those on this cluster.", MAYBE_NAME),
            ),
        ),
    ):
        yield Operation(
            method="GET",
            path=f"/v1/drift{suffix}",
            id=f"list{where}Drift",
            tag="drift",
            summary="List drift cases, open and past: who, since when, and what was done.",
            parameters=(*more, state, AFTER_KEY, limit(500), AT),
            answer=shapes.DriftPage,
            problems=(404,) if more else (),
        )


_TYPE = "|".join(sorted(CATALOG))
TYPES: Schema = {"type": "string", "pattern": f"^(({_TYPE})(,({_TYPE}))*)?$"}


def _history() -> Iterator[Operation]:
    yield Operation(
        method="GET",
        path="/v1/events",
        id="listEvents",
        tag="log",
        summary="List events after a position; or follow them, as server-sent events.",
        parameters=(
            AFTER_POSITION,
            query("stream", "Only this stream's: `target/default/shop@prod`."),
            query("type", "Only these types, with commas between them.", TYPES),
            limit(500),
            AT,
            LAST_EVENT,
        ),
        answer=shapes.EventPage,
        also=(STREAM,),
    )
    yield Operation(
        method="GET",
        path="/v1/timeline",
        id="showTimeline",
        tag="log",
        summary="List what happened to a subject; or follow it, as server-sent events.",
        parameters=(
            query(
                "subject",
                "app@cluster, application/NAME, cluster/NAME, repository/NAME, "
                "notification/NAME, a commit, or an object: cluster/namespace/Kind/name.",
                GIVEN,
                required=True,
            ),
            IN_PROJECT,
            AFTER_POSITION,
            query("before", "Only what comes before this position.", POSITION),
            query(
                "order",
                "Which way; with `desc`, `next` goes on as `before`.",
                {"type": "string", "enum": ["asc", "desc"]},
            ),
            limit(200),
            AT,
            LAST_EVENT,
        ),
        answer=shapes.Timeline,
        also=(STREAM,),
        problems=(404, 409),
    )


def _tokens() -> Iterator[Operation]:
    yield Operation(
        method="GET",
        path="/v1/tokens",
        id="listTokens",
        tag="tokens",
        summary="List tokens by name, revoked ones too; never what they are.",
        parameters=(AFTER_KEY, limit(500)),
        answer=shapes.TokenPage,
    )
    yield Operation(
        method="POST",
        path="/v1/tokens",
        id="createToken",
        tag="tokens",
        summary="Make a token for a name. It is shown in this answer, and never again.",
        parameters=(KEY,),
        body=shapes.TokenRequest,
        example={"name": "ci"},
        answer=shapes.TokenMade,
        status=201,
        problems=(409, 422),
    )
    yield Operation(
        method="DELETE",
        path="/v1/tokens/{name}",
        id="revokeToken",
        tag="tokens",
        summary="Revoke a token; the last good one stays.",
        parameters=(path("name", "The token's name."), REASON, KEY),
        answer=shapes.TokenRevoked,
        problems=(404, 409, 422),
    )
    yield Operation(
        method="POST",
        path="/v1/login-links",
        id="offerLoginLink",
        tag="tokens",
        summary="Offer the caller's browser a session on the pages: a link that is good once.",
        answer=shapes.LoginLink,
        status=201,
    )
    yield from _proofs()


def _proofs() -> Iterator[Operation]:
    text: Any = {"tag": "proofs", "method": "GET", "content_type": "text/plain"}
    data: Any = {**text, "content_type": "application/octet-stream", "problems": (404,)}
    yield Operation(
        path="/v1/log/checkpoint",
        id="getCheckpoint",
        summary="The newest signed checkpoint (C2SP tlog-checkpoint): which log, size, root.",
        problems=(404,),
        **text,
    )
    yield Operation(
        path="/v1/log/checkpoints",
        id="listCheckpoints",
        summary="Checkpoints, one an hour, the newest last, each followed by a form feed.",
        problems=(404,),
        **text,
    )
    yield Operation(
        path="/v1/log/keys",
        id="listCheckpointKeys",
        summary="The public keys that checkpoints were ever signed with, one a line.",
        problems=(404,),
        **text,
    )
    number = {"type": "string", "maxLength": 60}
    yield Operation(
        path="/v1/log/payloads/{path}",
        id="getPayloads",
        summary="The payloads of the events of a bundle of entries, one a line.",
        parameters=(path("path", "N, as of the bundle, .p/WIDTH behind.", number),),
        **data,
    )
    digest = {"type": "string", "maxLength": 100}
    yield Operation(
        path="/v1/log/blobs/{digest}",
        id="getBody",
        summary="The body under a digest.",
        parameters=(path("digest", "sha256: and 64 hexadecimal digits.", digest),),
        **data,
    )
    yield Operation(
        path="/v1/log/{path}",
        id="getTile",
        summary="A tile of the Merkle tree, or a bundle of entries (C2SP tlog-tiles).",
        parameters=(path("path", "tile/LEVEL/N or tile/entries/N, .p/WIDTH behind.", number),),
        **data,
    )


OPERATIONS = tuple(_operations())
