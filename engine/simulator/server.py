"""The HTTP server: many clusters in one process, each under `/c/<name>`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import yaml
from aiohttp import web

from engine.simulator import (
    access,
    admin,
    admin_http,
    discovery,
    errors,
    openapi,
    operations,
    reading,
    requests,
    scale,
)
from engine.simulator.admin import Control, CutError
from engine.simulator.cluster import Delays, Served, SimCluster
from engine.simulator.controllers import Controllers
from engine.simulator.operations import Call, Outcome
from engine.simulator.store import Store

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_SWAGGER = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


class Simulator:
    """Clusters and the server that serves them.

    `delays` says how long controllers take, `history` how many changes each cluster keeps for
    watches, `bookmark_every` how many seconds an idle watch waits for a bookmark. With `token`
    every request needs it as a bearer token.
    """

    def __init__(
        self,
        clusters: Iterable[str] = (),
        *,
        delays: Delays | None = None,
        history: int = 10_000,
        bookmark_every: float = 30.0,
        token: str = "",
    ) -> None:
        self._delays = delays or Delays()
        self._history = history
        self._bookmark_every = bookmark_every
        self._token = token
        self.controllers = Controllers()
        self._clusters: dict[str, SimCluster] = {}
        self._controls: dict[str, Control] = {}
        self._runner: web.AppRunner | None = None
        self._work: asyncio.Task[None] | None = None
        self.url = ""
        for name in clusters:
            self.add(name)

    @property
    def names(self) -> list[str]:
        """The names of the clusters."""
        return list(self._clusters)

    def cluster(self, name: str) -> SimCluster:
        """A cluster's state; raises KeyError when there is no such cluster."""
        return self._clusters[name]

    def control(self, name: str) -> Control:
        """A cluster's faults and records; raises KeyError when there is no such cluster."""
        return self._controls[name]

    def add(self, name: str) -> SimCluster:
        """Makes one more cluster, with the namespaces that every cluster has."""
        if not name or not all(c.isalnum() or c in "-." for c in name):
            raise ValueError(f"{name!r} is no name of a cluster: letters, digits, '-' and '.' only")
        cluster = SimCluster(name, delays=self._delays, store=Store(history=self._history))
        self._clusters[name] = cluster
        self._controls[name] = Control()
        self.controllers.adopt(cluster)
        namespaces = cluster.served("", "v1", "namespaces")
        assert namespaces is not None
        for namespace in _NAMESPACES:
            body = {"metadata": {"name": namespace}}
            operations.create(cluster, namespaces, "", body, Call(manager="kube-apiserver"))
        return cluster

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Serves on an address; with port 0 on a free one. `url` says where."""
        app = web.Application(client_max_size=requests.MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Watches end when their client goes.
        runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        self._runner = runner
        bound_host, bound_port = runner.addresses[0][:2]
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        self.url = f"http://{shown}:{bound_port}"
        self._work = asyncio.create_task(self.controllers.run(), name="simulated controllers")

    async def stop(self) -> None:
        """Ends every watch and request, and the controllers."""
        for cluster in self._clusters.values():
            cluster.store.drop_watches()
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
            self._work = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Simulator:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    def kubeconfig(self, path: Path) -> Path:
        """Writes a kubeconfig, for its owner only, with a context named after each cluster."""
        user: dict[str, Any] = {"token": self._token} if self._token else {}
        names = self.names
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": name, "cluster": {"server": f"{self.url}/c/{name}"}} for name in names
            ],
            "users": [{"name": "simulator", "user": user}],
            "contexts": [
                {"name": name, "context": {"cluster": name, "user": "simulator"}} for name in names
            ],
            "current-context": names[0] if names else "",
        }
        temporary = path.with_name(f".{path.name}.new")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(config, file, sort_keys=False)
        temporary.replace(path)
        return path

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._route(request)
        except errors.ApiError as error:
            return _answer(orjson.dumps(error.status), error.code, error.headers)
        except web.HTTPRequestEntityTooLarge:
            status = errors.ApiError(
                413,
                "RequestEntityTooLarge",
                f"Request entity too large: limit is {requests.MOST_BYTES}",
            )
            return _answer(orjson.dumps(status.status), 413)
        except CutError:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None

    async def _route(self, request: web.Request) -> web.StreamResponse:
        self._authenticate(request)
        parts = request.path.split("/", 3)
        if len(parts) < 3 or parts[1] != "c" or parts[2] not in self._clusters:
            raise errors.no_such_path()
        cluster, control = self._clusters[parts[2]], self._controls[parts[2]]
        path = parts[3] if len(parts) > 3 else ""
        if path.split("/", 1)[0] == "_sim":
            return await admin_http.handle(
                request, path[len("_sim") :].strip("/"), cluster, control
            )
        if request.method == "POST" and path.rstrip("/") == access.PATH:
            return _answer(access.review(await request.read(), control), 201)
        answer = self._describe(cluster, path.rstrip("/"), request)
        if answer is not None:
            await control.slow(apply=False)
            return answer
        _unavailable(cluster, path)
        return await _Exchange(self, cluster, control, request, path).answer()

    def _authenticate(self, request: web.Request) -> None:
        if not self._token:
            return
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise errors.ApiError(401, "Unauthorized", "Unauthorized")

    def _describe(
        self, cluster: SimCluster, path: str, request: web.Request
    ) -> web.Response | None:
        """Answers what is no resource: version, health, discovery, schemas."""
        parts = path.split("/")
        document: Any = None
        match parts:
            case ["version"]:
                document = discovery.version(cluster)
            case ["healthz" | "livez" | "readyz", *_]:
                return web.Response(text="ok")
            case ["api" | "apis"] if "apidiscovery.k8s.io;v=v2;" in _first(request):
                document = discovery.aggregated(cluster, core=parts == ["api"])
                return _answer(orjson.dumps(document), content_type=_AGGREGATED)
            case ["api"]:
                document = discovery.core_versions(request.host)
            case ["apis"]:
                document = discovery.groups(cluster)
            case ["api", version]:
                document = discovery.resources(cluster, "", version)
            case ["apis", group]:
                document = discovery.group(cluster, group)
            case ["apis", group, version]:
                document = discovery.resources(cluster, group, version)
            case ["openapi", "v2"] if _SWAGGER in _first(request):
                return _answer(openapi.SWAGGER_PROTOBUF, content_type=_SWAGGER)
            case ["openapi", "v2"]:
                document = openapi.swagger(cluster)
            case ["openapi", "v3"]:
                document = openapi.index(cluster)
            case ["openapi", "v3", *rest]:
                document = openapi.document(cluster, "/".join(rest))
            case _:
                return None
        if document is None:
            _unavailable(cluster, path)
            raise errors.no_such_path()
        return _answer(orjson.dumps(document))

    @property
    def bookmark_every(self) -> float:
        """Seconds after which an idle watch gets a bookmark."""
        return self._bookmark_every


def _first(request: web.Request) -> str:
    return request.headers.get("Accept", "").replace(" ", "").partition(",")[0] + ";"


def _unavailable(cluster: SimCluster, path: str) -> None:
    parts = path.split("/")
    if (
        parts[0] == "apis"
        and len(parts) > 2
        and (parts[1], parts[2]) in discovery.unavailable(cluster)
    ):
        raise errors.ApiError(
            503, "ServiceUnavailable", "the server is currently unable to handle the request"
        )


def _answer(
    body: bytes,
    code: int = 200,
    headers: dict[str, str] | None = None,
    content_type: str = "application/json",
) -> web.Response:
    return web.Response(
        body=body, status=code, headers={**(headers or {}), "Content-Type": content_type}
    )


class _Exchange:
    """One request about a resource, from faults to the record of what it wrote."""

    def __init__(
        self,
        simulator: Simulator,
        cluster: SimCluster,
        control: Control,
        request: web.Request,
        path: str,
    ) -> None:
        self._simulator = simulator
        self._cluster = cluster
        self._control = control
        self._request = request
        self._path = path
        self._query = request.query
        self._target = requests.target(cluster, request.method, path, request.query)
        self._form = ""

    async def answer(self) -> web.StreamResponse:
        target = self._target
        self._control.requests[(target.verb, target.plural)] += 1
        if target.verb == "patch":
            kind = requests.media_type(self._request.headers.get("Content-Type", ""))
            self._form = requests.PATCH_FORMS.get(kind, "")
        await self._control.slow(apply=self._form == "apply")
        if fault := self._control.meet(target, after=False):
            await admin.suffer(fault, target)
        served = target.served
        if served is None:
            raise errors.no_such_path()
        if target.subresource and target.subresource not in served.resource.subresources:
            raise errors.no_such_path()
        match target.verb:
            case "get" | "list":
                answer: web.StreamResponse = self._read(served)
            case "watch":
                return await self._watch(served)
            case _:
                answer = await self._write(served)
        if fault := self._control.meet(target, after=True):
            await admin.suffer(fault, target)
        return answer

    def _view(self, served: Served) -> reading.View:
        accept = self._request.headers.get("Accept", "")
        return reading.View(served.resource, accept, self._cluster)

    def _read(self, served: Served) -> web.Response:
        target, view = self._target, self._view(served)
        if target.verb == "list":
            return _answer(reading.listing(self._cluster, target, self._query, view))
        stored = operations.require(self._cluster, served, target.one_namespace, target.name)
        if target.subresource == "scale":
            return _answer(orjson.dumps(scale.read(served.resource, stored.item)))
        return _answer(view.one(stored.item) if view.form else view.body(stored))

    async def _watch(self, served: Served) -> web.StreamResponse:
        watch = reading.Watch(
            self._cluster,
            self._target,
            self._query,
            self._view(served),
            bookmark_every=self._simulator.bookmark_every,
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(self._request)
        frames = watch.frames()
        try:
            async for frame in frames:
                await response.write(frame)
            await response.write_eof()
        except ConnectionError:
            # The client went while we wrote; there is nobody left to tell.
            return response
        finally:
            await frames.aclose()
        return response

    async def _write(self, served: Served) -> web.Response:
        target, request = self._target, self._request
        data = await request.read()
        call = Call(
            manager=requests.manager(self._query, request.headers.get("User-Agent", "")),
            dry_run=requests.dry_run(self._query),
            force=requests.flag(self._query, "force"),
            subresource=target.subresource,
            field_validation=self._query.get("fieldValidation") or "Warn",
        )
        version = self._cluster.store.version
        code = 500
        changed = False
        try:
            outcome = self._perform(served, call, data)
            code, changed = 201 if outcome.created else 200, outcome.changed
        except errors.ApiError as error:
            code = error.code
            raise
        finally:
            self._record(call, code, changed or self._cluster.store.version != version)
        headers = {}
        if call.warnings:
            headers["Warning"] = ", ".join(f'299 - "{_quote(w)}"' for w in call.warnings[:20])
        return _answer(self._view(served).one(outcome.item), code, headers)

    def _perform(self, served: Served, call: Call, data: bytes) -> Outcome:
        target, cluster = self._target, self._cluster
        content_type = self._request.headers.get("Content-Type", "")
        place, name = target.one_namespace, target.name
        if target.verb in ("delete", "deletecollection"):
            return self._delete(served, call, content_type, data)
        if target.verb == "create":
            if name:
                raise errors.no_such_path()
            return operations.create(
                cluster, served, place, requests.body(content_type, data), call
            )
        if not name:
            raise errors.ApiError(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        if target.verb == "update":
            body = requests.body(content_type, data)
            return operations.replace(cluster, served, place, name, body, call)
        if not self._form:
            raise errors.ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type")
        if self._form == "strategic" and served.resource.custom:
            forms = [f for f, form in requests.PATCH_FORMS.items() if form != "strategic"]
            raise errors.unsupported_media_type(content_type, tuple(forms))
        body = requests.body(content_type, data)
        if self._form == "apply":
            self._require_manager()
            return operations.apply(cluster, served, place, name, body, call)
        return operations.patch(cluster, served, place, name, self._form, body, call)

    def _require_manager(self) -> None:
        if not self._query.get("fieldManager"):
            causes = [errors.required("fieldManager", "is required for apply patch")]
            raise errors.invalid("PatchOptions", "meta.k8s.io", "", causes)

    def _delete(self, served: Served, call: Call, content_type: str, data: bytes) -> Outcome:
        target = self._target
        options = requests.body(content_type, data) if data else {}
        if not isinstance(options, dict):
            raise errors.bad_request("the body of a delete is DeleteOptions")
        if policy := self._query.get("propagationPolicy"):
            options.setdefault("propagationPolicy", policy)
        call.dry_run = call.dry_run or bool(options.get("dryRun"))
        place = target.one_namespace
        if target.verb == "delete":
            return operations.delete(self._cluster, served, place, target.name, options, call)
        wanted = reading.filter_of(target, self._query)
        found = self._cluster.store.sorted(served.resource.key, target.namespace)
        items = []
        changed = False
        for stored in found:
            if wanted.passes(stored):
                metadata = stored.item["metadata"]
                where = str(metadata.get("namespace") or "")
                outcome = operations.delete(
                    self._cluster, served, where, str(metadata["name"]), options, call
                )
                changed = changed or outcome.changed
                items.append(stored.item)
        listing = {
            "kind": f"{served.resource.kind}List",
            "apiVersion": served.resource.api_version,
            "metadata": {"resourceVersion": str(self._cluster.store.version)},
            "items": items,
        }
        return Outcome(listing, changed)

    def _record(self, call: Call, code: int, changed: bool) -> None:
        target = self._target
        self._control.writes.append(
            admin.Write(
                at=time.time(),
                verb=target.verb,
                path="/" + self._path,
                resource=target.plural,
                namespace=target.one_namespace,
                name=target.name,
                subresource=target.subresource,
                form=self._form,
                manager=call.manager,
                code=code,
                changed=changed,
                dry_run=call.dry_run,
                version=self._cluster.store.version,
            )
        )


def _quote(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
