"""What is in `deploy/`, as far as it can be tried without a container engine."""

from __future__ import annotations

import re
import shlex
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from engine.http.app import serving, tls_context
from engine.objects.yaml import parse_documents
from engine.settings import Settings, load
from tests.line import Line
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """Read a file by the gate that every manifest passes."""
    return [document.value for document in parse_documents(path.read_bytes())]


def manifest(kind: str) -> dict[str, Any]:
    everything = [each for path in KUBERNETES.glob("*.yaml") for each in documents(path)]
    (found,) = [each for each in everything if each["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    return dict(manifest("Deployment")["spec"]["template"]["spec"])


def engine_container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    return dict(found)


def accepted(variables: dict[str, str]) -> Settings:
    """Read settings as the engine does; raises where a variable is unknown or wrong."""
    return load(environ={"HOME": "/", **variables})


def test_every_yaml_file_passes_the_gate_of_manifests() -> None:
    for path in DEPLOY.rglob("*.yaml"):
        assert documents(path), path


# The image.


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, with continued lines put together."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    everything = instructions()
    start = max(index for index, (word, _) in enumerate(everything) if word == "FROM")
    return everything[start:]


def test_what_the_image_copies_is_there_and_goes_to_the_builder() -> None:
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert {"engine", "events", "projections", "requirements.lock"} <= set(sources)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_the_image_is_not_root_and_can_build_nothing() -> None:
    words = dict(last_stage())
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", words["USER"])
    assert "healthz" in words["HEALTHCHECK"]
    text = " ".join(rest for _, rest in last_stage())
    assert not re.search(r"apt-get|pip install|gcc|curl", text)
    assert "pip uninstall" in text
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert all(base.startswith("${BASE}") for base in bases)
    (default,) = [rest for word, rest in instructions() if word == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+(@sha256:[0-9a-f]{64})?", default)


def test_the_images_variables_are_settings() -> None:
    (text,) = [rest for word, rest in last_stage() if word == "ENV"]
    variables = dict(part.split("=", 1) for part in shlex.split(text))
    settings = accepted({k: v for k, v in variables.items() if k.startswith("TRUEUP_")})
    assert settings.directory == Path("/var/lib/trueup")
    assert settings.metrics_listen == "127.0.0.1:9464"


# Kubernetes.


def test_the_pods_variables_are_settings_and_no_others_come_in() -> None:
    given = {
        each["name"]: each.get("value", "postgresql://x/y") for each in engine_container()["env"]
    }
    settings = accepted(given)
    assert settings.listen == "0.0.0.0:8484"
    # Else a Service of our name brings TRUEUP_PORT and the like, which are refused.
    assert pod()["enableServiceLinks"] is False
    with pytest.raises(Exception, match="TRUEUP_PORT"):
        accepted({**given, "TRUEUP_PORT": "tcp://10.0.0.1:443"})


def test_containers_have_no_more_rights_than_they_need() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod()["initContainers"], *pod()["containers"]]:
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod()["volumes"]}
    for rule in manifest("ClusterRole")["rules"]:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_what_one_manifest_names_another_has() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Service")["spec"]["selector"] == labels
    policy = manifest("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert pod()["serviceAccountName"] == manifest("ServiceAccount")["metadata"]["name"]
    ports = {port["name"] for port in engine_container()["ports"]}
    named = {port["targetPort"] for port in manifest("Service")["spec"]["ports"]}
    named |= {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    named |= {engine_container()[probe]["httpGet"]["port"] for probe in PROBES}
    assert named == ports
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(documents(KUBERNETES / "kustomization.yaml")[0]["resources"]) == files
    text = (DEPLOY / "README.md").read_text("utf-8")
    for volume in pod()["volumes"]:
        if "secret" in volume:
            assert volume["secret"]["secretName"] in text


def test_the_signer_has_the_key_and_the_engine_has_none() -> None:
    folder = DEPLOY / "kubernetes-signer"
    (deployment,) = documents(folder / "deployment.yaml")
    spec = deployment["spec"]["template"]["spec"]
    (signer,) = spec["containers"]
    given = {each["name"]: each.get("value", "postgresql://x/y") for each in signer["env"]}
    assert accepted(given).checkpoint_url
    assert signer["args"] == ["signer"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    (policy,) = documents(folder / "networkpolicy.yaml")
    assert policy["spec"]["podSelector"] == deployment["spec"]["selector"]
    assert "ingress" not in policy["spec"]
    text = (DEPLOY / "README.md").read_text("utf-8")
    for volume in spec["volumes"]:
        assert "secret" not in volume or volume["secret"]["secretName"] in text
    kustomization = (folder / "kustomization.yaml").read_text("utf-8")
    assert "{name: TRUEUP_SIGNING, value: external}" in kustomization
    files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert {"../kubernetes", *files} == set(
        documents(folder / "kustomization.yaml")[0]["resources"]
    )


PROBES = ("livenessProbe", "readinessProbe")


@pytest.fixture
async def line(tmp_path: Path, dsn: str) -> AsyncIterator[Line]:
    line = Line(tmp_path, dsn, ["dev"])
    async with line.clusters_running():
        yield line


async def test_trueup_deploys_itself(line: Line) -> None:
    repository = Repository(line.git / "ops.git")
    repository.commit({path.name: path.read_text("utf-8") for path in KUBERNETES.glob("*.yaml")})
    async with line.engine():
        await line.declare(
            {"kind": "Repository", "metadata": {"name": "ops"}, "spec": {"url": repository.url}},
            line.cluster("dev"),
            {
                "kind": "Application",
                "metadata": {"name": "trueup"},
                "spec": {
                    "source": {"repository": "ops", "path": "."},
                    "targets": {"clusters": ["dev"]},
                },
            },
        )
        await line.synced("trueup@dev")
        replicas = await line.kubectl(
            "dev", "-n", "trueup", "get", "deployment", "trueup", "-o", "jsonpath={.spec.replicas}"
        )
        assert replicas == "2"
        (planned,) = await line.events(type="CorrectionPlanned")
        kinds = [action["ref"]["kind"] for action in planned["payload"]["actions"]]
        assert kinds[0] == "Namespace"
        assert "NetworkPolicy" in kinds


# Compose.


def compose() -> dict[str, Any]:
    (found,) = documents(DEPLOY / "compose" / "compose.yaml")
    return found


def test_the_composed_services_fit_together() -> None:
    for name, service in compose()["services"].items():
        given = service.get("environment", {})
        accepted({key: value for key, value in given.items() if key.startswith("TRUEUP_")})
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./git":
                assert (DEPLOY / "compose" / source).exists()
            elif not source.startswith("."):
                assert source in compose()["volumes"], name
        assert set(service.get("depends_on", {})) <= set(compose()["services"])
    clusters = documents(DEPLOY / "compose" / "clusters.yaml")
    assert [each["spec"]["context"] for each in clusters] == ["dev", "staging", "prod"]


async def test_the_composed_engine_can_serve_with_its_certificate(tmp_path: Path) -> None:
    script = DEPLOY / "compose" / "certificate.py"
    for _ in range(2):  # the second time it stays
        await anyio.run_process([sys.executable, str(script), str(tmp_path)])
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    assert key.stat().st_mode & 0o077 == 0

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", answer)
    trusting = ssl.create_default_context(cafile=str(cert))
    async with (
        serving(app, "127.0.0.1", 0, tls_context(cert, key)) as (host, port),
        aiohttp.ClientSession() as session,
        session.get(f"https://{host}:{port}/", ssl=trusting) as response,
    ):
        assert await response.text() == "ok"
