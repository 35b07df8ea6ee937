"""The harness itself: what every other end-to-end test takes for granted."""

import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import anyio.abc
import orjson
import pytest

from tests.e2e.binaries import BinariesError, find_binaries, kubectl_path
from tests.e2e.cluster import Cluster, KubectlError
from tests.e2e.harness import ControlPlane, main
from tests.e2e.process import ControlPlaneError
from tests.e2e.users import User

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]

MakeControlPlane = Callable[..., Awaitable[ControlPlane]]


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(name: str) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "example.org/main:1"}]},
            },
        },
    }


async def eventually(look: Callable[[], Awaitable[bool]], timeout: float = 20) -> None:
    with anyio.fail_after(timeout):
        while not await look():  # noqa: ASYNC110 - what is waited for is in another process
            await anyio.sleep(0.05)


async def test_server_side_apply_is_booked_to_its_field_manager(
    cluster: Cluster, namespace: str
) -> None:
    metadata = []
    for _ in range(2):
        await cluster.apply(config_map("ssa", colour="red"), manager="painter", namespace=namespace)
        metadata.append((await cluster.get("configmap", "ssa", "-n", namespace))["metadata"])
    first, second = metadata
    assert [entry["manager"] for entry in first["managedFields"]] == ["painter"]
    assert second["resourceVersion"] == first["resourceVersion"]


async def test_field_of_another_manager_is_a_conflict(cluster: Cluster, namespace: str) -> None:
    painted = config_map("conflict", colour="red")
    await cluster.apply(painted, manager="painter", namespace=namespace)
    with pytest.raises(KubectlError, match=r"conflict with .*painter"):
        await cluster.kubectl(
            *("apply", "--server-side", "--field-manager=sprayer", "-n", namespace, "-f", "-"),
            stdin=config_map("conflict", colour="blue"),
        )


async def test_controllers_work(cluster: Cluster, namespace: str) -> None:
    await cluster.apply(deployment("worked"), namespace=namespace)

    async def replica_set() -> bool:
        return bool((await cluster.get("replicaset", "-n", namespace))["items"])

    await eventually(replica_set)
    await cluster.kubectl("delete", "deployment", "worked", "-n", namespace, "--cascade=foreground")
    assert not await replica_set()


async def test_namespace_is_emptied_and_deleted(cluster: Cluster) -> None:
    name = f"e2e-{secrets.token_hex(4)}"
    await cluster.kubectl("create", "namespace", name)
    await cluster.kubectl("create", "configmap", "inside", "-n", name)
    await cluster.kubectl("delete", "namespace", name, "--wait")
    gone = await cluster.kubectl("get", "namespace", name, check=False)
    assert "NotFound" in gone.stderr


async def test_version_is_that_of_a_release(control_plane: ControlPlane) -> None:
    version = (await control_plane.request("GET", "/version")).body
    assert (version["major"], version["minor"]) == ("1", version["gitVersion"].split(".")[1])
    assert not version["gitVersion"].startswith("v0.")


async def test_users_log_in_by_certificate_and_by_token(control_plane: ControlPlane) -> None:
    for user in ("admin", "engine"):
        who = await control_plane.kubectl("auth", "whoami", "-o", "json", user=user)
        info = who.json()["status"]["userInfo"]
        assert info["username"] == user
        assert "system:masters" in info["groups"]
        assert (await control_plane.request("GET", "/api/v1/nodes", user=user)).status == 200


async def test_stranger_may_nothing_until_a_role_is_bound(control_plane: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    assert (await control_plane.request("GET", path, user="stranger")).status == 403
    await control_plane.kubectl(
        "create", "rolebinding", "stranger", "--clusterrole=view", "--user=stranger"
    )

    async def allowed() -> bool:
        return (await control_plane.request("GET", path, user="stranger")).status == 200

    await eventually(allowed)


async def test_certificate_ends_with_its_lifetime(control_plane: ControlPlane) -> None:
    control_plane.add_user(User("mayfly", ("system:masters",), lifetime=timedelta(seconds=3)))

    async def status() -> int:
        return (await control_plane.request("GET", "/api/v1/nodes", user="mayfly")).status

    assert await status() == 200

    async def refused() -> bool:
        return await status() == 401

    await eventually(refused)


async def test_exec_plugin_gives_a_token_that_ends(
    control_plane: ControlPlane, tmp_path: Path
) -> None:
    token = await control_plane.service_account_token("default", "default", timedelta(seconds=2))
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token},
    }
    file = tmp_path / "credential.json"
    file.write_bytes(orjson.dumps(credential))
    control_plane.add_exec_user("plugged", ["/bin/cat", str(file)])
    who = await control_plane.kubectl("auth", "whoami", "-o", "json", user="plugged")
    username = who.json()["status"]["userInfo"]["username"]
    assert username == "system:serviceaccount:default:default"

    async def refused() -> bool:
        answer = await control_plane.kubectl("auth", "whoami", user="plugged", check=False)
        return answer.status != 0

    # The API server remembers a token it accepted for ten seconds.
    await eventually(refused)


async def test_audit_log_tells_who_wrote_what(control_plane: ControlPlane) -> None:
    since = control_plane.audit.position()
    await control_plane.apply(config_map("audited", colour="red"), user="engine")
    await control_plane.kubectl("label", "configmap", "audited", "by=hand", user="admin")
    await control_plane.kubectl("get", "configmap", "audited", user="engine")
    await control_plane.audit.wait_for(
        lambda event: event.username == "engine" and event.verb == "get", since
    )
    for user, agent in (("engine", "kubectl"), ("admin", "kubectl")):
        (write,) = [
            event
            for event in control_plane.audit.writes(user, since)
            if event.object_ref.name == "audited"
        ]
        assert (write.verb, write.object_ref.resource) == ("patch", "configmaps")
        assert write.user_agent.startswith(agent)
        assert write.code in (200, 201)


async def test_dry_runs_and_access_reviews_are_no_writes(control_plane: ControlPlane) -> None:
    since = control_plane.audit.position()
    await control_plane.kubectl("auth", "can-i", "get", "pods", user="engine")
    await control_plane.kubectl(
        *("apply", "--server-side", "--dry-run=server", "-f", "-"),
        user="engine",
        stdin=config_map("dry", colour="red"),
    )
    await control_plane.audit.wait_for(lambda event: event.verb == "patch", since)
    assert control_plane.audit.writes("engine", since) == []


async def test_refused_write_counts_as_a_write(control_plane: ControlPlane) -> None:
    control_plane.add_user(User("intruder"))
    path = "/api/v1/namespaces/default/configmaps"
    await control_plane.request("POST", path, config_map("refused"), user="intruder")
    booked = await control_plane.audit.wait_for(lambda event: event.username == "intruder")
    assert booked.code == 403
    assert control_plane.audit.writes("intruder") == [booked]


async def test_data_outlives_restart_and_kill_of_every_part(control_plane: ControlPlane) -> None:
    await control_plane.apply(config_map("kept", colour="red"))
    before = await control_plane.get("configmap", "kept")
    for part in control_plane.parts:
        await part.restart()
    for part in control_plane.parts:
        await part.kill()
        await part.start()
    await control_plane.apiserver.wait_ready()
    assert await control_plane.get("configmap", "kept") == before


async def test_api_server_is_refused_while_down_and_back_at_its_address(
    control_plane: ControlPlane,
) -> None:
    await control_plane.apiserver.kill()
    assert not control_plane.apiserver.running
    with pytest.raises(aiohttp.ClientConnectorError):
        await control_plane.request("GET", "/readyz")
    await control_plane.apiserver.start()
    assert (await control_plane.request("GET", "/readyz")).status == 200


async def test_frozen_api_server_keeps_connections_and_answers_nothing(
    control_plane: ControlPlane,
) -> None:
    async with control_plane.session() as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        control_plane.apiserver.freeze()
        try:
            with pytest.raises(TimeoutError):
                await session.get("/readyz", timeout=aiohttp.ClientTimeout(total=1))
        finally:
            control_plane.apiserver.thaw()
        async with session.get("/readyz") as answer:
            assert answer.status == 200


async def test_watch_from_before_a_compaction_is_gone(control_plane: ControlPlane) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    listed = (await control_plane.request("GET", path)).body["metadata"]["resourceVersion"]
    watch = f"{path}?watch=1&timeoutSeconds=1&resourceVersion={listed}"
    for colour in ("red", "blue"):
        await control_plane.apply(config_map("compacted", colour=colour))
    resumed = await control_plane.request("GET", watch)
    assert [event["type"] for event in resumed.events] == ["ADDED", "MODIFIED"]
    await control_plane.forget_history()
    gone = await control_plane.request("GET", watch)
    (event,) = gone.events
    assert event["type"] == "ERROR"
    assert (event["object"]["code"], event["object"]["reason"]) == (410, "Expired")


async def test_two_at_once_know_nothing_of_each_other(
    control_plane: ControlPlane, make_control_plane: MakeControlPlane
) -> None:
    other = await make_control_plane("other")
    await control_plane.apply(config_map("mine"))
    assert (await other.kubectl("get", "configmap", "mine", check=False)).status != 0
    assert other.server != control_plane.server
    crossed = other.kubeconfig().read_text().replace(other.server, control_plane.server)
    file = other.folder / "crossed.yaml"
    file.write_text(crossed)
    refused = await other.kubectl("get", "nodes", env={"KUBECONFIG": str(file)}, check=False)
    assert "certificate" in refused.stderr


async def test_without_controllers_nothing_follows_a_write(
    make_control_plane: MakeControlPlane,
) -> None:
    plane = await make_control_plane(controllers=False)
    await plane.apply(deployment("alone"))
    assert not plane.controller_manager.running
    assert (await plane.get("replicaset"))["items"] == []


async def test_part_that_cannot_start_says_why(tmp_path: Path) -> None:
    if find_binaries() is None:
        pytest.skip("needs the programs")
    plane = ControlPlane(tmp_path / "broken", apiserver_flags=["--no-such-flag"])
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver ended.*no-such-flag"):
        async with plane:
            pass
    assert not any(part.running for part in plane.parts)


async def test_incomplete_assets_are_an_error_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    with pytest.raises(BinariesError, match="no executable kube-apiserver, kube-controller-m"):
        find_binaries()


@pytest.mark.parametrize("command", [["find"], ["up", "--dir", "unused"]])
def test_command_line_says_what_is_missing_and_exits_2(
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", "nowhere")
    assert main(command) == 2
    assert "KUBEBUILDER_ASSETS is 'nowhere'" in capsys.readouterr().err


def test_nothing_at_hand_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.delenv("TRUEUP_E2E_KUBECONFIG", raising=False)
    monkeypatch.setenv("TRUEUP_CONTROLPLANE_CACHE", str(tmp_path))
    assert main(["find"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "make controlplane" in line


@pytest.fixture
async def by_hand(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[anyio.abc.Process]]]:
    """Starts `harness up` on one folder, as a person would."""
    if find_binaries() is None:
        pytest.skip("needs the programs")
    started: list[anyio.abc.Process] = []

    async def up() -> anyio.abc.Process:
        command = [sys.executable, "-m", "tests.e2e.harness", "up", "--dir", str(tmp_path)]
        started.append(await anyio.open_process(command, stderr=None, cwd=ROOT))
        return started[-1]

    yield up
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await process.aclose()


async def first_line(process: anyio.abc.Process) -> str:
    assert process.stdout is not None
    line = b""
    with anyio.fail_after(60):
        while not line.endswith(b"\n"):
            line += await process.stdout.receive()
    return line.decode().strip()


async def test_by_hand_data_is_kept_from_one_time_to_the_next(
    by_hand: Callable[[], Awaitable[anyio.abc.Process]], tmp_path: Path
) -> None:
    for arguments in (("create", "configmap", "kept"), ("get", "configmap", "kept")):
        process = await by_hand()
        kubeconfig = Path(await first_line(process))
        assert kubeconfig.is_relative_to(tmp_path)
        await anyio.run_process([str(kubectl_path()), "--kubeconfig", str(kubeconfig), *arguments])
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(20):
            assert await process.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
async def test_parts_die_with_the_process_that_started_them(
    by_hand: Callable[[], Awaitable[anyio.abc.Process]],
) -> None:
    process = await by_hand()
    await first_line(process)
    parts = children(process.pid)
    assert len(parts) == 3
    process.kill()
    await process.wait()

    async def all_gone() -> bool:
        return not any(alive(pid) for pid in parts)

    await eventually(all_gone)


def children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [child for task in tasks for child in (task / "children").read_text().split()]


def alive(pid: str) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
