"""Whether the paths that a resource names may be read: below the configured folders only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.http.api import Api
from engine.resources.meaning import url_scheme
from engine.resources.model import Cluster, Repository, Resource
from engine.resources.parse import Problem
from engine.settings import is_inside


def check_roots(api: Api, resources: Sequence[Resource]) -> list[Problem]:
    """Return a problem for each path that lies below no configured folder."""
    problems = []
    for resource in resources:
        for field, path, setting, roots in _paths(api, resource):
            if not is_inside(path, roots):
                where = f"{type(resource).__name__}/{resource.metadata.name}"
                message = f"{path} lies below none of the folders in the setting {setting}"
                hint = "add its folder there, and restart the engine"
                problems.append(Problem(where, 0, field, message, hint))
    return problems


def _paths(api: Api, resource: Resource) -> Iterable[tuple[str, str, str, tuple[Path, ...]]]:
    if isinstance(resource, Repository):
        spec = resource.spec
        if url_scheme(spec.url) == "file":
            path = unquote(urlsplit(spec.url).path)
            yield "spec.url", path, "repository_roots", api.repository_roots
        credentials = spec.credentials
        if credentials is not None:
            for name, value in (
                ("tokenFile", credentials.token_file),
                ("sshKeyFile", credentials.ssh_key_file),
                ("knownHostsFile", credentials.known_hosts_file),
            ):
                if value is not None:
                    field = f"spec.credentials.{name}"
                    yield field, value, "secret_roots", api.secret_roots
    elif isinstance(resource, Cluster) and resource.spec.kubeconfig is not None:
        yield "spec.kubeconfig", resource.spec.kubeconfig, "kubeconfig_roots", api.kubeconfig_roots
