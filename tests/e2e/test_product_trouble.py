"""What the product does when an API server forgets, restarts, dies, or is not to be reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from tests.e2e.audit import AuditEvent
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes
from tests.e2e.proxy import Proxy
from tests.e2e.users import User

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

# Without the group that is never refused: a server that starts refuses all others for a while.
USER = "operator"
CLUSTER = "cluster/default/distant"
KINDS = {
    "configmaps": "ConfigMap",
    "secrets": "Secret",
    "serviceaccounts": "ServiceAccount",
    "services": "Service",
    "deployments": "Deployment",
}


def objects(name: str) -> list[dict[str, Any]]:
    """Return an object of each kind."""
    labels = {"app": name}
    container = {"name": name, "image": "example.org/web:1"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    return [
        configmap(name, n="1"),
        kubernetes("v1", "Secret", name, stringData={"n": "1"}),
        kubernetes("v1", "ServiceAccount", name),
        kubernetes("v1", "Service", name, spec={"ports": [{"port": 80}]}),
        kubernetes("apps/v1", "Deployment", name, spec=spec),
    ]


class Distant(App):
    """An application of an object of each kind, on a cluster behind a proxy."""

    def __init__(self, product: Product, plane: ControlPlane, proxy: Proxy, namespace: str) -> None:
        super().__init__(product, namespace, cluster="distant")
        self.plane, self.proxy = plane, proxy

    def commit_all(self, n: int = 1) -> str:
        """Commit an object of each kind; `n` is in the ConfigMap alone."""
        changing = configmap("config", n=str(n))
        return self.commit(changing, configmap("other", n="1"), *objects("fixed")[1:])

    async def cluster_event(self, kind: str, after: int) -> dict[str, Any]:
        """Wait for an event of the cluster; return its payload."""
        event = await self.product.next_event(kind, after, stream=CLUSTER, timeout=120)
        return dict(event["payload"])

    async def cluster_events(self, kinds: str, after: int) -> list[dict[str, Any]]:
        """Return what was recorded of the cluster."""
        return await self.product.events(after, type=kinds, stream=CLUSTER)

    def requests(self, since: int, verb: str) -> list[AuditEvent]:
        """Return the product's requests for the application's kinds that have ended."""
        return [
            event
            for event in self.plane.audit.events(since)
            if event.username == USER and event.verb == verb and event.object_ref.resource in KINDS
        ]

    async def resumed(self, since: int) -> dict[str, int]:
        """Return by kind the version from which its second watch after `since` began.

        Those that are open are broken, since the API server books a watch when it ends.
        """
        with anyio.fail_after(60):
            while True:
                watches: dict[str, list[int]] = {kind: [] for kind in KINDS}
                for event in self.requests(since, "watch"):
                    watches[event.object_ref.resource].append(event.version)
                if all(len(versions) > 1 for versions in watches.values()):
                    return {kind: versions[1] for kind, versions in watches.items()}
                self.proxy.cut()
                await anyio.sleep(1)

    def written(self, since: int) -> list[str]:
        """Return what the product wrote, by name, refused requests included."""
        return [event.object_ref.name for event in self.plane.audit.writes(USER, since)]

    async def tamper(self, name: str = "config") -> None:
        """Change a ConfigMap by hand."""
        await self.plane.kubectl(
            *("patch", "configmap", name, "-n", self.name, "-p", '{"data": {"n": "tampered"}}')
        )

    async def mended(self, after: int, name: str = "config", n: str = "1") -> None:
        """Wait until the change was found and put right."""
        drift = await self.event("DriftDetected", after)
        (difference,) = drift["differences"]
        assert (difference["ref"]["name"], difference["after"]) == (name, "tampered")
        assert (await self.event("DriftResolved", after))["how"] == "corrected"
        live = await self.plane.get("configmap", name, "-n", self.name)
        assert live["data"] == {"n": n}


@pytest.fixture(scope="module")
async def proxy(control_plane: ControlPlane, product: Product) -> AsyncIterator[Proxy]:
    plane = control_plane
    kubeconfig = plane.add_user(User(USER))
    await plane.kubectl(
        "create", "clusterrolebinding", USER, "--clusterrole=cluster-admin", f"--user={USER}"
    )
    async with Proxy(plane.server) as proxy:
        await product.cluster(
            "distant", proxy.kubeconfig(kubeconfig, plane.folder / "through-proxy.yaml")
        )
        yield proxy


@pytest.fixture
async def app(
    product: Product, control_plane: ControlPlane, proxy: Proxy, namespace: str
) -> AsyncIterator[Distant]:
    app = Distant(product, control_plane, proxy, namespace)
    app.commit_all()
    await app.declare()
    await app.synced()
    yield app
    # Its kinds are wanted no longer, and its objects stay.
    await product.cli("delete", "application", app.name, "--reason", "the test is over")


async def test_a_minute_of_rest_changes_nothing_and_broken_watches_resume_from_a_bookmark(
    app: Distant,
) -> None:
    await app.product.wait(app.target, "healthy")
    plane, since, head = app.plane, app.plane.audit.position(), await app.product.position()
    # Not ours, so that no watch of the product brings it; a bookmark is from after it.
    await plane.apply(*objects("noise"), namespace=app.name)
    noise = {
        item["kind"]: int(item["metadata"]["resourceVersion"])
        for item in (await plane.get(",".join(KINDS), "-n", app.name))["items"]
        if item["metadata"]["name"] == "noise"
    }
    await anyio.sleep(65)
    assert not app.written(since)
    assert await app.product.events(head) == []

    cut = app.plane.audit.position()
    app.proxy.refuse()
    await app.tamper()
    app.proxy.state = "open"
    await app.mended(head)
    resumed = await app.resumed(cut)
    stale = [kind for plural, kind in KINDS.items() if resumed[plural] < noise[kind]]
    assert not stale
    # One object is asked for, to see that it is the same store still; nothing is listed again.
    lists = [each.request_u_r_i for each in app.requests(cut, "list")]
    assert not [each for each in lists if not each.endswith("limit=1")]
    assert not await app.cluster_events("ObservationGap,ClusterLost,KindUnreadable", head)
    assert app.written(since) == ["config"]


async def test_a_cluster_that_is_gone_for_a_while_is_in_step_when_it_is_back(
    app: Distant,
) -> None:
    plane, since, head = app.plane, app.plane.audit.position(), await app.product.position()
    app.proxy.refuse()
    lost = await app.cluster_event("ClusterLost", head)
    assert lost["code"] == "unreachable"
    commit = app.commit_all(2)
    held = await app.event("ReconcileHeld", head)
    assert held["code"] == "cluster-lost"
    await app.tamper("other")
    await plane.kubectl("delete", "secret", "fixed", "-n", app.name)
    back = await app.product.position()
    app.proxy.state = "open"
    connected = await app.cluster_event("ClusterConnected", back)
    assert connected["server_version"].startswith("v1.")
    await app.synced(commit)
    resolved = await app.event("DriftResolved", back)
    assert resolved["how"] == "corrected"
    assert (await plane.get("configmap", "config", "-n", app.name))["data"] == {"n": "2"}
    assert (await plane.get("configmap", "other", "-n", app.name))["data"] == {"n": "1"}
    await plane.get("secret", "fixed", "-n", app.name)
    assert sorted(app.written(since)) == ["config", "fixed", "other"]
    assert len(await app.cluster_events("ClusterLost", head)) == 1


async def test_history_that_was_compacted_is_a_gap_and_what_happened_in_it_is_found(
    app: Distant,
) -> None:
    since, head = app.plane.audit.position(), await app.product.position()
    app.proxy.refuse()
    await app.tamper()
    await app.plane.forget_history()
    app.proxy.state = "open"
    gap = await app.cluster_event("ObservationGap", head)
    assert "410" in gap["reason"]
    await app.mended(head)
    assert app.written(since) == ["config"]


async def test_an_api_server_that_hangs_is_lost_and_found_again(app: Distant) -> None:
    plane, head = app.plane, await app.product.position()
    plane.apiserver.freeze()
    try:
        # Connections stay open and nothing is answered: only time-outs tell.
        commit = app.commit_all(2)
        lost = await app.cluster_event("ClusterLost", head)
        assert lost["code"] == "timed-out"
        assert (await app.event("ReconcileHeld", head))["code"] == "cluster-lost"
        assert not await app.cluster_events("KindUnreadable", head)
    finally:
        plane.apiserver.thaw()
    await app.cluster_event("ClusterConnected", head)
    await app.synced(commit)
    assert (await plane.get("configmap", "config", "-n", app.name))["data"] == {"n": "2"}
    assert not await app.events("DriftDetected", head)


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_an_api_server_that_starts_again_is_no_reason_to_write(
    app: Distant, how: str
) -> None:
    """Also not that it refuses every watch with 403 until it has read its own rules."""
    plane, since, head = app.plane, app.plane.audit.position(), await app.product.position()
    await (plane.apiserver.stop() if how == "restart" else plane.apiserver.kill())
    await plane.apiserver.start()
    await app.tamper()
    await app.mended(head)
    for kinds in ("KindUnreadable", "ClusterLost"):
        assert not await app.cluster_events(kinds, head)
    assert not await app.events("ReconcileHeld", head)
    print([str(e) for e in plane.audit.events(since) if e.username == USER and e.code == 403])
    assert app.written(since) == ["config"]
    commit = app.commit_all(2)
    await app.synced(commit)
    assert app.written(since) == ["config", "config"]


async def test_a_commit_while_the_api_server_is_down_is_rolled_out_when_it_is_up(
    app: Distant,
) -> None:
    plane, since, head = app.plane, app.plane.audit.position(), await app.product.position()
    await plane.apiserver.kill()
    commit = app.commit_all(2)
    failed = await app.event("CorrectionFailed", head)
    assert failed["code"] == "unreachable"
    await plane.apiserver.start()
    await app.synced(commit)
    assert (await plane.get("configmap", "config", "-n", app.name))["data"] == {"n": "2"}
    done = [event for event in plane.audit.writes(USER, since) if event.code < 400]
    assert [event.object_ref.name for event in done] == ["config"]
    assert not await app.cluster_events("KindUnreadable", head)
