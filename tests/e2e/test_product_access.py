"""How the product logs in to a real API server, and what it does when a login runs out."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from tests.e2e.conftest import MakeProduct
from tests.e2e.harness import ControlPlane
from tests.e2e.product import App, Product, configmap
from tests.e2e.users import User

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

PLUGIN = """\
import json, pathlib, sys
token, count = map(pathlib.Path, sys.argv[1:])
with count.open("a") as file:
    file.write("x")
status = json.loads(token.read_text())
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1",
                  "kind": "ExecCredential", "status": status}))
"""


SHORT = timedelta(seconds=12)
ROBOT, HEIR = (f"system:serviceaccount:default:{name}" for name in ("robot", "heir"))


class Plugin:
    """A credential plugin that gives what it was told to, and counts how often it ran."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._plane, self._answer, self._count = plane, folder / "answer", folder / "count"

    def give(self, token: str, expires: datetime | None = None) -> None:
        """Give this token from now on, and say when it expires if that is known."""
        status = {"token": token}
        if expires is not None:
            status["expirationTimestamp"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        self._answer.write_text(json.dumps(status))

    def kubeconfig(self, name: str) -> Path:
        """Return a kubeconfig that runs it."""
        command = [sys.executable, "-c", PLUGIN, str(self._answer), str(self._count)]
        return self._plane.add_exec_user(name, command)

    @property
    def runs(self) -> int:
        """How often it ran."""
        return len(self._count.read_text())


class Login(App):
    """A cluster that is reached by one kubeconfig, and an application of one ConfigMap on it."""

    def __init__(self, product: Product, plane: ControlPlane, namespace: str, name: str) -> None:
        super().__init__(product, name, cluster=name, namespace=namespace)
        self.plane = plane
        self.changes = 0

    async def start(self, kubeconfig: Path) -> None:
        """Declare all of it."""
        await self.product.cluster(self.cluster, kubeconfig)
        await self.declare()

    def commit_change(self) -> str:
        """Commit another value."""
        self.changes += 1
        return self.commit(configmap(self.name, n=str(self.changes)))

    async def commit_and_render(self) -> None:
        """Commit a change and wait until the engine knows it, whatever comes of it."""
        commit = self.commit_change()
        await self.product.next_event(
            "RevisionResolved",
            matches=lambda event: event["payload"]["commit"] == commit,
            stream=f"repo/default/{self.name}",
        )

    async def change(self) -> str:
        """Commit a change, wait until it is in the cluster, and return who wrote it there."""
        since = self.plane.audit.position()
        commit = self.commit_change()
        await self.synced(commit)
        live = await self.plane.get("configmap", self.name, "-n", self.namespace)
        assert live["data"] == {"n": str(self.changes)}
        written = await self.plane.audit.wait_for(
            lambda event: event.is_write and event.object_ref.name == self.name, since
        )
        return written.username

    async def change_until(self, user: str) -> None:
        """Change again and again until it is written by `user`."""
        with anyio.fail_after(90):
            while await self.change() != user:
                pass

    async def losses(self) -> list[dict[str, Any]]:
        """Return the events that say that the cluster was lost, or a kind of it."""
        return await self.product.events(
            stream=f"cluster/default/{self.name}", type="ClusterLost,KindUnreadable"
        )


@pytest.fixture(scope="module")
async def plane(control_plane: ControlPlane) -> ControlPlane:
    """The module's control plane, with service accounts that may do everything."""
    for name in ("robot", "heir"):
        await control_plane.kubectl("create", "serviceaccount", name)
        await control_plane.kubectl(
            *("create", "clusterrolebinding", name, "--clusterrole=cluster-admin"),
            f"--serviceaccount=default:{name}",
        )
    return control_plane


@pytest.fixture
async def engine(make_product: MakeProduct) -> Product:
    """An engine that may run the plugin."""
    return await make_product("--exec-plugins", sys.executable)


async def test_by_certificate_and_by_token(
    plane: ControlPlane, engine: Product, namespace: str
) -> None:
    for user in ("admin", "engine"):
        login = Login(engine, plane, namespace, user)
        await login.start(plane.kubeconfig(user))
        assert await login.change() == user
        (connected,) = await engine.events(
            stream=f"cluster/default/{user}", type="ClusterConnected"
        )
        assert connected["payload"]["server_version"].startswith("v1.")


async def test_a_login_that_runs_out_is_renewed_without_a_gap(
    plane: ControlPlane, engine: Product, namespace: str, tmp_path: Path
) -> None:
    """And one that is not says so. All at once, since each waits until something has expired."""
    async with anyio.create_task_group() as group:
        for story in (
            _certificate,
            _token_file,
            _plugin_that_says_when,
            _plugin_that_does_not,
            _certificate_that_comes_late,
            _plugin_that_was_not_allowed,
        ):
            group.start_soon(story, plane, engine, namespace, tmp_path)


async def _certificate(plane: ControlPlane, engine: Product, namespace: str, folder: Path) -> None:
    group = ("system:masters",)
    login = Login(engine, plane, namespace, "certificate")
    await login.start(plane.add_user(User("first", group, lifetime=timedelta(seconds=12))))
    assert await login.change() == "first"
    engine.kubeconfig("certificate", plane.add_user(User("second", group)))
    await login.change_until("second")
    assert not await login.losses()


async def _token_file(plane: ControlPlane, engine: Product, namespace: str, folder: Path) -> None:
    login = Login(engine, plane, namespace, "token-file")
    token = engine.folder / "kube" / "token"
    token.write_text(await plane.service_account_token("default", "robot", SHORT))
    config = yaml.safe_load(plane.kubeconfig("engine").read_text())
    # As a mounted secret has it: beside the kubeconfig, and replaced by somebody else.
    config["users"][0]["user"] = {"tokenFile": "token"}
    written = folder / "token-file.yaml"
    written.write_text(yaml.safe_dump(config))
    await login.start(written)
    assert await login.change() == ROBOT
    token.write_text(await plane.service_account_token("default", "heir", timedelta(hours=1)))
    await login.change_until(HEIR)
    assert not await login.losses()


async def _plugin_that_says_when(
    plane: ControlPlane, engine: Product, namespace: str, folder: Path
) -> None:
    login = Login(engine, plane, namespace, "plugin-with-expiry")
    plugin = Plugin(plane, folder / "says")
    ends = datetime.now(UTC) + timedelta(seconds=24)
    plugin.give(await plane.service_account_token("default", "robot", timedelta(hours=1)), ends)
    await login.start(plugin.kubeconfig(login.name))
    assert await login.change() == ROBOT
    plugin.give(await plane.service_account_token("default", "heir", timedelta(hours=1)))
    await login.change_until(HEIR)
    # Before its end, although the server would have taken it for an hour.
    assert datetime.now(UTC) < ends
    assert plugin.runs == 2
    assert not await login.losses()


async def _plugin_that_does_not(
    plane: ControlPlane, engine: Product, namespace: str, folder: Path
) -> None:
    login = Login(engine, plane, namespace, "plugin-without-expiry")
    plugin = Plugin(plane, folder / "silent")
    plugin.give(await plane.service_account_token("default", "robot", SHORT))
    await login.start(plugin.kubeconfig(login.name))
    assert await login.change() == ROBOT
    plugin.give(await plane.service_account_token("default", "heir", timedelta(hours=1)))
    await login.change_until(HEIR)
    assert plugin.runs == 2
    assert not await login.losses()


async def _certificate_that_comes_late(
    plane: ControlPlane, engine: Product, namespace: str, folder: Path
) -> None:
    login = Login(engine, plane, namespace, "late")
    group = ("system:masters",)
    await login.start(plane.add_user(User("early", group, lifetime=timedelta(seconds=8))))
    assert await login.change() == "early"
    # The engine has no reason to speak to an idle cluster just when the certificate expires.
    while not await login.events("CorrectionFailed"):
        await login.commit_and_render()
    failed = await login.event("CorrectionFailed")
    assert failed["code"] == "unreachable"
    assert "credentials" in failed["message"]
    lost = await engine.next_event("ClusterLost", stream="cluster/default/late")
    assert lost["payload"]["code"] == "unauthorised"
    held = await login.event("ReconcileHeld")
    assert held["code"] == "cluster-lost"
    assert "unauthorised" in held["message"]
    engine.kubeconfig("late", plane.add_user(User("renewed", group)))
    await login.event("HoldLifted")
    assert await login.change() == "renewed"
    told = await engine.cli("timeline", "cluster/late")
    assert told.stdout.index("unauthorised") < told.stdout.rindex("cluster answers")


async def _plugin_that_was_not_allowed(
    plane: ControlPlane, engine: Product, namespace: str, folder: Path
) -> None:
    mark = folder / "mark"
    await engine.cluster("not-allowed", plane.add_exec_user("touch", ["/bin/touch", str(mark)]))
    app = App(engine, "not-allowed", cluster="not-allowed", namespace=namespace)
    app.commit(configmap("never"))
    await app.declare()
    lost = await engine.next_event("ClusterLost", stream="cluster/default/not-allowed")
    assert lost["payload"]["code"] == "exec-refused"
    assert "exec_plugins" in lost["payload"]["message"]
    assert not mark.exists()
