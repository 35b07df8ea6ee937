"""Credentials against real servers: git behind TLS and a password, git behind sshd."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from engine.resources.model import Credentials, GitRef
from engine.sources.failure import SourceError
from engine.sources.mirror import Mirror, Mirrors, MirrorSettings
from tests.e2e.pki import Authority
from tests.line import Line
from tests.remotes import SshServer, over_https
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
MAIN = GitRef(branch="main")
TOKEN, WRONG = "canary-token-Zq8vKw3T", "canary-wrong-Zq8vKw3T"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "git" / "web.git")
    made.commit({"a.yaml": "a: 1"})
    return made


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that the fetching processes trust."""
    made = Authority(tmp_path / "ca")
    monkeypatch.setenv("SSL_CERT_FILE", str(made.pair.certificate))
    return made


@pytest.fixture
def https(tmp_path: Path, repository: Repository, authority: Authority) -> Iterator[str]:
    with over_https(tmp_path / "git", authority, "bot", TOKEN) as url:
        yield f"{url}/web.git"


def mirror(tmp_path: Path, url: str, credentials: Credentials | None) -> Mirror:
    settings = MirrorSettings(folder=tmp_path / "mirrors", secret_roots=(tmp_path,))
    return Mirrors(settings).open(url, credentials)


def password(tmp_path: Path, token: str = TOKEN, user: str = "bot") -> Credentials:
    path = tmp_path / f"token-{user}-{len(token)}"
    path.write_text(f"{token}\n")
    return Credentials(username=user, token_file=str(path))


async def refusal(mirror: Mirror) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await mirror.fetch(MAIN)
    said = f"{caught.value!r} {caught.value}"
    for secret in (TOKEN, WRONG):
        assert secret not in said
        assert base64.b64encode(f"bot:{secret}".encode()).decode() not in said
    assert "PRIVATE KEY" not in said
    return caught.value


async def test_https_with_the_right_password(
    tmp_path: Path, https: str, repository: Repository
) -> None:
    opened = mirror(tmp_path, https, password(tmp_path))
    first = await opened.fetch(MAIN)
    assert set(await opened.tree(first.commit).entries("")) == {"a.yaml"}
    second = repository.commit({"a.yaml": "a: 2"})
    assert (await opened.fetch(MAIN)).commit == second


@pytest.mark.parametrize(("token", "user"), [(WRONG, "bot"), (TOKEN, "somebody")])
async def test_https_with_the_wrong_name_or_password(
    tmp_path: Path, https: str, token: str, user: str
) -> None:
    error = await refusal(mirror(tmp_path, https, password(tmp_path, token, user)))
    assert error.code == "auth-failed"
    assert error.message == "the remote does not accept the credentials"


async def test_https_without_a_password(tmp_path: Path, https: str) -> None:
    error = await refusal(mirror(tmp_path, https, None))
    assert error.code == "auth-failed"
    assert "declare spec.credentials" in error.message


async def test_https_of_an_authority_that_nobody_vouches_for(
    tmp_path: Path, repository: Repository
) -> None:
    unknown = Authority(tmp_path / "unknown")
    with over_https(tmp_path / "git", unknown, "bot", TOKEN) as url:
        error = await refusal(mirror(tmp_path, f"{url}/web.git", password(tmp_path)))
    assert error.code == "host-unknown"
    assert "certificate is not valid" in error.message


async def test_the_log_says_what_is_wrong_and_when_it_is_right_again_without_the_password(
    tmp_path: Path, https: str, dsn: str
) -> None:
    line = Line(tmp_path / "line", dsn, ["dev"], secret_roots=(tmp_path,))
    (tmp_path / "line").mkdir()
    token = password(tmp_path, WRONG).token_file
    assert token is not None
    async with line.clusters_running(), line.engine():
        credentials = {"username": "bot", "tokenFile": token}
        spec = {"url": https, "interval": "1s", "credentials": credentials}
        await line.declare({"kind": "Repository", "metadata": {"name": "web"}, "spec": spec})
        (failed,) = await line.until("SourceFailed")
        assert failed["payload"]["code"] == "auth-failed"
        await anyio.Path(token).write_text(TOKEN)
        await line.until("SourceRecovered")
        await line.until("CommitSeen")
        everything = str(await line.events())
    for secret in (TOKEN, WRONG):
        assert secret not in everything
        assert base64.b64encode(f"bot:{secret}".encode()).decode() not in everything


@pytest.fixture
def sshd(tmp_path: Path, repository: Repository) -> Iterator[SshServer]:
    server = SshServer(tmp_path / "ssh")
    with server.serving():
        yield server


def with_key(server: SshServer, key: Path, hosts: Path) -> Credentials:
    return Credentials(username=server.user, ssh_key_file=str(key), known_hosts_file=str(hosts))


def ssh_url(server: SshServer, repository: Repository) -> str:
    return f"ssh://{server.user}@127.0.0.1:{server.port}{repository.folder}"


async def test_ssh_with_the_right_key(
    tmp_path: Path, sshd: SshServer, repository: Repository
) -> None:
    credentials = with_key(sshd, sshd.key, sshd.known_hosts)
    opened = mirror(tmp_path, ssh_url(sshd, repository), credentials)
    first = await opened.fetch(MAIN)
    assert set(await opened.tree(first.commit).entries("")) == {"a.yaml"}
    second = repository.commit({"a.yaml": "a: 2"})
    assert (await opened.fetch(MAIN)).commit == second


async def test_ssh_with_a_key_that_the_server_does_not_know(
    tmp_path: Path, sshd: SshServer, repository: Repository
) -> None:
    credentials = with_key(sshd, sshd.other_key, sshd.known_hosts)
    error = await refusal(mirror(tmp_path, ssh_url(sshd, repository), credentials))
    assert error.code == "auth-failed"


async def test_ssh_to_a_host_with_another_key_than_is_known(
    tmp_path: Path, sshd: SshServer, repository: Repository
) -> None:
    credentials = with_key(sshd, sshd.key, sshd.wrong_hosts)
    error = await refusal(mirror(tmp_path, ssh_url(sshd, repository), credentials))
    assert error.code == "host-unknown"
    assert "knownHostsFile" in error.message


async def test_ssh_to_a_host_that_is_not_known_at_all(
    tmp_path: Path, sshd: SshServer, repository: Repository
) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    credentials = with_key(sshd, sshd.key, nobody)
    error = await refusal(mirror(tmp_path, ssh_url(sshd, repository), credentials))
    assert error.code == "host-unknown"


async def test_ssh_to_a_repository_that_is_not_there(
    tmp_path: Path, sshd: SshServer, repository: Repository
) -> None:
    credentials = with_key(sshd, sshd.key, sshd.known_hosts)
    url = ssh_url(sshd, repository).replace("web.git", "nothing.git")
    error = await refusal(mirror(tmp_path, url, credentials))
    assert error.code == "remote-failed"
