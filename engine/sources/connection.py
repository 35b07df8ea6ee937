"""One connection to a remote, through libgit2. Everything here blocks: it runs in threads.

No configuration but the mirror's own is read, no hook, filter or credential helper is run, and no
agent is asked: what a connection may show comes from `engine.sources.credentials` alone.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pygit2
from msgspec import Struct
from pygit2.enums import ConfigLevel, CredentialType

from engine.bounded import MIB
from engine.sources.address import Address
from engine.sources.credentials import Secret
from engine.sources.failure import SourceError, clean


class FetchLimits(Struct, frozen=True):
    """How much, and for how long (seconds). `idle` is the longest silence of a remote."""

    bytes: int = 2 * 1024**3
    objects: int = 10_000_000
    connect: float = 10.0
    idle: float = 20.0
    total: float = 900.0


_CACHED_OBJECTS = 32 * MIB


class Cancelled(Exception):
    """The task that asked for a fetch was cancelled."""


def prepare_libgit2(limits: FetchLimits) -> None:
    """Set what libgit2 keeps for the whole process. Called before the first connection."""
    settings = pygit2.settings
    for level in (
        ConfigLevel.PROGRAMDATA,
        ConfigLevel.SYSTEM,
        ConfigLevel.XDG,
        ConfigLevel.GLOBAL,
    ):
        settings.search_path[level] = ""
    # Both: alone, the one for connecting breaks https.
    settings.server_connect_timeout = int(limits.connect * 1000)
    settings.server_timeout = int(limits.idle * 1000)
    # Of objects that are read along the way; its own limit is 256 MB.
    settings.cache_max_size(_CACHED_OBJECTS)
    # Repositories are read where the operator's roots allow it, whoever owns them; nothing in
    # them is run.
    settings.owner_validation = False


class Callbacks(pygit2.RemoteCallbacks):
    """What libgit2 asks on the way: credentials, whether a host is known, whether to go on."""

    def __init__(
        self,
        address: Address,
        secret: Secret | None,
        limits: FetchLimits,
        stop: threading.Event,
    ) -> None:
        super().__init__()
        self._address, self._secret, self._limits, self._stop = address, secret, limits, stop
        self._deadline = time.monotonic() + limits.total
        self._asked = 0
        self.is_host_unknown = False

    def credentials(
        self, url: str, username_from_url: str | None, allowed_types: CredentialType
    ) -> pygit2.credentials.UserPass | pygit2.KeypairFromMemory | pygit2.Username:
        """Give what the address's credentials are, once."""
        secret = self._secret
        if secret is None:
            raise SourceError(
                "auth-failed",
                "the remote asks for credentials, or hides that there is no such repository: "
                "declare spec.credentials",
            )
        if self._address.kind == "ssh" and allowed_types & CredentialType.USERNAME:
            return pygit2.Username(secret.username)
        self._asked += 1
        if self._asked > 1:
            raise SourceError("auth-failed", "the remote does not accept the credentials")
        if self._address.kind == "ssh" and allowed_types & CredentialType.SSH_MEMORY:
            name = username_from_url or secret.username
            return pygit2.KeypairFromMemory(name, None, secret.ssh_key, "")
        if self._address.kind == "https" and allowed_types & CredentialType.USERPASS_PLAINTEXT:
            return pygit2.UserPass(secret.username, secret.token)
        raise SourceError(
            "auth-failed", "the remote takes no credentials of the kind that is declared"
        )

    def certificate_check(self, certificate: None, valid: bool, host: bytes) -> bool:
        """Go on only where TLS, or the known_hosts file, vouches for the host."""
        self.is_host_unknown = not valid
        return valid

    def transfer_progress(self, stats: pygit2.remotes.TransferProgress) -> None:
        """Stop a transfer that is too large, takes too long, or is no longer wanted."""
        self._go_on()
        if stats.received_bytes > self._limits.bytes or stats.total_objects > self._limits.objects:
            raise SourceError(
                "too-large",
                f"the repository has more than {self._limits.bytes // 1024**2} MiB or "
                f"{self._limits.objects} objects to fetch",
            )

    def sideband_progress(self, string: str) -> None:
        """Stop a remote that only talks."""
        self._go_on()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Cancelled
        if time.monotonic() > self._deadline:
            raise SourceError("timeout", f"the fetch took longer than {self._limits.total:.0f} s")


class RemoteRef(Struct, frozen=True):
    """A ref as the remote advertises it. `target` is the ref that a symbolic one names."""

    name: str
    id: str
    target: str = ""


@contextmanager
def connected(remote: pygit2.Remote, callbacks: Callbacks, secret: Secret | None) -> Iterator[None]:
    """Connect; raises `SourceError` for whatever goes wrong inside too."""
    with explained(callbacks, secret):
        remote.connect(callbacks=callbacks)
        yield


def advertised(remote: pygit2.Remote) -> dict[str, RemoteRef]:
    """Return the refs of a connected remote by name."""
    return {
        head.name: RemoteRef(head.name, str(head.oid), head.symref_target or "")
        for head in remote.list_heads(connect=False)
        if head.name
    }


@contextmanager
def explained(callbacks: Callbacks | None = None, secret: Secret | None = None) -> Iterator[None]:
    """Turn libgit2's errors into `SourceError`."""
    try:
        yield
    except (pygit2.GitError, ValueError, KeyError, OSError) as error:
        if callbacks is not None and callbacks.is_host_unknown:
            raise SourceError(
                "host-unknown",
                "the host is not who it should be: its certificate is not valid, or its key is "
                "not in knownHostsFile",
            ) from None
        # `from None`: the error's own text may hold what must not be shown.
        text = clean(str(error), secret.values if secret else ())
        raise SourceError(_code_of(text), text or type(error).__name__) from None


_CODES = (
    ("auth-failed", r"authenticat|\b401\b|\b403\b|credential|publickey|permission denied"),
    ("timeout", r"timed? ?out"),
    ("no-space", r"no space left|disk quota"),
    (
        "unreachable",
        r"resolve|connect|refused|unreachable|network|reset|\beof\b|\b50\d\b|tls|ssl|socket",
    ),
)


def _code_of(text: str) -> str:
    for code, pattern in _CODES:
        if re.search(pattern, text, re.IGNORECASE):
            return code
    return "remote-failed"


def use_known_hosts(home: Path, known_hosts: bytes) -> None:
    """Let libgit2 find this file: it reads `~/.ssh/known_hosts`, and has one home a process.

    ssh is spoken in worker processes only, each of which does one fetch at a time. `home` is a
    folder of ours that this makes.
    """
    folder = home / ".ssh"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "known_hosts").write_bytes(known_hosts)
    pygit2.settings.homedir = str(home)
