"""Where a repository is: which URLs are taken, and which folders of this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from engine.sources.failure import SourceError

# git's short form for ssh, `user@host:path`; one letter before the colon would be a drive.
_SCP = re.compile(r"(?:([A-Za-z0-9._-]+)@)?([A-Za-z0-9.-]{2,}|\[[0-9A-Fa-f:.]+\]):(?!/?/|:)(.+)\Z")
_SCHEMES = ("file", "ftp", "git", "http", "https", "ssh")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\Z")
_UNFIT = re.compile(r"[\x00-\x20\x7f]")


class Address(Struct, frozen=True):
    """A URL that passed. `url` is given to libgit2; a local one is a path, links resolved."""

    kind: Literal["local", "https", "http", "ssh"]
    url: str
    host: str = ""
    username: str = ""


def address_of(url: str, roots: Sequence[Path] = (), allow_http: bool = False) -> Address:
    """Check a declared URL: https, ssh, or a path (`file://` or plain) below one of `roots`.

    `allow_http` lets http through to this machine itself. Raises `SourceError`; its message never
    holds the URL, which may hold a password.
    """
    if _UNFIT.search(url):
        raise _refused("it has a space or a control character")
    if url.startswith("/"):
        return _local(url, roots)
    if "://" not in url:
        return _short_ssh(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("it cannot be read as a URL") from None
    if parts.query or parts.fragment:
        raise _refused("it has a query or a fragment; nothing secret may stand in a URL")
    scheme = parts.scheme.lower()
    if scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise _refused("a file: URL names a path of this machine, file:///path")
        return _local(unquote(parts.path), roots)
    if scheme not in ("https", "http", "ssh"):
        raise _refused("only https, ssh and file are read")
    host = parts.hostname or ""
    if parts.password is not None or (parts.username is not None and scheme != "ssh"):
        raise _refused("it holds credentials; name a file in spec.credentials instead")
    if not _is_host(host):
        raise _refused("it names no host")
    if not parts.path.strip("/"):
        raise _refused("it names no repository on its host")
    if scheme == "http" and not (allow_http and _is_loopback(host)):
        raise _refused("http sends everything in the clear: use https")
    if scheme == "ssh":
        return Address("ssh", url, host, _ssh_user(parts.username or ""))
    shown = f"[{host}]" if ":" in host else host
    place = f"{shown}:{port}" if port else shown
    return Address("http" if scheme == "http" else "https", f"{scheme}://{place}{parts.path}", host)


def below(path: Path, roots: Sequence[Path]) -> Path | None:
    """Return the real path where it lies below one of `roots`, else None. Raises OSError."""
    real = path.resolve(strict=True)
    return real if any(real.is_relative_to(root.resolve()) for root in roots) else None


def _local(text: str, roots: Sequence[Path]) -> Address:
    if not text.startswith("/") or "\x00" in text:
        raise _refused("a path must be absolute")
    try:
        path = below(Path(text), roots)
    except OSError:
        path = None
    if path is None:
        # One answer for "not there" and "not allowed": nobody can ask which paths exist.
        raise SourceError(
            "path-refused",
            "the repository's path is not a folder below one of the repository roots: check the "
            "path, and the setting repository_roots",
        )
    git_folder = _git_folder(path)
    for place in (git_folder, git_folder / "objects"):
        _stay_below(place, roots)
    for linked in ("commondir", "objects/info/alternates", "objects/info/http-alternates"):
        if (git_folder / linked).exists():
            raise SourceError(
                "path-refused",
                f"the repository borrows from another one ({linked}): name that one, or clone it "
                "whole",
            )
    return Address("local", str(path))


def _git_folder(path: Path) -> Path:
    inner = path / ".git"
    if inner.is_dir():
        return inner
    if inner.exists():
        raise SourceError("path-refused", "the path is a linked worktree: name its main repository")
    if not (path / "objects").is_dir():
        raise SourceError("path-refused", "the path holds no Git repository")
    return path


def _stay_below(place: Path, roots: Sequence[Path]) -> None:
    try:
        real = below(place, roots)
    except OSError:
        raise SourceError("path-refused", "the path holds no whole Git repository") from None
    if real is None:
        raise SourceError("path-refused", "the repository leads out of the repository roots")


def _short_ssh(url: str) -> Address:
    match = _SCP.match(url)
    if match is None or match[2].lower() in _SCHEMES or not _is_host(match[2].strip("[]")):
        raise _refused("it is no URL: write https://…, ssh://…, user@host:path or file:///…")
    return Address("ssh", url, match[2].strip("[]"), _ssh_user(match[1] or ""))


def _ssh_user(username: str) -> str:
    if username and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", username):
        raise _refused("its user name is none that ssh knows")
    return username


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST.match(host) is not None
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _refused(why: str) -> SourceError:
    return SourceError("url-refused", f"the repository's URL is refused: {why}")
