"""Which server, as whom, in which project: the flags that all client commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from cyclopts import Group, Parameter
from msgspec import Struct

from engine.cli.errors import CliError
from engine.http.local import read_server, read_token
from engine.settings import ClientSettings, SettingsRefused, is_loopback, load_client

GROUP = Group("Connection", sort_key=100)


@Parameter(name="*", group=GROUP)
@dataclass(frozen=True)
class Connection:
    """Flags of every command that talks to a server."""

    project: Annotated[
        str | None, Parameter(name=["--project", "-p"], help="project (default: default)")
    ] = None
    server: Annotated[
        str | None, Parameter(help="the server's URL; else TRUEUP_SERVER, else the one found here")
    ] = None
    token: Annotated[
        str | None, Parameter(help="the token to show; else TRUEUP_TOKEN, else the one found here")
    ] = None


HERE = Connection()
When = Annotated[
    str | None,
    Parameter(
        name="--at",
        help="as of a position, a time (2026-03-03T14:00Z), or `2h ago`; else, now",
    ),
]
"""The flag of every command that can read the past."""


class Place(Struct, frozen=True):
    """Where to go, with what. `ca_file` is a certificate to trust besides the system's."""

    url: str
    token: str
    project: str
    state_dir: Path
    ca_file: str = ""
    traceparent: str = ""

    def __repr__(self) -> str:
        return f"Place({self.url!r}, project={self.project!r})"


def find(connection: Connection) -> Place:
    """Find the server and the token. Raises `CliError` that says what is missing."""
    try:
        settings = load_client(connection.server, connection.token, connection.project)
    except SettingsRefused as error:
        raise CliError("the environment cannot be used", lines=error.problems) from error
    local = read_server(settings.data_dir)
    url = (settings.server or (local.url if local else "")).rstrip("/")
    if not url:
        raise CliError(
            f"no server is known: none runs on {settings.data_dir}",
            code="no-server",
            hint="start one with `trueup run`, or name one with --server or TRUEUP_SERVER",
        )
    _check_url(url)
    is_local = local is not None and local.url == url
    token = settings.token
    if not token and local is not None and is_local:
        token = _local_token(Path(local.token_file))
    if not token:
        raise CliError(
            f"no token for {url}",
            hint="give one with TRUEUP_TOKEN or --token; `trueup token create NAME` makes them",
        )
    return _place(settings, url, token, local.ca_file if local and is_local else "")


def _place(settings: ClientSettings, url: str, token: str, ca_file: str) -> Place:
    if not token.isascii() or not token.isprintable():
        raise CliError("the token has characters that no token has")
    return Place(url, token, settings.project, settings.state_dir, ca_file, settings.traceparent)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise CliError(f"{url} is no URL: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise CliError(f"{url} is no URL of a server", hint="for example http://127.0.0.1:8484")
    if parts.username is not None:
        raise CliError("the server's URL must not have credentials: give the token with --token")
    if parts.scheme == "http" and not is_loopback(host):
        raise CliError(
            f"{url} would send the token in the clear",
            hint="use https:// for a server on another machine",
        )


def _local_token(path: Path) -> str | None:
    try:
        return read_token(path)
    except PermissionError as error:
        raise CliError(f"the token of the local server cannot be read: {error}") from error
