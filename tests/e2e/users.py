"""Who logs in to a control plane, and the kubeconfig each of them is given."""

import base64
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.e2e.pki import KeyPair


@dataclass(frozen=True)
class User:
    """A user of the API server, by client certificate or by bearer token."""

    name: str
    groups: tuple[str, ...] = ()
    login: Literal["certificate", "token"] = "certificate"
    lifetime: timedelta = timedelta(days=365)
    """How long a certificate is good; a token of a user has no end."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


# `admin` is the test's own hand, `engine` the product's: so the audit log tells them apart.
DEFAULT_USERS = (
    User("admin", ("system:masters",)),
    User("engine", ("system:masters",), "token"),
    User("stranger"),
)


def certificate_login(pair: KeyPair) -> dict[str, Any]:
    """Return the `user` of a kubeconfig that logs in with a client certificate."""
    return {
        "client-certificate-data": _base64(pair.certificate),
        "client-key-data": _base64(pair.key),
    }


def token_login(token: str) -> dict[str, Any]:
    """Return the `user` of a kubeconfig that logs in with a bearer token."""
    return {"token": token}


def exec_login(command: Sequence[str], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the `user` of a kubeconfig that asks a command for its credential."""
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": command[0],
            "args": list(command[1:]),
            "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
            "interactiveMode": "Never",
        }
    }


def write_kubeconfig(path: Path, server: str, authority: Path, login: Mapping[str, Any]) -> Path:
    """Write a kubeconfig that needs no other file, readable by its owner alone; return `path`."""
    name = path.stem
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "e2e",
                "cluster": {"server": server, "certificate-authority-data": _base64(authority)},
            }
        ],
        "users": [{"name": name, "user": dict(login)}],
        "contexts": [{"name": name, "context": {"cluster": "e2e", "user": name}}],
        "current-context": name,
    }
    return write_private(path, yaml.safe_dump(content, sort_keys=False))


def write_private(path: Path, text: str) -> Path:
    """Write a file that only its owner can read; return `path`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
