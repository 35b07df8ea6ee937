"""Credential plugins: the commands that a kubeconfig names to get a token.

A kubeconfig that names a command could run anything, so only commands on the allow list run, with
a time-out, without our own settings in their environment, and killed when they overstay.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
from msgspec import Struct

from engine.bounded import MIB

_MAX_OUTPUT = MIB
_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class AccessRefused(Exception):
    """A cluster's credentials cannot be used. `code` is stable; the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class ExecCredential(Struct, frozen=True):
    """What a plugin gave: a token, or a client certificate with its key (PEM)."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    expires: float | None = None
    """Seconds since the epoch."""


def check_command(command: Any, allowed: tuple[str, ...]) -> str:
    """Return the command if it may be run, written exactly as the allow list has it.

    Raises `AccessRefused("exec-refused")`.
    """
    if not isinstance(command, str) or command not in allowed:
        raise AccessRefused(
            "exec-refused",
            f"The kubeconfig wants to run the credential plugin {str(command)[:200]!r}, which is "
            "not on the allow list; add it to the setting `exec_plugins` if you trust it.",
        )
    return command


async def run_plugin(
    exec_config: Mapping[str, Any],
    cluster: Mapping[str, Any],
    allowed: tuple[str, ...],
    timeout: float,
) -> ExecCredential:
    """Run a kubeconfig's `exec` section and return what it gave. Raises `AccessRefused`."""
    command = check_command(exec_config.get("command"), allowed)
    api_version = exec_config.get("apiVersion")
    if api_version not in _VERSIONS:
        raise AccessRefused(
            "exec-failed", f"The credential plugin {command} has an unknown apiVersion."
        )
    found = shutil.which(command)
    if found is None:
        raise AccessRefused("exec-failed", f"The credential plugin {command} was not found.")
    arguments = [str(argument) for argument in exec_config.get("args") or ()]
    spec: dict[str, Any] = {"interactive": False}
    if exec_config.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    info = {"apiVersion": api_version, "kind": "ExecCredential", "spec": spec}
    environment = _environment(exec_config) | {"KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}
    output = await _output(command, [found, *arguments], environment, timeout)
    return _credential(command, api_version, output)


def _environment(exec_config: Mapping[str, Any]) -> dict[str, str]:
    # Cloud plugins need the caller's environment (AWS_PROFILE and the like), none needs ours.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRUEUP_")}
    for pair in exec_config.get("env") or ():
        if isinstance(pair, Mapping) and "name" in pair:
            environment[str(pair["name"])] = str(pair.get("value", ""))
    return environment


def _cluster_info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "server",
        "tls-server-name",
        "insecure-skip-tls-verify",
        "certificate-authority-data",
        "proxy-url",
    )
    return {name: cluster[name] for name in names if name in cluster}


async def _output(
    command: str, arguments: list[str], environment: dict[str, str], timeout: float
) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            # What a plugin complains of may hold what it was given: it is not passed on.
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MAX_OUTPUT,
        )
    except OSError as error:
        raise AccessRefused(
            "exec-failed", f"The credential plugin {command} does not start: {error.strerror}."
        ) from None
    try:
        with anyio.fail_after(timeout):
            assert process.stdout is not None
            output = await _read(process.stdout, command)
            code = await process.wait()
    except TimeoutError:
        raise AccessRefused(
            "exec-failed", f"The credential plugin {command} did not end within {timeout:g} s."
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
    if code != 0:
        raise AccessRefused(
            "exec-failed",
            f"The credential plugin {command} ended with status {code}; run it by hand to see why.",
        )
    return output


async def _read(stream: asyncio.StreamReader, command: str) -> bytes:
    output = bytearray()
    while chunk := await stream.read(65536):
        output += chunk
        if len(output) > _MAX_OUTPUT:
            raise AccessRefused(
                "exec-failed", f"The credential plugin {command} wrote over {_MAX_OUTPUT} bytes."
            )
    return bytes(output)


def _credential(command: str, api_version: str, output: bytes) -> ExecCredential:
    bad = AccessRefused(
        "exec-failed", f"The credential plugin {command} did not write an ExecCredential."
    )
    try:
        answer = orjson.loads(output)
    except orjson.JSONDecodeError:
        raise bad from None
    status = answer.get("status") if isinstance(answer, dict) else None
    if not isinstance(status, dict) or answer.get("apiVersion") != api_version:
        raise bad
    token, certificate, key = (
        status.get(name) or "" for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if not all(isinstance(value, str) for value in (token, certificate, key)):
        raise bad
    if not token and not (certificate and key):
        raise bad
    return ExecCredential(token, certificate, key, _expiry(status.get("expirationTimestamp")))


def _expiry(text: Any) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
