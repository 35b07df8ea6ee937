"""A real Kubernetes control plane on loopback, in a folder: etcd, API server, controllers.

Tests use `ControlPlane`. By hand:

    python -m tests.e2e.harness up --dir DIR    bring one up, print its kubeconfig, stop on Ctrl-C
    python -m tests.e2e.harness find            say what `make e2e` would use
"""

import argparse
import signal
import ssl
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import anyio
import orjson

from tests.e2e import flags
from tests.e2e.audit import POLICY, AuditLog
from tests.e2e.binaries import (
    HOW_TO_GET,
    Binaries,
    BinariesError,
    existing_cluster,
    find_binaries,
)
from tests.e2e.cluster import Answer, Cluster
from tests.e2e.pki import Authority, KeyPair, TokenSigner
from tests.e2e.process import ControlPlaneError, Part, Port
from tests.e2e.users import (
    DEFAULT_USERS,
    User,
    certificate_login,
    exec_login,
    token_login,
    write_kubeconfig,
)

_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


class ControlPlane(Cluster):
    """A control plane of one's own; `async with` starts it, and ends it without ceremony.

    Everything is in `folder`: certificates, kubeconfigs, etcd's data, logs, the audit log. A
    folder that an earlier control plane left is taken up again, with its data and its authority,
    on other ports. The processes die with the thread that started them.

    Raises `BinariesError` when no programs are at hand, `ControlPlaneError` when a part fails.
    """

    etcd: Part
    apiserver: Part
    controller_manager: Part

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Binaries | None = None,
        users: Sequence[User] = DEFAULT_USERS,
        apiserver_flags: Sequence[str] = (),
        controller_manager_flags: Sequence[str] = (),
        controllers: bool = True,
    ) -> None:
        found = binaries or find_binaries()
        if found is None:
            raise BinariesError(HOW_TO_GET)
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self.audit = AuditLog(self.logs / "audit.log")
        self.users = {user.name: user for user in users}
        self._controllers = controllers
        self._ports = ExitStack()
        self._certificates: dict[str, KeyPair] = {}
        for each in (self.folder, self.logs):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        super().__init__(self.folder, found.kubectl)
        self.authority = Authority(self.folder / "pki")
        self._signer = TokenSigner(self.folder / "pki")
        layout = self._layout()
        self.server = f"https://127.0.0.1:{layout.apiserver_port}"
        self._etcd_url = f"https://127.0.0.1:{layout.etcd_port}"
        self._health_url = f"https://127.0.0.1:{layout.controller_manager_port}/healthz?verbose"
        self._write_files(layout)
        self._tls = ssl.create_default_context(cafile=self.authority.pair.certificate)
        self._tls.load_cert_chain(layout.server.certificate, layout.server.key)
        self.etcd = Part(
            "etcd",
            [str(found.etcd), *flags.etcd_flags(layout)],
            self.logs / "etcd.log",
            self._etcd_ready,
            # It waits for its clients to hang up, which the API server does not.
            grace=1,
        )
        self.apiserver = Part(
            "kube-apiserver",
            [str(found.apiserver), *flags.apiserver_flags(layout), *apiserver_flags],
            self.logs / "kube-apiserver.log",
            self._apiserver_ready,
        )
        self.controller_manager = Part(
            "kube-controller-manager",
            [
                str(found.controller_manager),
                *flags.controller_manager_flags(layout),
                *controller_manager_flags,
            ],
            self.logs / "kube-controller-manager.log",
            self._controllers_ready,
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts in the order in which they start."""
        parts = (self.etcd, self.apiserver, self.controller_manager)
        return parts if self._controllers else parts[:2]

    async def start(self) -> None:
        """Start every part and return when all serve and the default namespace is furnished."""
        for part in self.parts:
            await part.start()

    async def close(self) -> None:
        """End every part and give the ports back; the folder stays."""
        with anyio.CancelScope(shield=True):
            # Nothing is gained by grace here: the API server keeps no state, and etcd's is in
            # its log once it has been answered for.
            for part in reversed(self.parts):
                await part.kill()
        self._ports.close()

    async def compact(self) -> int:
        """Make etcd forget every revision before the present one, which is returned.

        The API server still answers for what its watch cache holds; `forget_history` clears that.
        """
        key = b64encode(b"/").decode()
        answer = await self._etcd("/v3/kv/range", {"key": key})
        revision = int(answer["header"]["revision"])
        await self._etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    async def forget_history(self) -> int:
        """Compact etcd and restart the API server: watches from before are answered with 410."""
        revision = await self.compact()
        await self.apiserver.restart()
        return revision

    def kubeconfig(self, user: str = "admin") -> Path:
        """Return the kubeconfig file of `user`; raises `LookupError` when there is no such user."""
        path = self._kubeconfig_path(user)
        return path if path.exists() else super().kubeconfig(user)

    def add_user(self, user: User) -> Path:
        """Let one more user in, by certificate, and return the kubeconfig.

        Raises `ValueError` for a token: the API server reads its tokens when it starts.
        """
        if user.login == "token":
            raise ValueError(f"name token user {user.name!r} when the control plane is made")
        self.users[user.name] = user
        pair = self._certificates[user.name] = self.authority.client(
            user.name, user.groups, user.lifetime
        )
        return self._kubeconfig(user.name, certificate_login(pair))

    def add_exec_user(
        self, name: str, command: Sequence[str], env: Mapping[str, str] | None = None
    ) -> Path:
        """Write a kubeconfig called `name` whose credential a command gives; return it."""
        return self._kubeconfig(name, exec_login(command, env))

    async def service_account_token(self, namespace: str, name: str, lifetime: timedelta) -> str:
        """Return a token of an existing service account, good for `lifetime`, however short.

        The API server goes on accepting a token it has seen for up to ten seconds.
        """
        account = await self.get("serviceaccount", name, "--namespace", namespace)
        return self._signer.sign(namespace, name, account["metadata"]["uid"], lifetime)

    def add_token(self, name: str, token: str) -> Path:
        """Write a kubeconfig called `name` that logs in with `token`; return it."""
        return self._kubeconfig(name, token_login(token))

    def session(self, user: str = "admin") -> aiohttp.ClientSession:
        """Return a client of the API server for one of `users`; paths are relative to its root."""
        login = self.users[user]
        context = ssl.create_default_context(cafile=self.authority.pair.certificate)
        headers = {}
        if login.login == "token":
            headers["Authorization"] = f"Bearer {login.token}"
        else:
            pair = self._certificates[user]
            context.load_cert_chain(pair.certificate, pair.key)
        return aiohttp.ClientSession(
            self.server, headers=headers, connector=aiohttp.TCPConnector(ssl=context)
        )

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "admin",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request with a JSON body and return the answer, whatever its status.

        Raises `aiohttp.ClientError` when there is none.
        """
        data = None if body is None else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        async with (
            self.session(user) as session,
            session.request(method, path, data=data, headers=sent) as answer,
        ):
            return Answer(answer.status, await answer.read())

    def describe_failure(self) -> str:
        """Return where the logs are and how each ends, for a failed test's report."""
        return "\n".join([f"control plane in {self.folder}", *(p.tail() for p in self.parts)])

    def _port(self) -> int:
        port = Port()
        self._ports.callback(port.close)
        return port.number

    def _layout(self) -> flags.Layout:
        return flags.Layout(
            data=self.folder / "etcd",
            audit_policy=self.folder / "audit-policy.yaml",
            audit_log=self.audit.path,
            tokens=self.folder / "pki" / "tokens.csv",
            controller_manager_kubeconfig=self._kubeconfig_path("kube-controller-manager"),
            authority=self.authority.pair,
            server=self.authority.server("server", _SERVER_NAMES),
            front_proxy=self.authority.client("front-proxy-client"),
            service_accounts=self._signer.pair,
            etcd_port=self._port(),
            etcd_peer_port=self._port(),
            apiserver_port=self._port(),
            controller_manager_port=self._port(),
        )

    def _write_files(self, layout: flags.Layout) -> None:
        layout.audit_policy.write_text(POLICY)
        layout.tokens.touch(mode=0o600)
        lines = []
        for user in list(self.users.values()):
            if user.login == "token":
                self._kubeconfig(user.name, token_login(user.token))
                lines.append(f'{user.token},{user.name},{user.name},"{",".join(user.groups)}"\n')
            else:
                self.add_user(user)
        layout.tokens.write_text("".join(lines))
        controllers = self.authority.client("system:kube-controller-manager")
        self._kubeconfig("kube-controller-manager", certificate_login(controllers))

    def _kubeconfig_path(self, name: str) -> Path:
        return self.folder / "kubeconfigs" / f"{name}.yaml"

    def _kubeconfig(self, name: str, login: Mapping[str, Any]) -> Path:
        path = self._kubeconfig_path(name)
        return write_kubeconfig(path, self.server, self.authority.pair.certificate, login)

    async def _etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls)) as session,
            session.post(self._etcd_url + path, json=body) as answer,
        ):
            content = await answer.json()
            if answer.status != 200:
                raise ControlPlaneError(f"etcd answered {path} with {answer.status}: {content}")
            return content

    async def _look(self, url: str, wanted: str = "") -> str | None:
        """Get `url` once; None when it answers 200 and `wanted`, else what it said instead."""
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=self._tls), timeout=timeout
                ) as session,
                session.get(url) as answer,
            ):
                text = await answer.text()
                if answer.status == 200 and wanted in text:
                    return None
                return f"{url}: {answer.status} {text}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{url}: {error!r}"

    async def _etcd_ready(self) -> str | None:
        return await self._look(f"{self._etcd_url}/health")

    async def _apiserver_ready(self) -> str | None:
        return await self._look(f"{self.server}/readyz")

    async def _controllers_ready(self) -> str | None:
        # It says it is healthy before it has built its controllers, and would end if the API
        # server went away while it does. Each controller has a line once all are built.
        missing = await self._look(self._health_url, "[+]namespace")
        if missing is None:
            # Without it no pod is admitted; its controller needs a moment after the others.
            path = "/api/v1/namespaces/default/serviceaccounts/default"
            answer = await self.request("GET", path)
            if answer.status != 200:
                missing = f"{path}: {answer.status}"
        return missing

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _up(folder: Path) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    group.cancel_scope.cancel()

            group.start_soon(stop_on_signal)
            async with ControlPlane(folder) as plane:
                print(plane.kubeconfig(), flush=True)
                print("other users' kubeconfigs are beside it; stop with Ctrl-C", file=sys.stderr)
                await anyio.sleep_forever()


def _find() -> int:
    """Say on stderr what is used; 0 when there is something, 3 when there is nothing."""
    binaries = find_binaries()
    kubeconfig = existing_cluster()
    if binaries is not None:
        print(f"control plane: the programs in {binaries.etcd.parent}", file=sys.stderr)
    elif kubeconfig is not None:
        print(f"control plane: the cluster of {kubeconfig}", file=sys.stderr)
    else:
        print(HOW_TO_GET, file=sys.stderr)
        return 3
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.harness")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring one control plane up and print its kubeconfig")
    up.add_argument("--dir", type=Path, required=True, help="its folder; kept, and taken up again")
    commands.add_parser("find", help="say what `make e2e` would use")
    chosen = parser.parse_args(arguments)
    status = 0
    try:
        if chosen.command == "find":
            status = _find()
        else:
            anyio.run(_up, chosen.dir)
    except* (BinariesError, ControlPlaneError) as failures:
        for failure in failures.exceptions:
            print(failure, file=sys.stderr)
        status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
