"""What the product may not do it says by name; all else goes on, and rights given later count."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from engine.objects.ownership import LABEL_SELECTOR
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes, named
from tests.e2e.users import User

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

ALL = ("get", "list", "watch", "create", "patch", "delete")
RESOURCES = ("configmaps", "secrets", "services", "serviceaccounts", "limitranges")
RBAC = "rbac.authorization.k8s.io"


class Rights:
    """What one user may do: everything with five resources, less what is taken away."""

    def __init__(self, plane: ControlPlane, user: str) -> None:
        self._plane, self.user = plane, user

    async def without(self, **taken: str) -> None:
        """Take a verb of some resources away, give everything else, and wait until it counts."""
        rules = [
            {
                "apiGroups": [""],
                "resources": [name],
                "verbs": [verb for verb in ALL if verb != taken.get(name)],
            }
            for name in RESOURCES
        ]
        subject = {"apiGroup": RBAC, "kind": "User", "name": self.user}
        role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.user}
        await self._plane.apply(
            kubernetes(f"{RBAC}/v1", "ClusterRole", self.user, rules=rules),
            kubernetes(
                f"{RBAC}/v1", "ClusterRoleBinding", self.user, subjects=[subject], roleRef=role
            ),
        )
        # The API server learns of a role by a watch of its own.
        with anyio.fail_after(30):
            for name in RESOURCES:
                for verb in ALL:
                    while await self._may(verb, name) is (verb == taken.get(name)):
                        pass

    async def _may(self, verb: str, resource: str) -> bool:
        attributes = {"verb": verb, "resource": resource, "namespace": ""}
        answer = await self._plane.request(
            "POST",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            {"spec": {"user": self.user, "resourceAttributes": attributes}},
        )
        return bool(answer.body["status"]["allowed"])


class Case(App):
    """An application of an object of each resource, on a cluster that one user's rights bound."""

    def __init__(self, plane: ControlPlane, product: Product, namespace: str) -> None:
        super().__init__(product, namespace, cluster=namespace)
        self.plane = plane
        self.rights = Rights(plane, namespace)

    async def start(self) -> None:
        """Declare the cluster and the application."""
        await self.product.cluster(self.cluster, self.plane.add_user(User(self.rights.user)))
        await self.declare()

    def commit_all(self, n: int, *, without: str = "") -> str:
        """Commit the objects, all with the value `n`."""
        limits = [{"type": "Container", "default": {"cpu": str(n)}}]
        objects = [
            configmap("config", n=str(n)),
            kubernetes("v1", "Secret", "secret", stringData={"n": str(n)}),
            kubernetes("v1", "Service", "service", spec={"ports": [{"port": 80 + n}]}),
            kubernetes("v1", "ServiceAccount", "account", imagePullSecrets=[{"name": f"s{n}"}]),
            kubernetes("v1", "LimitRange", "limits", spec={"limits": limits}),
        ]
        kept = [item for item in objects if item["kind"] != without]
        return self.commit(*kept)

    async def there(self) -> set[str]:
        """Return the kinds of what the application has in the cluster."""
        found = await self.plane.get(
            ",".join(RESOURCES), "-n", self.namespace, "-l", LABEL_SELECTOR
        )
        return {item["kind"] for item in found["items"]}

    async def until_config(self, n: int) -> None:
        """Wait until the ConfigMap has a value."""
        await self.plane.kubectl(
            *("wait", "configmap/config", "-n", self.namespace, f"--for=jsonpath={{.data.n}}={n}")
        )


@pytest.fixture
async def case(
    control_plane: ControlPlane, product: Product, namespace: str
) -> AsyncIterator[Case]:
    yield Case(control_plane, product, namespace)
    await control_plane.kubectl("delete", "clusterrole,clusterrolebinding", namespace)


async def test_kinds_that_may_not_be_listed_or_watched_are_unknown_and_hold_up_no_other(
    case: Case,
) -> None:
    await case.rights.without(secrets="list", services="watch")
    case.commit_all(1)
    await case.start()

    held = await case.event("ReconcileHeld")
    assert held["code"] == "forbidden"
    assert {ref["kind"] for ref in held["objects"]} == {"Secret", "Service"}
    cluster = f"cluster/default/{case.namespace}"
    unreadable = await case.product.events(stream=cluster, type="KindUnreadable")
    told = {event["payload"]["kind"]: event["payload"] for event in unreadable}
    assert {kind: payload["code"] for kind, payload in told.items()} == {
        "Secret": "forbidden",
        "Service": "forbidden",
    }
    assert f'User "{case.rights.user}" cannot list resource "secrets"' in told["Secret"]["message"]
    assert 'cannot watch resource "services"' in told["Service"]["message"]
    assert await case.there() == {"ConfigMap", "ServiceAccount", "LimitRange"}
    status = await case.product.status(case.target)
    assert (status["sync"], status["code"]) == ("held", "forbidden")

    case.commit_all(2)
    await case.until_config(2)
    await case.plane.kubectl(
        *("patch", "configmap", "config", "-n", case.namespace, "-p", '{"data": {"n": "9"}}')
    )
    assert (await case.event("DriftResolved"))["how"] == "corrected"
    await case.until_config(2)

    await case.rights.without()
    await case.synced()
    assert await case.there() == {"ConfigMap", "Secret", "Service", "ServiceAccount", "LimitRange"}


async def test_what_may_not_be_written_fails_by_name_and_the_rest_is_done(case: Case) -> None:
    await case.rights.without(serviceaccounts="patch")
    case.commit_all(1)
    await case.start()
    failed = await case.event("CorrectionFailed")
    assert failed["code"] == "forbidden"
    result = named(failed["results"], "ServiceAccount", "account")
    assert (result["outcome"], result["verb"]) == ("forbidden", "apply")
    assert 'cannot patch resource "serviceaccounts"' in result["message"]
    others = [each for each in failed["results"] if each is not result]
    assert {each["outcome"] for each in others} == {"created"}
    assert await case.there() == {"ConfigMap", "Secret", "Service", "LimitRange"}
    status = await case.until("failed")
    assert (status["code"], "ServiceAccount/account" in status["reason"]) == ("forbidden", True)
    await case.rights.without()
    await case.synced()

    await case.rights.without(limitranges="delete")
    after = await case.product.position()
    commit = case.commit_all(2, without="LimitRange")
    failed = await case.event("CorrectionFailed", after)
    assert failed["code"] == "forbidden"
    result = named(failed["results"], "LimitRange", "limits")
    assert (result["outcome"], result["verb"]) == ("forbidden", "delete")
    assert 'cannot delete resource "limitranges"' in result["message"]
    await case.until_config(2)
    assert await case.there() == {"ConfigMap", "Secret", "Service", "ServiceAccount", "LimitRange"}
    await case.rights.without()
    await case.synced(commit)
    assert await case.there() == {"ConfigMap", "Secret", "Service", "ServiceAccount"}


async def test_an_api_group_that_fails_makes_only_its_own_kinds_unknown(
    control_plane: ControlPlane, product: Product, namespace: str
) -> None:
    plane, group = control_plane, f"{namespace}.example.org"
    service = {"name": "nobody", "namespace": namespace, "port": 443}
    await plane.apply(
        kubernetes(
            "apiregistration.k8s.io/v1",
            "APIService",
            f"v1.{group}",
            spec={
                "group": group,
                "version": "v1",
                "service": service,
                "groupPriorityMinimum": 1000,
                "versionPriority": 10,
                "insecureSkipTLSVerify": True,
            },
        ),
        kubernetes("v1", "Service", "nobody", spec={"ports": [{"port": 443}]}),
        namespace=namespace,
    )
    app = App(product, namespace)
    widget = kubernetes(f"{group}/v1", "Widget", "widget", spec={"size": 1})
    app.commit(configmap("config", n="1"), widget)
    await app.declare()
    held = await app.event("ReconcileHeld")
    assert held["code"] == "group-unavailable"
    assert [ref["kind"] for ref in held["objects"]] == ["Widget"]
    assert f"{group}/v1" in held["message"]
    await plane.get("configmap", "config", "-n", namespace)
    unreadable = await product.events(stream="cluster/default/real", type="KindUnreadable")
    assert [event["payload"]["kind"] for event in unreadable] == ["Widget"]

    await plane.kubectl("delete", "apiservice", f"v1.{group}")
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "widgets", "kind": "Widget"}
    await plane.apply(
        kubernetes(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            f"widgets.{group}",
            spec={"group": group, "scope": "Namespaced", "names": names, "versions": [version]},
        )
    )
    await app.synced()
    assert (await plane.get(f"widgets.{group}", "widget", "-n", namespace))["spec"] == {"size": 1}
    await plane.kubectl("delete", "crd", f"widgets.{group}")
