"""What the reader of a cluster does when a real API server refuses, forgets or goes away."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from events.catalog import ClusterConnected, ClusterLost, KindReadable, KindUnreadable
from events.vocabulary import Outcome
from tests.clusters import World, eventually, facts_of, hand_of, is_absent, observed
from tests.e2e.harness import ControlPlane

pytestmark = pytest.mark.anyio
CONFIGMAP, SECRET = ("v1", "ConfigMap"), ("v1", "Secret")


@asynccontextmanager
async def _world(
    plane: ControlPlane, namespace: str, kubeconfig: Path, **habits: Any
) -> AsyncIterator[World]:
    """A world whose reader logs in by `kubeconfig`, and whose hand is admin's."""
    async with hand_of(plane.kubeconfig("admin"), None, plane.folder, namespace) as hand:
        yield World(kubeconfig, None, hand, plane.folder, **habits)


async def test_a_kind_without_the_right_to_list_it_is_unreadable_until_it_is_granted(
    control_plane: ControlPlane, namespace: str
) -> None:
    role, user = f"reader-{namespace}", "stranger"

    def binding(*resources: str) -> list[dict[str, Any]]:
        rules = [{"apiGroups": [""], "resources": list(resources), "verbs": ["*"]}]
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        base = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": role}}
        return [
            base | {"kind": "ClusterRole", "rules": rules},
            base | {"kind": "ClusterRoleBinding", "roleRef": reference, "subjects": [subject]},
        ]

    await control_plane.apply(*binding("secrets"))
    async with _world(control_plane, namespace, control_plane.kubeconfig(user)) as world:

        def states(facts: list[Any]) -> dict[str, str]:
            return {
                f.kind: f.code if isinstance(f, KindUnreadable) else ""
                for f in facts
                if isinstance(f, KindReadable | KindUnreadable)
            }

        async with world.running(CONFIGMAP, SECRET):
            assert states(await world.facts()) == {"ConfigMap": "forbidden", "Secret": ""}
            answer = await world.apply(world.configmap("one", a="1"), force=True)
            assert answer.outcome is Outcome.FORBIDDEN
            await control_plane.apply(*binding("secrets", "configmaps"))
            await world.until(lambda facts: states(facts).get("ConfigMap") == "")
    await control_plane.kubectl("delete", "clusterrole,clusterrolebinding", role)


async def test_a_plugins_short_lived_token_is_renewed_while_a_watch_runs(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    plane = control_plane
    await plane.kubectl("create", "serviceaccount", "robot", "-n", namespace)
    await plane.kubectl(
        *("create", "clusterrolebinding", f"robot-{namespace}", "--clusterrole=cluster-admin"),
        f"--serviceaccount={namespace}:robot",
    )
    token, count = tmp_path / "token", tmp_path / "count"
    # A token without a stated end, so that only the server's refusal tells that it has expired.
    script = (
        f"open({str(count)!r}, 'a').write('x');"
        "import json;"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1',"
        "'kind': 'ExecCredential',"
        f"'status': {{'token': open({str(token)!r}).read()}}}}))"
    )
    token.write_text(await plane.service_account_token(namespace, "robot", timedelta(seconds=15)))
    kubeconfig = plane.add_exec_user(f"plugin-{namespace}", [sys.executable, "-c", script])
    async with _world(
        plane, namespace, kubeconfig, exec_plugins=(sys.executable,), loss_grace=15.0
    ) as world:
        async with world.running():
            await world.apply(world.configmap("one", a="1"), force=False)
            token.write_text(
                await plane.service_account_token(namespace, "robot", timedelta(hours=1))
            )
            await eventually(lambda: len(count.read_text()) == 2, timeout=60)
            answer = await world.apply(world.configmap("one", a="2"))
            assert answer.outcome is Outcome.CHANGED
        facts = await facts_of(world.log)
        assert not [f for f in facts if isinstance(f, ClusterLost | KindUnreadable)]
    await plane.kubectl("delete", "clusterrolebinding", f"robot-{namespace}")


async def test_a_server_whose_certificate_is_not_trusted_is_not_talked_to(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    text = control_plane.kubeconfig("engine").read_text()
    lines = [line for line in text.splitlines() if "certificate-authority" not in line]
    config.write_text("\n".join(lines))
    async with hand_of(
        control_plane.kubeconfig("admin"), None, control_plane.folder, namespace
    ) as hand:
        world = World(config, None, hand, tmp_path)
        async with world.running(wait=False):
            lost = await world.until(lambda facts: [f for f in facts if isinstance(f, ClusterLost)])
            assert lost[0].code == "tls"


async def test_history_that_the_server_forgot_and_its_restart_lose_nothing(
    control_plane: ControlPlane, namespace: str
) -> None:
    async with (
        # A server that starts on a busy machine may keep a request waiting for longer than 5 s.
        _world(
            control_plane, namespace, control_plane.kubeconfig("engine"), request_timeout=30.0
        ) as world,
        world.running() as cluster,
    ):
        await world.apply(world.configmap("one", a="1"), force=False)
        await world.apply(world.configmap("two", a="1"), force=False)
        await control_plane.apiserver.stop()
        await world.until(lambda facts: any(isinstance(f, ClusterLost) for f in facts))
        await control_plane.apiserver.start()
        await world.hand.send("PATCH", world.hand.path("one"), {"data": {"a": "9"}})
        await world.hand.send("DELETE", world.hand.path("two"))
        await control_plane.forget_history()
        await world.seen("one")
        await world.seen("two", is_absent)
        await cluster.until_ready()
        facts = await facts_of(world.log)
        assert len([f for f in facts if isinstance(f, ClusterConnected)]) >= 2
        assert not [f for f in facts if isinstance(f, KindUnreadable)]
        await world.fence()
        assert len(observed(await world.facts())) == 2
