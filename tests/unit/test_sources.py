"""URLs, paths and words: what is taken, what is refused, and what is never shown."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.resources.model import Credentials
from engine.sources.address import Address, address_of
from engine.sources.credentials import read_secret
from engine.sources.failure import SourceError, clean
from engine.sources.history import last_changes
from events.sealed import git_actor
from tests.repositories import Repository


def refused(url: str, *roots: Path, allow_http: bool = False) -> SourceError:
    with pytest.raises(SourceError) as caught:
        address_of(url, roots, allow_http)
    return caught.value


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (
            "https://example.com/a/b.git",
            Address("https", "https://example.com/a/b.git", "example.com"),
        ),
        (
            "https://example.com:8443/a",
            Address("https", "https://example.com:8443/a", "example.com"),
        ),
        ("HTTPS://Example.com/A", Address("https", "https://example.com/A", "example.com")),
        ("https://[::1]:8443/a", Address("https", "https://[::1]:8443/a", "::1")),
        (
            "ssh://git@example.com/a",
            Address("ssh", "ssh://git@example.com/a", "example.com", "git"),
        ),
        ("ssh://example.com:22/a", Address("ssh", "ssh://example.com:22/a", "example.com", "")),
        ("git@example.com:a/b", Address("ssh", "git@example.com:a/b", "example.com", "git")),
        ("example.com:a/b", Address("ssh", "example.com:a/b", "example.com", "")),
    ],
)
def test_https_and_ssh_are_taken(url: str, address: Address) -> None:
    assert address_of(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "https://user:canary@example.com/a",
        "https://canary@example.com/a",
        "https://:canary@example.com/a",
        "ssh://git:canary@example.com/a",
        "ssh://-oProxyCommand=canary@example.com/a",
        "-oProxyCommand=canary@example.com:a",
        "ssh://-oProxyCommand=canary/a",
        "https://example.com/a?token=canary",
        "https://example.com/a#canary",
        "http://example.com/canary",
        "git://example.com/canary",
        "ext::sh -c canary",
        "ext::canary",
        "ftp://example.com/canary",
        "https:///canary",
        "https://example.com",
        "https://example.com:99999999/canary",
        "https://exa mple.com/canary",
        "https://example.com/canary\n",
        "file://example.com/canary",
        "file:canary",
        "canary",
        "./canary",
        "",
    ],
)
def test_other_urls_are_refused_without_being_quoted(url: str) -> None:
    error = refused(url, Path("/"))
    assert error.code == "url-refused"
    assert "canary" not in error.message


def test_plain_http_is_for_this_machine_alone_and_only_where_allowed() -> None:
    assert refused("http://127.0.0.1/a").code == "url-refused"
    assert refused("http://example.com/a", allow_http=True).code == "url-refused"
    assert address_of("http://127.0.0.1:80/a", (), allow_http=True).kind == "http"
    assert address_of("http://localhost/a", (), allow_http=True).kind == "http"


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    with suppress(SourceError):
        assert address_of(text).kind in {"https", "ssh"}


def test_a_path_is_taken_below_a_root_only_links_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    mine, theirs = Repository(inside / "r"), Repository(outside / "r")
    assert address_of(mine.url, (inside,)) == Address("local", str(inside / "r"))
    assert address_of(str(inside / "r"), (inside,)).kind == "local"
    (inside / "link").symlink_to(theirs.folder)
    (inside / "kept").symlink_to(mine.folder)
    assert address_of(f"file://{inside}/kept", (inside,)).url == str(inside / "r")
    missing = refused(f"file://{inside}/nothing", inside)
    for url in (theirs.url, f"file://{inside}/link", f"file://{inside}/../out/r", f"{outside}/r"):
        error = refused(url, inside)
        assert (error.code, error.message) == (missing.code, missing.message), "nobody can probe"
    assert refused(mine.url).code == "path-refused", "without roots there is no local repository"


def test_a_repository_that_borrows_from_elsewhere_is_refused(tmp_path: Path) -> None:
    roots = (tmp_path / "in",)
    roots[0].mkdir()
    secret = Repository(tmp_path / "secret")
    borrows = Repository(roots[0] / "borrows")
    (borrows.folder / "objects/info/alternates").write_text(f"{secret.folder}/objects\n")
    assert refused(borrows.url, *roots).code == "path-refused"
    linked = roots[0] / "linked"
    linked.mkdir()
    (linked / ".git").write_text(f"gitdir: {secret.folder}\n")
    assert refused(f"file://{linked}", *roots).code == "path-refused"
    (roots[0] / "objects-elsewhere").mkdir()
    (roots[0] / "objects-elsewhere/objects").symlink_to(secret.folder / "objects")
    assert refused(f"file://{roots[0]}/objects-elsewhere", *roots).code == "path-refused"
    (roots[0] / "no-repository").mkdir()
    assert refused(f"file://{roots[0]}/no-repository", *roots).code == "path-refused"


def test_credentials_are_read_below_their_roots_only(tmp_path: Path) -> None:
    root = tmp_path / "secrets"
    root.mkdir()
    (root / "token").write_text("  canary\n")
    (root / "empty").write_text("\n")
    (root / "large").write_text("x" * 100_000)
    (root / "binary").write_bytes(b"\xff")
    (tmp_path / "outside").write_text("canary")
    (root / "link").symlink_to(tmp_path / "outside")
    address = address_of("https://example.com/a")
    read = read_secret(address, Credentials(token_file=str(root / "token")), (root,))
    assert read is not None
    assert (read.username, read.token) == ("git", "canary")
    assert "canary" not in repr(read)
    for name in ("missing", "link", "../outside", "large", "binary", "empty"):
        with pytest.raises(SourceError) as caught:
            read_secret(address, Credentials(token_file=f"{root}/{name}"), (root,))
        assert caught.value.code in {"credentials-refused", "credentials-missing"}
        assert "canary" not in caught.value.message
        assert str(root) not in caught.value.message
    with pytest.raises(SourceError):
        read_secret(address, Credentials(token_file="token"), (root,))
    assert read_secret(address, None, (root,)) is None


def test_ssh_needs_a_key_and_known_hosts(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("canary")
    (tmp_path / "hosts").write_text("example.com ssh-ed25519 AAAA")
    address = address_of("ssh://example.com/a")
    for given_ in (None, Credentials(ssh_key_file=str(tmp_path / "key"))):
        with pytest.raises(SourceError) as caught:
            read_secret(address, given_, (tmp_path,))
        assert caught.value.code == "credentials-missing"
    whole = Credentials(
        ssh_key_file=str(tmp_path / "key"), known_hosts_file=str(tmp_path / "hosts")
    )
    read = read_secret(address, whole, (tmp_path,))
    assert read is not None
    assert (read.username, read.ssh_key) == ("git", "canary")


@given(st.text(), st.text(min_size=1))
def test_cleaned_text_is_one_short_line_without_secrets(text: str, secret: str) -> None:
    cleaned = clean(text + secret + text, [secret])
    assert len(cleaned) <= 300
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in cleaned)
    assert clean(cleaned) == cleaned.strip()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["m", "://", "a://", "a://b", "a@", "\x1b "])
def test_enormous_text_is_cleaned_in_one_go(piece: str) -> None:
    """A commit's subject may have megabytes, and whoever cleans it must not hold up the others.

    The limit is no measure of speed: what went by each beginning anew took an hour of this.
    """
    assert len(clean(piece * (2_000_000 // len(piece)))) <= 300


def test_cleaned_text_has_no_userinfo_and_no_turned_writing() -> None:
    assert clean("at https://user:canary@example.com/x") == "at https://example.com/x"
    assert clean("a\u202eb\x1b[31mc\r\nd") == "a b [31mc d"


def test_an_author_is_one_pseudonym_whatever_the_case_of_the_address() -> None:
    assert git_actor(b"Ada@Example.org") == git_actor(b"ada@example.org ")
    assert git_actor(b"ada@example.org").startswith("git:")
    assert len(git_actor(b"")) == len("git:") + 12


def test_the_newest_commit_that_changed_a_file_is_named(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "r.git")
    start = repository.commit({"a": "1", "b": "1", "c/d": "1", "e": "1"})
    first = repository.commit({"a": "2", "b": "1", "c/d": "1", "e": "1"})
    second = repository.commit({"a": "2", "c/d": "2", "e": "1"})
    last = repository.commit({"a": "2", "c/d": "1", "e": "1"})
    paths = ["a", "b", "c/d", "e", "never"]
    told = last_changes(repository.git, start, last, paths, 1000)
    assert told == {"a": first, "b": second, "c/d": last}
    assert last_changes(repository.git, start, last, paths, 12) == {"c/d": last}
    assert last_changes(repository.git, "5ca1ab1e" * 5, last, paths, 1000) == {}
