"""Who refuses or rewrites what the product sends: a quota, policies, a webhook."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap, kubernetes, named

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

ADMISSION = "admissionregistration.k8s.io/v1"


@pytest.fixture
def app(product: Product, namespace: str) -> App:
    return App(product, namespace)


async def test_what_a_quota_refuses_is_named_and_done_when_there_is_room(
    control_plane: ControlPlane, app: App
) -> None:
    plane = control_plane
    quota = kubernetes("v1", "ResourceQuota", "few", spec={"hard": {"count/secrets": "1"}})
    await plane.apply(quota, namespace=app.name)
    counted = "--for=jsonpath={.status.used.count/secrets}=0"
    await plane.kubectl("wait", "resourcequota/few", "-n", app.name, counted)
    secrets = [kubernetes("v1", "Secret", name, stringData={"a": "1"}) for name in ("one", "two")]
    app.commit(*secrets, configmap("config"))
    await app.declare()
    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "forbidden"
    outcomes = sorted(each["outcome"] for each in failed["results"])
    assert outcomes == ["created", "created", "forbidden"]
    assert "exceeded quota: few" in failed["message"]
    quota["spec"]["hard"]["count/secrets"] = "2"
    await plane.apply(quota, namespace=app.name)
    await app.synced()


async def test_what_an_admission_policy_denies_is_told_in_its_words(
    control_plane: ControlPlane, app: App
) -> None:
    plane, message = control_plane, f"no widget may be called that in {app.name}"
    await _admit(
        plane,
        app.name,
        "Validating",
        validations=[
            {"expression": "!has(object.data) || !('bad' in object.data)", "message": message}
        ],
    )

    async def denies() -> bool:
        probe = configmap("probe", app.name, bad="1")
        command = ("create", "-f", "-", "--dry-run=server")
        return (await plane.kubectl(*command, stdin=probe, check=False)).status != 0

    await _until(denies)
    app.commit(configmap("good", a="1"), configmap("poor", bad="1"))
    await app.declare()
    failed = await app.event("CorrectionFailed")
    result = named(failed["results"], "ConfigMap", "poor")
    assert result["outcome"] == "invalid"
    assert message in result["message"]
    assert named(failed["results"], "ConfigMap", "good")["outcome"] == "created"
    told = await app.product.cli("timeline", app.target)
    assert message in told.stdout
    commit = app.commit(configmap("good", a="1"), configmap("poor", a="1"))
    await app.synced(commit)
    await plane.kubectl(
        "delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", app.name
    )


async def test_a_webhook_that_does_not_answer_is_named_and_tried_again(
    control_plane: ControlPlane, app: App
) -> None:
    plane = control_plane
    hook = {
        "name": "nobody.example.org",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "clientConfig": {"service": {"name": "nobody", "namespace": app.name}},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": app.name}},
        "rules": [_rule()],
    }
    name = "ValidatingWebhookConfiguration"
    await plane.apply(kubernetes(ADMISSION, name, app.name, webhooks=[hook]))

    async def fails() -> bool:
        command = ("create", "configmap", "probe", "-n", app.name, "--dry-run=server")
        return (await plane.kubectl(*command, check=False)).status != 0

    await _until(fails)
    app.commit(configmap("config", a="1"), kubernetes("v1", "ServiceAccount", "account"))
    await app.declare()
    failed = await app.event("CorrectionFailed")
    assert failed["code"] == "failed"
    result = named(failed["results"], "ConfigMap", "config")
    assert "nobody.example.org" in result["message"]
    assert named(failed["results"], "ServiceAccount", "account")["outcome"] == "created"
    await plane.kubectl("delete", name, app.name)
    await app.synced()


async def test_what_an_admission_policy_rewrites_is_shown_and_not_fought(
    control_plane: ControlPlane, app: App
) -> None:
    plane = control_plane
    kinds = await plane.request("GET", f"/apis/{ADMISSION}")
    if "MutatingAdmissionPolicy" not in {each["kind"] for each in kinds.body["resources"]}:
        pytest.skip("the API server is older than MutatingAdmissionPolicy")
    rewrite = 'Object{data: {"mode": "enforced", "added": "by policy"}}'
    await _admit(
        plane,
        app.name,
        "Mutating",
        reinvocationPolicy="Never",
        mutations=[
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": rewrite}}
        ],
    )

    async def rewrites() -> bool:
        probe = configmap("probe", app.name, mode="asked")
        command = ("create", "-f", "-", "--dry-run=server", "-o", "json")
        return bool(
            (await plane.kubectl(*command, stdin=probe)).json()["data"]["mode"] == "enforced"
        )

    await _until(rewrites)
    since = plane.audit.position()
    app.commit(configmap("config", mode="asked", n="1"), configmap("fence"))
    await app.declare()
    await app.synced()
    (applied,) = await app.events("CorrectionApplied")
    result = named(applied["results"], "ConfigMap", "config")
    (mutated,) = result["mutated"]
    assert (mutated["kind"], mutated["path"]) == ("mutated-on-admission", ".data.mode")
    assert (mutated["before"], mutated["after"]) == ("asked", "enforced")
    live = (await plane.get("configmap", "config", "-n", app.name))["data"]
    assert live == {"mode": "enforced", "added": "by policy", "n": "1"}
    told = await app.product.cli("diff", app.target)
    assert "mode" in told.stdout
    assert "enforced" in told.stdout

    # It is left alone, while what is not rewritten is still defended.
    await plane.kubectl("delete", "configmap", "fence", "-n", app.name)
    await app.event("DriftResolved")
    await plane.kubectl(
        *("patch", "configmap", "config", "-n", app.name, "-p", '{"data": {"n": "9"}}')
    )
    drift = await app.event("DriftDetected", matches=lambda case: "config" in str(case))
    assert [item["path"] for item in drift["differences"]] == [".data.n"]
    await app.synced()
    assert (await plane.get("configmap", "config", "-n", app.name))["data"] == live
    written = [
        event.object_ref.name
        for event in plane.audit.writes("engine", since)
        if event.object_ref.namespace == app.name
    ]
    assert sorted(written) == ["config", "config", "fence", "fence"]
    await plane.kubectl(
        "delete", "mutatingadmissionpolicy,mutatingadmissionpolicybinding", app.name
    )


async def _admit(plane: ControlPlane, namespace: str, kind: str, **rules: Any) -> None:
    """Set up an admission policy for the ConfigMaps of one namespace."""
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    binding = {"policyName": namespace, "matchResources": where}
    if kind == "Validating":
        binding["validationActions"] = ["Deny"]
    spec = {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [_rule()]}, **rules}
    await plane.apply(
        kubernetes(ADMISSION, f"{kind}AdmissionPolicy", namespace, spec=spec),
        kubernetes(ADMISSION, f"{kind}AdmissionPolicyBinding", namespace, spec=binding),
    )


def _rule() -> dict[str, Any]:
    """Return what an admission rule says to mean writes of ConfigMaps."""
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
        "operations": ["CREATE", "UPDATE"],
    }


async def _until(is_so: Callable[[], Awaitable[bool]]) -> None:
    # The API server learns of a policy by a watch of its own.
    with anyio.fail_after(30):
        while not await is_so():
            pass
