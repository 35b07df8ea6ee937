"""From a declared cluster to an address, a TLS context and a credential.

A kubeconfig is read as kubectl reads it, but for what it must not do here: run commands that are
not on the list, leave keys in temporary files, lie outside of the configured roots. Credentials are
read again before they expire and when the server refuses them.
"""

from __future__ import annotations

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
        server = (_word(config.cluster, "server") or "").rstrip("/")
        with tempfile.TemporaryDirectory(prefix="trueup-") as folder:
            context = _context(config, credential, server, Path(folder), self._settings)
        authorization = _authorization(config)
        if credential.token:
            authorization = f"Bearer {credential.token}"
        authorization = authorization.strip()
        if any(c in authorization for c in "\r\n\x00"):
            raise AccessRefused("config", "The kubeconfig's token has a line break in it.")
        return Access(
            server=server,
            ssl=context,
            authorization=authorization,
            server_name=_word(config.cluster, "tls-server-name"),
            proxy=_word(config.cluster, "proxy-url"),
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


def _authorization(config: _Kubeconfig) -> str:
    """Return the user's own Authorization header, "" without one."""
    user = config.user
    if file := _word(user, "tokenFile"):
        return f"Bearer {_text(config.folder / file)}"
    if token := _word(user, "token"):
        return f"Bearer {token}"
    if "username" in user and "password" in user:
        pair = f"{user['username']}:{user['password']}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return ""


def _context(
    config: _Kubeconfig,
    credential: ExecCredential,
    server: str,
    folder: Path,
    settings: ClusterSettings,
) -> ssl.SSLContext | None:
    """Return the TLS context, None for plain HTTP; `folder` takes inline keys, and is passing."""
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
    is_verified = not config.cluster.get("insecure-skip-tls-verify")
    if not is_verified and not settings.allow_insecure_tls:
        raise AccessRefused(
            "config",
            "The kubeconfig says insecure-skip-tls-verify: give it a certificate-authority, or set "
            "`allow_insecure_tls`.",
        )
    authority = _file(config, config.cluster, "certificate-authority", folder)
    certificate = _file(config, config.user, "client-certificate", folder)
    key = _file(config, config.user, "client-key", folder)
    if credential.certificate:
        certificate = _written(folder / "client-certificate", credential.certificate.encode())
        key = _written(folder / "client-key", credential.key.encode())
    try:
        # Only ssl itself reads certificates and keys, and only out of files.
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            context.load_cert_chain(certificate, keyfile=key)
    except (ssl.SSLError, OSError) as error:
        raise AccessRefused(
            "config", f"The kubeconfig's certificates cannot be used: {error.strerror or error}"
        ) from None
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _file(config: _Kubeconfig, holder: dict[str, Any], field: str, folder: Path) -> Path | None:
    """Return the file that has what a field names, or its `-data`; None where it has neither."""
    if data := holder.get(f"{field}-data"):
        try:
            return _written(folder / field, base64.b64decode(str(data), validate=True))
        except (binascii.Error, ValueError):
            raise AccessRefused("config", f"The kubeconfig's {field}-data is not base64.") from None
    named = _word(holder, field)
    if named is None:
        return None
    file = config.folder / named
    if not file.is_file():
        raise AccessRefused("config", f"The kubeconfig's {field} {file} is not there.")
    return file


def _word(holder: dict[str, Any], field: str) -> str | None:
    """Return a field's text, None where it is not there or empty."""
    value = holder.get(field)
    if value is not None and not isinstance(value, str):
        raise AccessRefused("config", f"The kubeconfig's `{field}` is no text.")
    return value or None


def _written(file: Path, body: bytes) -> Path:
    file.touch(mode=0o600)
    file.write_bytes(body)
    return file


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
