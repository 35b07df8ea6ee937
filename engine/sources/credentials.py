"""Credentials by reference: read from their files when they are used, and kept nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from engine.resources.model import Credentials
from engine.sources.address import Address, below
from engine.sources.failure import SourceError

_LARGEST = 64 * 1024


class Secret(Struct, frozen=True):
    """What one connection may show to the remote. Never printed."""

    username: str
    token: str = ""
    ssh_key: str = ""
    known_hosts: bytes = b""

    def __repr__(self) -> str:
        return "Secret(…)"

    @property
    def values(self) -> tuple[str, ...]:
        """What must not appear in any message."""
        return tuple(value for value in (self.token, self.ssh_key) if value)


def read_secret(
    address: Address, credentials: Credentials | None, roots: Sequence[Path]
) -> Secret | None:
    """Read what an address needs; None where nothing is declared and nothing is needed.

    Blocks. Raises `SourceError` for a file that is missing, not below `roots`, or of no use here.
    """
    if address.kind == "local":
        return None
    if address.kind == "ssh":
        if credentials is None or not credentials.ssh_key_file or not credentials.known_hosts_file:
            raise SourceError(
                "credentials-missing",
                "ssh needs spec.credentials.sshKeyFile and spec.credentials.knownHostsFile",
            )
        key = _read(credentials.ssh_key_file, "sshKeyFile", roots)
        hosts = _read(credentials.known_hosts_file, "knownHostsFile", roots)
        username = address.username or credentials.username
        return Secret(username, ssh_key=_text(key, "sshKeyFile"), known_hosts=hosts)
    if credentials is None or not credentials.token_file:
        return None
    token = _text(_read(credentials.token_file, "tokenFile", roots), "tokenFile").strip()
    if not token or any(ord(char) < 0x20 for char in token):
        raise SourceError("credentials-missing", "tokenFile must hold one line, the token")
    return Secret(credentials.username, token=token)


def _read(name: str, field: str, roots: Sequence[Path]) -> bytes:
    path = Path(name)
    try:
        real = below(path, roots) if path.is_absolute() else None
        if real is None:
            raise SourceError(
                "credentials-refused",
                f"{field} is not below one of the folders that the setting secret_roots names",
            )
        with real.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError):
        # One answer for "not there" and "not allowed": nobody can ask which paths exist.
        raise SourceError(
            "credentials-refused",
            f"{field} cannot be read, or is not below one of the folders that the setting "
            "secret_roots names",
        ) from None
    if len(data) > _LARGEST:
        raise SourceError("credentials-refused", f"{field} is larger than {_LARGEST} bytes")
    return data


def _text(data: bytes, field: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SourceError("credentials-refused", f"{field} is not text") from None
