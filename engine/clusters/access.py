"""From a declared cluster to an address, a TLS context and a credential.

kubernetes-asyncio reads the kubeconfig; what it must not do on its own (run commands, leave keys in
temporary files, follow a file out of the configured roots) is taken out of its hands first.
Credentials are read again before they expire and when the server refuses them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import yaml
from anyio import to_thread
from msgspec import Struct

from engine.bounded import MIB
from engine.clusters.plugin import AccessRefused, ExecCredential, check_command, run_plugin
from engine.clusters.settings import ClusterSettings
from engine.ports import Clock
from engine.resources.model import ClusterSpec

_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_MAX_FILE = MIB
_TOKEN_FILE_AGE = 60.0
"""A token in a file is rotated by others: it is read again after so many seconds."""
_SKEW = 60.0
"""A credential is renewed so many seconds before it expires."""
_MIN_AGE = 10.0
"""Refused credentials are read again after so many seconds, at the soonest."""


class Access(Struct, frozen=True):
    """How a cluster is reached. `renew_at` is in the clock's monotonic seconds, None for never."""

    server: str
    ssl: ssl.SSLContext | None
    authorization: str
    server_name: str | None
    proxy: str | None
    read_at: float
    renew_at: float | None


class AccessReader:
    """Reads a cluster's access, and reads it again when it must."""

    def __init__(self, spec: ClusterSpec, settings: ClusterSettings, clock: Clock) -> None:
        self._spec, self._settings, self.clock = spec, settings, clock
        self._access: Access | None = None
        self._lock = anyio.Lock()

    async def current(self) -> Access:
        """Return the access in force. Raises `AccessRefused`."""
        access = self._access
        if access is None or self._is_due(access):
            async with self._lock:
                access = self._access
                if access is None or self._is_due(access):
                    access = self._access = await self._read()
        return access

    async def renewed(self, refused: Access) -> Access | None:
        """Return another access than the one that was refused; None if there is none to be had.

        Raises `AccessRefused`.
        """
        async with self._lock:
            if self._access is not refused:
                return self._access
            if self.clock.monotonic() < refused.read_at + _MIN_AGE:
                return None
            self._access = await self._read()
            return self._access

    def _is_due(self, access: Access) -> bool:
        return access.renew_at is not None and self.clock.monotonic() >= access.renew_at

    async def _read(self) -> Access:
        if self._spec.in_cluster:
            return await to_thread.run_sync(self._in_cluster)
        config = await to_thread.run_sync(_load, self._spec, self._settings)
        credential = ExecCredential()
        if config.plugin is not None:
            credential = await run_plugin(
                config.plugin,
                config.cluster,
                self._settings.exec_plugins,
                self._settings.exec_timeout,
            )
        return await to_thread.run_sync(self._from_kubeconfig, config, credential)

    def _in_cluster(self) -> Access:
        host = os.environ.get("KUBERNETES_SERVICE_HOST")
        port = os.environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise AccessRefused(
                "config",
                "The cluster is declared as `inCluster`, but the engine does not run in one "
                "(KUBERNETES_SERVICE_HOST is not set).",
            )
        token = _text(Path(_SERVICE_ACCOUNT, "token")).strip()
        context = ssl.create_default_context(cadata=_text(Path(_SERVICE_ACCOUNT, "ca.crt")))
        now = self.clock.monotonic()
        return Access(
            server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            ssl=context,
            authorization=f"Bearer {token}",
            server_name=None,
            proxy=None,
            read_at=now,
            renew_at=now + _TOKEN_FILE_AGE,
        )

    def _from_kubeconfig(self, config: _Kubeconfig, credential: ExecCredential) -> Access:
        now = self.clock.monotonic()
        renew_at = None
        if credential.expires is not None:
            left = credential.expires - self.clock.now() / 1e6
            # A plugin whose tokens are always about to expire must not run with each request.
            renew_at = now + max(left - _SKEW, min(left / 2, _SKEW), _MIN_AGE)
        elif "tokenFile" in config.user:
            renew_at = now + _TOKEN_FILE_AGE
        with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
            loaded = _kubernetes_asyncio(config, credential, Path(folder))
            server = str(loaded.host)
            context = _context(loaded, server, self._settings)
        authorization = loaded.api_key.get("BearerToken", "")
        if credential.token:
            authorization = f"Bearer {credential.token}"
        authorization = authorization.strip()
        if any(c in authorization for c in "\r\n\x00"):
            raise AccessRefused("config", "The kubeconfig's token has a line break in it.")
        return Access(
            server=server,
            ssl=context,
            authorization=authorization,
            server_name=loaded.tls_server_name or None,
            proxy=loaded.proxy or None,
            read_at=now,
            renew_at=renew_at,
        )


class _Kubeconfig(Struct, frozen=True):
    """The parts of a kubeconfig that one context names. `folder` is where the file lies."""

    folder: Path
    context: str
    cluster: dict[str, Any]
    user: dict[str, Any]
    plugin: dict[str, Any] | None


def _load(spec: ClusterSpec, settings: ClusterSettings) -> _Kubeconfig:
    path = _allowed_path(spec.kubeconfig or "", settings.kubeconfig_roots)
    try:
        # A kubeconfig below a configured root is the operator's own file; the size is bounded.
        config = yaml.safe_load(_text(path))
    except (yaml.YAMLError, RecursionError):
        raise AccessRefused("config", f"The kubeconfig {path} is not YAML.") from None
    if not isinstance(config, dict):
        raise AccessRefused("config", f"The kubeconfig {path} is not a map of fields.")
    name = spec.context or config.get("current-context")
    context = _named(config, "contexts", name, "context")
    cluster = _named(config, "clusters", context.get("cluster"), "cluster")
    user = _named(config, "users", context.get("user"), "user") if context.get("user") else {}
    if "auth-provider" in user:
        raise AccessRefused(
            "config", "The kubeconfig's `auth-provider` is not supported: use `exec`, or a token."
        )
    plugin = user.get("exec")
    if plugin is not None:
        if not isinstance(plugin, dict):
            raise AccessRefused("config", f"The kubeconfig {path} has an unreadable `exec`.")
        check_command(plugin.get("command"), settings.exec_plugins)
    return _Kubeconfig(path.parent, str(name), cluster, user, plugin)


def _allowed_path(kubeconfig: str, roots: tuple[str, ...]) -> Path:
    if not kubeconfig:
        raise AccessRefused("config", "The cluster names neither a kubeconfig nor `inCluster`.")
    # Resolved, so that no link leads out of a root.
    path = Path(kubeconfig).expanduser().resolve()
    for root in roots:
        if path.is_relative_to(Path(root).expanduser().resolve()):
            return path
    shown = ", ".join(roots) or "none"
    raise AccessRefused(
        "config",
        f"The kubeconfig {kubeconfig} is not below a configured root ({shown}); move it, or add "
        "its folder to the setting `kubeconfig_roots`.",
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            body = file.read(_MAX_FILE + 1)
        if len(body) > _MAX_FILE:
            raise AccessRefused("config", f"{path} is over {_MAX_FILE} bytes.")
        return body.decode()
    except OSError as error:
        raise AccessRefused("config", f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise AccessRefused("config", f"{path} is not text.") from None


def _named(config: Mapping[str, Any], section: str, name: Any, field: str) -> dict[str, Any]:
    items = config.get(section)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("name") == name:
            found = item.get(field)
            if isinstance(found, dict):
                return found
    raise AccessRefused("config", f"The kubeconfig has no {field} named {name!r} in `{section}`.")


def _kubernetes_asyncio(config: _Kubeconfig, credential: ExecCredential, folder: Path) -> Any:
    # Imported here: it costs 0.36 s and 40 MB, and many commands never talk to a cluster.
    from kubernetes_asyncio.client import Configuration
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.kube_config import KubeConfigLoader

    user = {key: value for key, value in config.user.items() if key != "exec"}
    cluster = dict(config.cluster)
    _check_texts(cluster, user)
    if user.get("tokenFile"):
        # As in client-go, what is read from the file goes before what is written beside it.
        user.pop("token", None)
    if credential.certificate:
        user["client-certificate-data"] = _encode(credential.certificate)
        user["client-key-data"] = _encode(credential.key)
    # Inline keys are written here and vanish with the folder; the loader would leave them behind.
    for holder, field in (
        (cluster, "certificate-authority"),
        (user, "client-certificate"),
        (user, "client-key"),
    ):
        data = holder.pop(f"{field}-data", None)
        if data:
            file = folder / field
            file.touch(mode=0o600)
            file.write_bytes(_decode(data, field))
            holder[field] = str(file)
    plain = {
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": user}],
    }
    loaded = Configuration()
    loader = KubeConfigLoader(plain, config_base_path=str(config.folder))
    try:
        # In a loop of its own: this is a worker thread, and the loader is written for asyncio.
        asyncio.run(loader.load_and_set(loaded))
    except (ConfigException, OSError, AssertionError, TypeError, ValueError) as error:
        raise AccessRefused(
            "config", f"The kubeconfig's context {config.context!r} cannot be used: {error}"
        ) from None
    return loaded


def _check_texts(*holders: Mapping[str, Any]) -> None:
    """Refuse, by its name, what the loader would take for a text and is none."""
    for holder in holders:
        for field in _TEXTS & holder.keys():
            if holder[field] is not None and not isinstance(holder[field], str):
                raise AccessRefused("config", f"The kubeconfig's `{field}` is no text.")


_TEXTS = frozenset(
    {
        "server",
        "tls-server-name",
        "proxy-url",
        "token",
        "tokenFile",
        "certificate-authority",
        "client-certificate",
        "client-key",
    }
)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(data: Any, field: str) -> bytes:
    try:
        return base64.b64decode(str(data), validate=True)
    except (binascii.Error, ValueError):
        raise AccessRefused("config", f"The kubeconfig's {field}-data is not base64.") from None


def _context(loaded: Any, server: str, settings: ClusterSettings) -> ssl.SSLContext | None:
    try:
        address = urlsplit(server)
    except ValueError:
        address = urlsplit("")
    if address.scheme == "http":
        if not (settings.allow_insecure_tls or _is_loopback(address.hostname or "")):
            raise AccessRefused(
                "config",
                f"The server {server} speaks plain HTTP: use https, or set `allow_insecure_tls`.",
            )
        return None
    if address.scheme != "https" or not address.hostname:
        raise AccessRefused("config", f"The kubeconfig's server {server!r} is no https address.")
    if not loaded.verify_ssl and not settings.allow_insecure_tls:
        raise AccessRefused(
            "config",
            "The kubeconfig says insecure-skip-tls-verify: give it a certificate-authority, or set "
            "`allow_insecure_tls`.",
        )
    try:
        context = ssl.create_default_context(cafile=loaded.ssl_ca_cert)
        if loaded.cert_file:
            context.load_cert_chain(loaded.cert_file, keyfile=loaded.key_file)
    except (ssl.SSLError, OSError) as error:
        raise AccessRefused(
            "config", f"The kubeconfig's certificates cannot be used: {error.strerror or error}"
        ) from None
    if not loaded.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
