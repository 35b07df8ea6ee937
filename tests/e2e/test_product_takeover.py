"""Taking over what the real tools deployed: Helm 3, Helm 4, Flux, on a real API server.

The same by the names of their field managers alone, for each kubectl verb too, is in
`test_product_drift.py`.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from aiohttp import web

from tests.e2e.cluster import Cluster, Output
from tests.e2e.conftest import MakeProduct
from tests.e2e.gate import WHEN, Gate, When
from tests.e2e.harness import ControlPlane
from tests.e2e.process import Part
from tests.e2e.product import App, Product, configmap, manifests
from tests.e2e.test_product_drift import SERVICE, declare, deployment
from tests.e2e.test_product_kills import is_whole
from tests.e2e.tools import run, tool
from tests.repositories import clone_bundle

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
KINDS = "deployments,replicasets,services,configmaps,serviceaccounts"
CHART = "charts/podinfo"
VALUES = ("--set", "replicaCount=2,redis.enabled=true,ui.message=hello")


class Helm:
    """A Helm of one release, with a release of podinfo's chart in a namespace."""

    def __init__(self, name: str, scratch: Path, cluster: Cluster, namespace: str) -> None:
        self._program = tool(name) / "helm"
        bare = clone_bundle("podinfo-deploy.bundle", scratch / "podinfo.git")
        self.chart = scratch / "podinfo" / CHART
        self._git = (bare, scratch / "podinfo")
        self._namespace = namespace
        self._env = {
            "KUBECONFIG": str(cluster.kubeconfig()),
            # Where it keeps what it was told of the API.
            "HOME": str(scratch),
            **{f"HELM_{what}_HOME": str(scratch / what) for what in ("CACHE", "CONFIG", "DATA")},
        }

    async def __call__(self, *words: str, check: bool = True) -> Output:
        """Run it on the namespace."""
        return await run(
            self._program, *words, "--namespace", self._namespace, env=self._env, check=check
        )

    async def install(self) -> str:
        """Install the chart; return the manifest that was applied."""
        bare, work = self._git
        await run(Path("git"), "clone", "--quiet", str(bare), str(work), env={})
        await self("install", "podinfo", str(self.chart), *VALUES)
        return (await self("get", "manifest", "podinfo")).stdout


def managers(live: dict[str, Any]) -> set[str]:
    """Name who manages fields of an object itself, not of its status."""
    return {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if not entry.get("subresource")
    }


async def everything(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return what is in a namespace, by kind and name, but for what the cluster puts there."""
    listed = await cluster.get(KINDS, "-n", namespace)
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for item in listed["items"]
        if item["metadata"]["name"] not in ("default", "kube-root-ca.crt")
    }


async def rolled_out(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Wait until every Deployment has its ReplicaSet; return what is there."""
    with anyio.fail_after(30):
        while True:
            found = await everything(cluster, namespace)
            kinds = [name.partition("/")[0] for name in found]
            if kinds.count("ReplicaSet") == kinds.count("Deployment"):
                return found
            await anyio.sleep(0.1)


def assert_nothing_restarted(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]
) -> None:
    """Check that it is the same objects, and that no pod template has changed."""
    assert before.keys() == after.keys()
    for name, was in before.items():
        live = after[name]
        assert live["metadata"]["uid"] == was["metadata"]["uid"], name
        if name.startswith(("Deployment/", "ReplicaSet/")):
            assert live["spec"] == was["spec"], name
        if name.startswith("ReplicaSet/"):
            # Each change of its spec raises it, and nothing else does (a Deployment's annotations
            # raise a Deployment's).
            assert live["metadata"]["generation"] == was["metadata"]["generation"], name


async def taken_over(app: App, manager: str) -> None:
    """Sync what is there already: refused because of its manager, then taken over."""
    await declare(app)
    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "conflict"
    named = {name for result in failed["results"] for name in result.get("managers", ())}
    assert named == {manager}
    await adopted(app, f"moved from {manager}")


async def adopted(app: App, reason: str) -> None:
    """Take over what is there, and wait for it."""
    start = await app.product.position()
    done = await app.product.cli("adopt", app.target, "--reason", reason)
    assert done.status == 0, done
    await app.synced()
    results = [
        each for fact in await app.events("CorrectionApplied", start) for each in fact["results"]
    ]
    # Of some nothing is changed but whose it is.
    assert {each["outcome"] for each in results} == {"changed"}, results
    diff = await app.product.call("GET", f"/v1/targets/default/{app.target}/diff")
    assert diff["differences"] == []


async def every_decision_is_the_same(app: App) -> None:
    page = await app.product.call("GET", f"/v1/targets/default/{app.target}/replay")
    assert [item for item in page["items"] if item["same"] is not True] == []


@pytest.mark.parametrize("version", ["helm3", "helm4"])
async def test_a_release_of_helm_is_taken_over_and_what_it_does_later_is_put_right(
    cluster: Cluster, product: Product, namespace: str, tmp_path: Path, version: str
) -> None:
    helm = Helm(version, tmp_path, cluster, namespace)
    manifest = await helm.install()
    before = await rolled_out(cluster, namespace)
    assert "Deployment/podinfo" in before
    assert managers(before["Deployment/podinfo"]) == {"helm"}

    app = App(product, namespace)
    app.repository.commit({"all.yaml": manifest})
    # A ConfigMap of the chart's that says the same needs no force, and is ours beside Helm's.
    await taken_over(app, "helm")
    after = await everything(cluster, namespace)
    assert_nothing_restarted(before, after)
    for name, live in after.items():
        if not name.startswith("ReplicaSet/"):
            assert managers(live) == {"trueup"}, name
            assert "meta.helm.sh/release-name" not in live["metadata"]["annotations"]

    start = await product.position()
    upgraded = await helm(
        *("upgrade", "podinfo", str(helm.chart), "--set"),
        *("replicaCount=5,redis.enabled=true,ui.message=theirs",),
        check=False,
    )
    if version == "helm3":
        assert upgraded.status == 0, upgraded
        drift = await app.event("DriftDetected", start)
        assert {each["manager"] for each in drift["differences"]} == {"helm"}
        await app.event("DriftResolved", start)
    else:
        # Helm 4 applies server-side and does not force: it loses by itself, and says to whom.
        assert upgraded.status != 0
        assert "trueup" in upgraded.stderr
    await app.synced()
    live = (await everything(cluster, namespace))["Deployment/podinfo"]
    assert live["spec"] == before["Deployment/podinfo"]["spec"]

    # Helm forgets the release, and nothing of it goes.
    start = await product.position()
    secrets = ("secret", "-n", namespace, "-l", "owner=helm,name=podinfo")
    await cluster.kubectl("delete", *secrets)
    assert (await helm("list", "--short")).stdout.strip() == ""
    assert (await everything(cluster, namespace)).keys() >= {"Deployment/podinfo"}
    assert await app.events("DriftDetected", start) == []
    await every_decision_is_the_same(app)


async def test_what_is_taken_over_as_it_is_counts_as_changed(
    cluster: Cluster, product: Product, namespace: str
) -> None:
    settings = configmap("settings", a="1")
    await cluster.apply(settings, manager="helm", namespace=namespace)
    app = App(product, namespace)
    app.commit(settings)
    await declare(app)
    await app.synced()
    await adopted(app, "nothing but whose it is changes")
    live = (await everything(cluster, namespace))["ConfigMap/settings"]
    assert managers(live) == {"trueup"}


SOURCES = {
    "GitRepository": "gitrepositories",
    "OCIRepository": "ocirepositories",
    "Bucket": "buckets",
    "ExternalArtifact": "externalartifacts",
}
"""What kustomize-controller watches of Flux's source-controller, which does not run here."""


def definition(kind: str, plural: str) -> dict[str, Any]:
    """Return a definition that takes whatever is in it."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }
    group = "source.toolkit.fluxcd.io"
    names = {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


class Flux:
    """Flux' kustomize-controller, with a GitRepository whose artifact this test serves itself."""

    def __init__(self, cluster: Cluster, namespace: str, url: str) -> None:
        self._cluster, self._namespace, self._url = cluster, namespace, url
        self.served = b""

    async def artifact(self, *objects: dict[str, Any]) -> None:
        """Publish a revision, as source-controller does, and have it applied."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            body = manifests(*objects).encode()
            entry = tarfile.TarInfo("all.yaml")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
        self.served = packed.getvalue()
        digest = hashlib.sha256(self.served).hexdigest()
        revision = f"main@sha1:{digest[:40]}"
        status = {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Succeeded",
                    "message": "stored",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
            "artifact": {
                "path": "all.tar.gz",
                "url": f"{self._url}/all.tar.gz",
                "revision": revision,
                "digest": f"sha256:{digest}",
                "size": len(self.served),
                "lastUpdateTime": "2026-01-01T00:00:00Z",
            },
        }
        source = self._object("source.toolkit.fluxcd.io/v1", "GitRepository", {"url": self._url})
        await self._cluster.kubectl("apply", "-f", "-", stdin=source)
        await self._cluster.kubectl(
            *("patch", "gitrepository", "web", "-n", self._namespace, "--subresource=status"),
            *("--type=merge", "--patch-file", "/dev/stdin"),
            stdin={"status": status},
        )
        applied = {
            "interval": "5s",
            "path": "./",
            "prune": True,
            "targetNamespace": self._namespace,
            "sourceRef": {"kind": "GitRepository", "name": "web"},
        }
        kind = "Kustomization"
        await self._cluster.kubectl(
            *("apply", "-f", "-"),
            stdin=self._object("kustomize.toolkit.fluxcd.io/v1", kind, applied),
        )
        await self._cluster.kubectl(
            *("wait", "kustomization/web", "-n", self._namespace, "--timeout=60s"),
            f"--for=jsonpath={{.status.lastAppliedRevision}}={revision}",
            timeout=70,
        )

    async def suspended(self, value: bool) -> None:
        """Suspend it, or let it loose."""
        await self._cluster.kubectl(
            *("patch", "kustomization", "web", "-n", self._namespace, "--type=merge"),
            *("-p", orjson.dumps({"spec": {"suspend": value}}).decode()),
        )

    def _object(self, api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
        metadata = {"name": "web", "namespace": self._namespace}
        return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


@asynccontextmanager
async def flux_on(cluster: Cluster, namespace: str, scratch: Path) -> AsyncIterator[Flux]:
    """Run kustomize-controller for one namespace."""
    folder = tool("flux")
    await cluster.kubectl("apply", "--server-side", "-f", str(folder / "definitions.yaml"))
    every = [definition(kind, plural) for kind, plural in SOURCES.items()]
    await cluster.kubectl("apply", "-f", "-", stdin=every)
    await cluster.kubectl(
        "wait", "--for=condition=Established", "--timeout=30s", "crd", "--all", timeout=40
    )

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=flux.served, content_type="application/gzip")

    app = web.Application()
    app.router.add_get("/all.tar.gz", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served = f"http://127.0.0.1:{runner.addresses[0][1]}"
    flux = Flux(cluster, namespace, served)
    log = scratch / "kustomize-controller.log"

    async def ready() -> str | None:
        said = log.read_text() if log.exists() else ""
        return None if "Starting workers" in said else "no workers yet"

    part = Part(
        "kustomize-controller",
        [
            *(
                "/usr/bin/env",
                f"KUBECONFIG={cluster.kubeconfig()}",
                f"RUNTIME_NAMESPACE={namespace}",
            ),
            *(str(folder / "kustomize-controller"), "--watch-all-namespaces=false"),
            *("--metrics-addr", "127.0.0.1:0", "--health-addr", "127.0.0.1:0", "--events-addr="),
        ],
        log,
        ready,
    )
    try:
        await part.start()
        yield flux
    finally:
        with anyio.CancelScope(shield=True):
            await part.kill()
            await runner.cleanup()


async def test_what_flux_applies_is_taken_over_and_is_left_when_flux_lets_go(
    cluster: Cluster, product: Product, namespace: str, tmp_path: Path
) -> None:
    async with flux_on(cluster, namespace, tmp_path) as flux:
        await flux.artifact(deployment(replicas=2), SERVICE)
        before = await rolled_out(cluster, namespace)
        live = before["Deployment/web"]
        assert managers(live) == {"kustomize-controller"}
        assert live["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] == "web"
        # As people are told to: first the other tool is stopped.
        await flux.suspended(True)
        app = App(product, namespace)
        app.commit(deployment(replicas=2), SERVICE)
        await declare(app)
        # What both say alike is no conflict: it is had by both until it is taken over.
        await app.synced()
        shared = await everything(cluster, namespace)
        assert managers(shared["Service/web"]) == {"trueup", "kustomize-controller"}
        await adopted(app, "moved from Flux")
        after = await everything(cluster, namespace)
        assert_nothing_restarted(before, after)
        live = after["Deployment/web"]
        assert managers(live) == {"trueup"}
        assert "kustomize.toolkit.fluxcd.io/name" not in live["metadata"]["labels"]

        # Somebody lets it loose again: it takes by force what it has, and we put it right.
        start = await product.position()
        await flux.suspended(False)
        await flux.artifact(deployment(replicas=3), SERVICE)
        drift = await app.event("DriftDetected", start)
        assert {each["manager"] for each in drift["differences"]} == {"kustomize-controller"}
        await app.event("DriftResolved", start)
        await flux.suspended(True)
        await app.synced()
        live = await everything(cluster, namespace)
        assert live["Deployment/web"]["spec"] == before["Deployment/web"]["spec"]
        assert managers(live["Service/web"]) == {"trueup", "kustomize-controller"}

        # Taken over once more, and gone for good: what it had is not pruned with it.
        await adopted(app, "once more")
        start = await product.position()
        await cluster.kubectl("delete", "kustomization", "web", "-n", namespace)
        last = await everything(cluster, namespace)
        assert_nothing_restarted(live, last)
        assert managers(last["Service/web"]) == {"trueup"}
        assert await app.events("DriftDetected", start) == []
    await every_decision_is_the_same(app)


def told(live: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what has to be the same however a take-over went: values and their owners."""
    told: dict[str, Any] = {}
    for name, item in live.items():
        if name.startswith("ReplicaSet/"):
            continue
        metadata = item["metadata"]
        owners = [
            (entry["manager"], entry["operation"], entry.get("fieldsV1"))
            for entry in metadata["managedFields"]
            if not entry.get("subresource")
        ]
        labels = dict(metadata["labels"])
        labels.pop("trueup.dev/owner")
        annotations = sorted(metadata["annotations"])
        told[name] = [labels, annotations, owners, item.get("spec"), item.get("data")]
        if "clusterIP" in item.get("spec", {}):
            told[name][3] = {**item["spec"], "clusterIP": "", "clusterIPs": []}
    return told


async def test_a_take_over_that_is_killed_at_each_of_its_requests_ends_the_same(
    control_plane: ControlPlane, make_product: MakeProduct, tmp_path: Path
) -> None:
    plane, product = control_plane, await make_product()
    settings = configmap("settings", a="theirs", old="x")
    async with Gate(plane) as gate:
        await product.cluster("real", gate.kubeconfig("engine", tmp_path / "gate.yaml"))

        async def tried(name: str, number: int, when: When) -> tuple[dict[str, Any], bool]:
            """Take over in a namespace of its own; say what there is, and whether it was killed."""
            await plane.kubectl("create", "namespace", name)
            theirs = (deployment(replicas=2), SERVICE, settings)
            await plane.kubectl(
                *("-n", name, "create", "--field-manager=helm", "-f", "-"), stdin=theirs
            )
            before = await rolled_out(plane, name)
            app = App(product, name)
            app.commit(deployment(replicas=1), SERVICE, configmap("settings", a="ours"))
            await declare(app)
            await app.event("CorrectionFailed")
            await app.until("failed")
            gate.stop_at(number, when)
            done = await product.cli("adopt", app.target, "--reason", "killed")
            assert done.status == 0, done
            killed = False
            with anyio.move_on_after(5 if number else 0):
                await gate.stopped.wait()
                killed = True
                await product.kill()
            gate.open()
            if killed:
                await product.start()
            await app.synced()
            after = await everything(plane, name)
            assert before.keys() == after.keys()
            for key, was in before.items():
                assert after[key]["metadata"]["uid"] == was["metadata"]["uid"]
            template = before["Deployment/web"]["spec"]["template"]
            assert after["Deployment/web"]["spec"]["template"] == template
            await every_decision_is_the_same(app)
            assert await app.events("DriftDetected") == [], "its own deeds are nobody's drift"
            return told(after), killed

        expected, _ = await tried("taken", 0, "before")
        assert {owner[0] for each in expected.values() for owner in each[2]} == {"trueup"}
        kills = 0
        for when in WHEN:
            for number in range(1, 20):
                found, killed = await tried(f"taken-{when}-{number}", number, when)
                print(when, number)
                import json

                [
                    print(k, json.dumps(found[k]), "\n", json.dumps(expected[k]))
                    for k in expected
                    if found[k] != expected[k]
                ]
                assert found == expected, (when, number)
                if not killed:
                    break
                kills += 1
        assert kills >= 2 * 6, "two requests for each of three objects"
    await is_whole(product)
