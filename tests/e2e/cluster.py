"""What every cluster under test offers: a kubeconfig, and kubectl."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import orjson

from tests.e2e.binaries import kubectl_path


class KubectlError(Exception):
    """kubectl ended with an exit status other than 0; carries what it printed."""


@dataclass(frozen=True)
class Output:
    """What kubectl printed, and its exit status."""

    stdout: str
    stderr: str
    status: int

    def json(self) -> Any:
        """Return stdout, parsed; raises `orjson.JSONDecodeError` when it is not JSON."""
        return orjson.loads(self.stdout)


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    text: bytes

    @property
    def body(self) -> Any:
        """The body, parsed; raises `orjson.JSONDecodeError` when it is not one JSON value."""
        return orjson.loads(self.text)

    @property
    def events(self) -> list[Any]:
        """The events of a watch that has ended, parsed; raises as `body` does."""
        return [orjson.loads(line) for line in self.text.splitlines()]


class Cluster:
    """A cluster that a kubeconfig leads to."""

    def __init__(self, scratch: Path, kubectl: Path) -> None:
        self._scratch = scratch
        self._kubectl = kubectl

    def kubeconfig(self, user: str = "admin") -> Path:
        """Return the kubeconfig file of `user`; raises `LookupError` when there is no such user."""
        raise LookupError(f"no user {user!r} on this cluster")

    async def kubectl(
        self,
        *arguments: str,
        user: str = "admin",
        stdin: str | bytes | Mapping[str, Any] | Sequence[Any] | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Output:
        """Run kubectl as `user`; `stdin` that is no text is sent as JSON (a list as a `List`).

        Raises `KubectlError` when it fails and `check` is true, `TimeoutError` after `timeout`
        seconds.
        """
        command = [str(self._kubectl), "--cache-dir", str(self._scratch / "kubectl-cache")]
        surroundings = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._scratch),
            "KUBECONFIG": str(self.kubeconfig(user)),
            # A person's own aliases and defaults must not decide what a test does.
            "KUBECTL_KUBERC": "false",
        }
        with anyio.fail_after(timeout):
            done = await anyio.run_process(
                [*command, *arguments],
                input=_bytes(stdin),
                stdin=subprocess.DEVNULL if stdin is None else None,
                check=False,
                env={**surroundings, **(env or {})},
            )
        output = Output(done.stdout.decode(), done.stderr.decode(), done.returncode)
        if check and done.returncode != 0:
            raise KubectlError(
                f"kubectl {' '.join(arguments)} (as {user}) exited {done.returncode}:"
                f" {output.stderr.strip()}"
            )
        return output

    async def apply(
        self,
        *manifests: Mapping[str, Any],
        user: str = "admin",
        manager: str = "kubectl",
        namespace: str = "default",
    ) -> None:
        """Apply manifests server-side, forcing conflicts, as field manager `manager`.

        Those that name no namespace go to `namespace`.
        """
        await self.kubectl(
            *("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}"),
            *("--namespace", namespace, "-f", "-"),
            user=user,
            stdin=manifests,
        )

    async def get(self, *arguments: str, user: str = "admin") -> Any:
        """Return `kubectl get ARGUMENTS -o json` with managedFields, parsed."""
        command = ("get", *arguments, "-o", "json", "--show-managed-fields")
        return (await self.kubectl(*command, user=user)).json()


class ExistingCluster(Cluster):
    """A cluster that was there before the tests and that no test may stop."""

    def __init__(self, kubeconfig: Path, scratch: Path) -> None:
        super().__init__(scratch, kubectl_path())
        self._kubeconfig = kubeconfig

    def kubeconfig(self, user: str = "admin") -> Path:
        """Return the kubeconfig that was given, for `admin` alone."""
        return self._kubeconfig if user == "admin" else super().kubeconfig(user)


def _bytes(stdin: str | bytes | Mapping[str, Any] | Sequence[Any] | None) -> bytes | None:
    if stdin is None or isinstance(stdin, bytes):
        return stdin
    if isinstance(stdin, str):
        return stdin.encode()
    if isinstance(stdin, Mapping):
        return orjson.dumps(dict(stdin))
    return orjson.dumps({"apiVersion": "v1", "kind": "List", "items": list(stdin)})
