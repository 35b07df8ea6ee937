"""Mirrors: what a ref names, what is new, and that nothing in a repository is ever run."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import anyio
import pygit2
import pytest
from pygit2.enums import FileMode

from engine.ports import RenderRefused
from engine.resources.model import Credentials, GitRef
from engine.sources.connection import FetchLimits
from engine.sources.failure import SourceError
from engine.sources.mirror import Mirror, Mirrors, MirrorSettings
from engine.sources.tree import ReadLimits
from tests.remotes import Remote, Served
from tests.repositories import Repository

pytestmark = pytest.mark.anyio
DEFAULT, MAIN = GitRef(), GitRef(branch="main")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "git" / "web.git")


def settings_for(tmp_path: Path, **more: object) -> MirrorSettings:
    known = {
        "folder": tmp_path / "mirrors",
        "repository_roots": (tmp_path / "git",),
        "secret_roots": (tmp_path / "secrets",),
        "allow_http": True,
    }
    return MirrorSettings(**{**known, **more})  # type: ignore[arg-type]


@pytest.fixture
def mirror(tmp_path: Path, repository: Repository) -> Mirror:
    return Mirrors(settings_for(tmp_path)).open(repository.url)


async def refusal(mirror: Mirror, ref: GitRef = DEFAULT) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await mirror.fetch(ref)
    return caught.value


async def test_the_default_branch_is_followed_where_no_ref_is_given(
    mirror: Mirror, repository: Repository
) -> None:
    first = repository.commit({"a": "1"})
    tip = await mirror.fetch(DEFAULT)
    assert (tip.ref, tip.commit, tip.rebuilt) == ("refs/heads/main", first, False)
    assert await mirror.resolve(DEFAULT) == first
    second = repository.commit({"a": "2"})
    assert await mirror.resolve(DEFAULT) == first, "the mirror knows what was fetched"
    assert (await mirror.fetch(DEFAULT)).commit == second


async def test_branches_tags_and_commits_can_be_followed(
    mirror: Mirror, repository: Repository
) -> None:
    first = repository.commit({"a": "1"})
    second = repository.commit({"a": "2"})
    repository.move("old", first)
    repository.tag("v1", first)
    repository.tag("light", second, annotated=False)
    assert (await mirror.fetch(MAIN)).commit == second
    assert (await mirror.fetch(GitRef(branch="old"))).commit == first
    tip = await mirror.fetch(GitRef(tag="v1"))
    assert (tip.ref, tip.commit) == ("refs/tags/v1", first), "an annotated tag's commit"
    assert (await mirror.fetch(GitRef(tag="light"))).commit == second
    assert (await mirror.fetch(GitRef(commit=first))).commit == first
    repository.tag("v1", second)
    assert (await mirror.fetch(GitRef(tag="v1"))).commit == second, "a tag that moved"


async def test_a_commit_that_no_branch_holds_any_more_is_found_or_refused(
    mirror: Mirror, repository: Repository
) -> None:
    first = repository.commit({"a": "1"})
    assert (await mirror.fetch(GitRef(commit=first))).ref == first
    repository.delete("refs/heads/main")
    assert (await mirror.fetch(GitRef(commit=first))).commit == first, "it is here already"
    assert (await refusal(mirror, GitRef(commit="1" * 40))).code == "ref-missing"


async def test_only_what_is_followed_gets_a_ref(mirror: Mirror, repository: Repository) -> None:
    commit = repository.commit({"a": "1"})
    repository.commit({"b": "2"}, branch="other", parents=[])
    repository.tag("v1", commit)
    await mirror.fetch(MAIN)
    refs = pygit2.Repository(str(mirror.folder)).references
    assert [str(refs[name].target) for name in refs] == [commit]


@pytest.mark.parametrize(
    "ref",
    [
        GitRef(branch="gone"),
        GitRef(tag="gone"),
        GitRef(branch="a..b"),
        GitRef(branch="*"),
        GitRef(branch="a:refs/heads/b"),
        GitRef(branch=""),
    ],
)
async def test_a_ref_that_is_not_there_is_refused(
    mirror: Mirror, repository: Repository, ref: GitRef
) -> None:
    repository.commit({"a": "1"})
    assert (await refusal(mirror, ref)).code == "ref-missing"


async def test_a_repository_without_commits_has_no_default_branch(
    mirror: Mirror, repository: Repository
) -> None:
    assert repository.url
    assert (await refusal(mirror)).code == "ref-missing"


async def test_a_deleted_branch_is_refused_and_its_commits_stay_readable(
    mirror: Mirror, repository: Repository
) -> None:
    commit = repository.commit({"a": "1"})
    await mirror.fetch(MAIN)
    repository.delete("refs/heads/main")
    assert (await refusal(mirror, MAIN)).code == "ref-missing"
    assert await mirror.resolve(MAIN) is None
    assert set(await mirror.tree(commit).entries("")) == {"a"}


async def test_a_branch_may_take_the_place_of_a_folder_of_branches(
    mirror: Mirror, repository: Repository
) -> None:
    first = repository.commit({"a": "1"}, branch="a")
    assert (await mirror.fetch(GitRef(branch="a"))).commit == first
    repository.delete("refs/heads/a")
    second = repository.commit({"a": "2"}, branch="a/b")
    assert (await mirror.fetch(GitRef(branch="a/b"))).commit == second


async def test_new_commits_are_told_the_oldest_first_and_the_newest_of_too_many(
    mirror: Mirror, repository: Repository
) -> None:
    commits = [repository.commit({"a": str(number)}, f"number {number}") for number in range(6)]
    await mirror.fetch(MAIN)
    new = await mirror.new_commits(commits[1], commits[5], 100)
    assert [info.commit for info in new.commits] == commits[2:]
    assert new.commits[0].parents == (commits[1],)
    assert new.commits[0].subject == "number 2"
    new = await mirror.new_commits(commits[1], commits[5], 2)
    assert ([info.commit for info in new.commits], new.skipped) == (commits[4:], 2)
    new = await mirror.new_commits(None, commits[5], 100)
    assert ([info.commit for info in new.commits], new.skipped) == ([commits[5]], 0)


async def test_both_sides_of_a_merge_are_new_and_parents_come_first(
    mirror: Mirror, repository: Repository
) -> None:
    base = repository.commit({"a": "1"})
    side = repository.commit({"a": "1", "b": "2"}, branch="side", parents=[base])
    ahead = repository.commit({"a": "2"})
    merge = repository.commit({"a": "2", "b": "2"}, parents=[ahead, side])
    await mirror.fetch(MAIN)
    new = [info.commit for info in (await mirror.new_commits(base, merge, 100)).commits]
    assert new[-1] == merge
    assert set(new[:-1]) == {side, ahead}


async def test_ancestry_is_known_and_a_foreign_commit_is_no_ancestor(
    mirror: Mirror, repository: Repository
) -> None:
    first, second = repository.commit({"a": "1"}), repository.commit({"a": "2"})
    await mirror.fetch(MAIN)
    assert await mirror.is_ancestor(first, second)
    assert await mirror.is_ancestor(second, second)
    assert not await mirror.is_ancestor(second, first)
    assert not await mirror.is_ancestor("1" * 40, second)


async def test_a_tree_is_read_without_a_checkout(mirror: Mirror, repository: Repository) -> None:
    commit = repository.commit(
        {
            "a.txt": "one",
            "deep/er/b.txt": b"\x00\xff",
            "run.sh": (FileMode.BLOB_EXECUTABLE, "#!/bin/sh"),
            "link": (FileMode.LINK, "/etc/passwd"),
            "module": (FileMode.COMMIT, "1" * 40),
        }
    )
    await mirror.fetch(MAIN)
    tree = mirror.tree(commit)
    kinds = {name: entry.kind for name, entry in (await tree.entries("")).items()}
    assert kinds == {
        "a.txt": "file",
        "deep": "tree",
        "run.sh": "executable",
        "link": "symlink",
        "module": "submodule",
    }
    entry = await tree.entry("deep/../deep/./er/b.txt")
    assert entry is not None
    assert entry.size == 2
    assert await tree.read([entry.id]) == {entry.id: b"\x00\xff"}
    for nothing in ("deep/none", "none/at/all", "a.txt/b", "link/passwd"):
        assert await tree.entry(nothing) is None
    root = await tree.entry(".")
    assert root is not None
    assert root.kind == "tree"


@pytest.mark.parametrize("path", ["..", "a/../../b", "/etc", "a\x00b", "x" * 5000])
async def test_a_tree_is_never_left(mirror: Mirror, repository: Repository, path: str) -> None:
    commit = repository.commit({"a/b": "1"})
    await mirror.fetch(MAIN)
    for read in (mirror.tree(commit).entries, mirror.tree(commit).entry):
        with pytest.raises(RenderRefused) as caught:
            await read(path)
        assert caught.value.code == "path-refused"


async def test_files_and_folders_over_the_limits_are_refused_before_they_are_read(
    tmp_path: Path, repository: Repository
) -> None:
    commit = repository.commit({"small": "x" * 10, "large": "y" * 11, "many/a": "", "many/b": ""})
    limits = ReadLimits(file=10, read=15, entries=3)
    mirror = Mirrors(settings_for(tmp_path, read=limits)).open(repository.url)
    await mirror.fetch(MAIN)
    entries = await mirror.tree(commit).entries("")
    assert (await mirror.tree(commit).read([entries["small"].id])) != {}
    with pytest.raises(RenderRefused) as caught:
        await mirror.tree(commit).read([entries["large"].id])
    assert caught.value.code == "too-large"
    tight = Mirrors(settings_for(tmp_path, read=ReadLimits(entries=2))).open(repository.url)
    with pytest.raises(RenderRefused) as caught:
        await tight.tree(commit).entries("")
    assert caught.value.code == "too-large"


async def test_nothing_that_a_repository_holds_is_run_or_checked_out(
    tmp_path: Path, repository: Repository
) -> None:
    ran = tmp_path / "ran"
    script = f"#!/bin/sh\ntouch {ran}\n"
    for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "post-update"):
        place = repository.folder / "hooks" / hook
        place.parent.mkdir(exist_ok=True)
        place.write_text(script)
        place.chmod(0o755)
    config = f'[filter "evil"]\n\tsmudge = touch {ran}\n\tclean = touch {ran}\n\trequired = true\n'
    with (repository.folder / "config").open("a") as file:
        file.write(config + f"[core]\n\tfsmonitor = touch {ran}\n\tsshCommand = touch {ran}\n")
    commit = repository.commit(
        {
            ".gitattributes": "* filter=evil\n",
            ".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {tmp_path}/other\n',
            "m": (FileMode.COMMIT, "1" * 40),
            "a.yaml": "a: 1\r\n",
        }
    )
    mirror = Mirrors(settings_for(tmp_path)).open(repository.url)
    await mirror.fetch(MAIN)
    tree = mirror.tree(commit)
    entry = (await tree.entries(""))["a.yaml"]
    assert (await tree.read([entry.id]))[entry.id] == b"a: 1\r\n"
    assert not ran.exists()
    names = {path.name for path in mirror.folder.rglob("*")}
    assert not names & {"a.yaml", "modules", ".gitmodules"}


@pytest.mark.parametrize("damage", ["head", "objects", "refs", "packs"])
async def test_a_damaged_mirror_is_cloned_again_and_that_is_said(
    mirror: Mirror, repository: Repository, damage: str
) -> None:
    commit = repository.commit({"a": "1"})
    await mirror.fetch(MAIN)
    if damage == "head":
        (mirror.folder / "HEAD").write_text("nonsense")
        (mirror.folder / "config").write_text("[[[")
    elif damage == "objects":
        shutil.rmtree(mirror.folder / "objects")
    elif damage == "refs":
        for path in (mirror.folder / "refs" / "trueup").rglob("*"):
            if path.is_file():
                path.write_text("nonsense\n")
    else:
        for path in (mirror.folder / "objects" / "pack").iterdir():
            path.chmod(0o600)
            path.write_bytes(b"nonsense")
    tip = await mirror.fetch(MAIN)
    assert (tip.commit, tip.rebuilt) == (commit, True)
    assert set(await mirror.tree(commit).entries("")) == {"a"}
    assert not (await mirror.fetch(MAIN)).rebuilt


async def test_damage_that_only_a_read_finds_is_mended_at_the_next_fetch(
    mirror: Mirror, repository: Repository
) -> None:
    commit = repository.commit({"a": "1", "b": "2"})
    await mirror.fetch(MAIN)
    entries = await mirror.tree(commit).entries("")
    shutil.rmtree(mirror.folder / "objects" / "pack")
    with pytest.raises(RenderRefused) as caught:
        await mirror.tree(commit).read([entries["a"].id])
    assert caught.value.code == "mirror-broken"
    assert str(mirror.folder) not in caught.value.message
    assert (await mirror.fetch(MAIN)).rebuilt
    assert set(await mirror.tree(commit).entries("")) == {"a", "b"}


async def test_many_small_packs_become_one_and_everything_stays_readable(
    tmp_path: Path, repository: Repository
) -> None:
    mirror = Mirrors(settings_for(tmp_path, packs=3)).open(repository.url)
    commits = []
    for number in range(6):
        commits.append(repository.commit({"a": str(number)}))
        await mirror.fetch(MAIN)
    orphan = commits[-1]
    repository.move("main", commits[0])
    await mirror.fetch(MAIN)
    packs = list((mirror.folder / "objects" / "pack").glob("*.pack"))
    assert len(packs) <= 4
    for commit in (*commits, orphan):
        assert set(await mirror.tree(commit).entries("")) == {"a"}


async def test_fetches_and_reads_at_the_same_time_get_along(
    mirror: Mirror, repository: Repository
) -> None:
    first = repository.commit({"a": "1"})
    await mirror.fetch(MAIN)
    seen: list[str] = []

    async def fetch() -> None:
        seen.append((await mirror.fetch(MAIN)).commit)

    async def read() -> None:
        seen.append(next(iter(await mirror.tree(first).entries(""))))

    async with anyio.create_task_group() as group:
        for number in range(4):
            repository.commit({"a": str(number)}, branch=f"b{number}")
            group.start_soon(fetch)
            group.start_soon(read)
    assert sorted(seen) == sorted([first, "a"] * 4)


async def test_a_repository_over_the_limit_is_refused(
    tmp_path: Path, repository: Repository
) -> None:
    repository.commit({"a": bytes(range(256)) * 40})
    limits = FetchLimits(bytes=100)
    mirror = Mirrors(settings_for(tmp_path, fetch=limits)).open(repository.url)
    assert (await refusal(mirror)).code == "too-large"
    many = Mirrors(settings_for(tmp_path, fetch=FetchLimits(objects=2))).open(repository.url)
    assert (await refusal(many)).code == "too-large"


async def test_a_fetch_that_takes_too_long_is_stopped(
    tmp_path: Path, repository: Repository
) -> None:
    repository.commit({"a": "1"})
    mirror = Mirrors(settings_for(tmp_path, fetch=FetchLimits(total=0.0))).open(repository.url)
    assert (await refusal(mirror)).code == "timeout"


async def test_mirrors_are_shared_only_by_those_with_the_same_credentials(tmp_path: Path) -> None:
    mirrors = Mirrors(settings_for(tmp_path))
    mine = mirrors.open("https://example.com/a", Credentials(token_file="/secrets/a"))
    assert mirrors.open("https://example.com/a", Credentials(token_file="/secrets/a")) is mine
    assert mirrors.open("https://example.com/a", Credentials(token_file="/secrets/b")) is not mine
    assert mirrors.open("https://example.com/a") is not mine


async def test_over_the_network_only_what_is_followed_is_fetched(
    tmp_path: Path, repository: Repository
) -> None:
    first = repository.commit({"a": "1"})
    other = repository.commit({"b": "2"}, branch="other", parents=[])
    handler = type("Handler", (Served,), {"root": tmp_path / "git"})
    with Remote(200, {}, handler).serving() as remote:
        url = remote.url.replace("/repository", "/web.git")
        mirror = Mirrors(settings_for(tmp_path)).open(url)
        assert (await mirror.fetch(MAIN)).commit == first
        second = repository.commit({"a": "2"})
        assert (await mirror.fetch(DEFAULT)).commit == second
        assert set(await mirror.tree(second).entries("")) == {"a"}
        assert (await refusal(mirror, GitRef(branch="gone"))).code == "ref-missing"
        missing = Mirrors(settings_for(tmp_path)).open(url.replace("web", "nothing"))
        assert (await refusal(missing)).code == "remote-failed"
        with pytest.raises(RenderRefused) as caught:
            await mirror.tree(other).entries("")
        assert caught.value.code == "commit-missing"
        assert (await mirror.fetch(GitRef(commit=other))).commit == other
    (tmp_path / "git").rename(tmp_path / "elsewhere")
    assert set(await mirror.tree(second).entries("")) == {"a"}


@pytest.mark.parametrize(
    ("status", "code"), [(401, "auth-failed"), (403, "auth-failed"), (500, "unreachable")]
)
async def test_what_a_remote_answers_becomes_a_code(tmp_path: Path, status: int, code: str) -> None:
    headers = {"WWW-Authenticate": 'Basic realm="x"'} if status == 401 else {}
    with Remote(status, headers).serving() as remote:
        error = await refusal(Mirrors(settings_for(tmp_path)).open(remote.url))
    assert error.code == code


async def test_a_remote_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    mirror = Mirrors(settings_for(tmp_path)).open(f"http://127.0.0.1:{port}/a")
    assert (await refusal(mirror)).code == "unreachable"


async def test_a_remote_that_says_nothing_times_out(tmp_path: Path) -> None:
    limits = FetchLimits(connect=0.5, idle=0.5)
    with Remote(0, {}).serving() as remote:
        error = await refusal(Mirrors(settings_for(tmp_path, fetch=limits)).open(remote.url))
    assert error.code == "timeout"


async def test_credentials_are_not_shown_to_another_host_nor_in_the_clear(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "token").write_text("canary")
    credentials = Credentials(token_file=str(tmp_path / "secrets" / "token"))
    challenge = {"WWW-Authenticate": 'Basic realm="x"'}
    with Remote(401, challenge).serving() as other:
        elsewhere = {"Location": other.url.replace("127.0.0.1", "localhost") + "/info/refs"}
        with Remote(302, elsewhere).serving() as first:
            mirror = Mirrors(settings_for(tmp_path)).open(first.url, credentials)
            error = await refusal(mirror)
            direct = await refusal(Mirrors(settings_for(tmp_path)).open(other.url, credentials))
        assert set(first.shown + other.shown) == {""}
    assert "canary" not in error.message + direct.message
    assert direct.code == "auth-failed"


async def test_a_remote_that_crashes_the_reader_crashes_no_more_than_its_fetch(
    tmp_path: Path, repository: Repository
) -> None:
    # libgit2 1.9 follows a null pointer for a redirect that drops the query.
    with Remote(302, {"Location": "/elsewhere/info/refs"}).serving() as remote:
        mirrors = Mirrors(settings_for(tmp_path))
        error = await refusal(mirrors.open(remote.url))
        assert error.code == "remote-failed"
        repository.commit({"a": "1"})
        assert (await mirrors.open(repository.url).fetch(MAIN)).ref == "refs/heads/main"


async def test_what_a_killed_fetch_left_behind_is_no_hindrance(
    tmp_path: Path, mirror: Mirror, repository: Repository
) -> None:
    repository.commit({"a": "1"})
    await mirror.fetch(MAIN)
    refs = mirror.folder / "refs" / "trueup" / "followed"
    (ref,) = refs.iterdir()
    (refs / f"{ref.name}.lock").write_text("")
    (mirror.folder / "config.lock").write_text("")
    part = mirror.folder / "objects" / "pack" / "pack_git2_abc"
    part.write_bytes(b"PACK")
    second = repository.commit({"a": "2"})
    again = Mirrors(settings_for(tmp_path)).open(repository.url)
    tip = await again.fetch(MAIN)
    assert (tip.commit, tip.rebuilt) == (second, False)
    assert not part.exists()


async def test_a_cancelled_fetch_ends(tmp_path: Path) -> None:
    limits = FetchLimits(connect=1.0, idle=1.0)
    with Remote(0, {}).serving() as remote:
        mirror = Mirrors(settings_for(tmp_path, fetch=limits)).open(remote.url)
        async with anyio.create_task_group() as group:
            group.start_soon(mirror.fetch, DEFAULT)
            with anyio.fail_after(20):
                while not remote.shown:  # noqa: ASYNC110 - a thread says it
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        with anyio.fail_after(5):
            assert (await refusal(mirror)).code == "timeout", "and the mirror is free again"
