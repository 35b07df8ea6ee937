"""Which files of a commit are read as declared resources, and what is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from engine.control.configuration import ConfigurationLimits, Unreadable, read_configuration
from engine.ports import RenderRefused, TreeEntry
from engine.resources.parse import Refused

pytestmark = pytest.mark.anyio


def cluster(name: str) -> str:
    return (
        f"apiVersion: trueup.dev/v1\nkind: Cluster\nmetadata: {{name: {name}}}\n"
        "spec: {inCluster: true}\n"
    )


_BOMB = "".join(
    f"{chr(99 + n)}: &{chr(99 + n)} [{', '.join(['*' + chr(98 + n)] * 9)}]\n" for n in range(12)
)


class FakeTree:
    """Files by path; a tuple is an entry of another kind."""

    commit = "5ca1ab1e" * 5

    def __init__(self, files: Mapping[str, str | tuple[str]], failure: str = "") -> None:
        self.files, self.failure = files, failure

    async def entries(self, path: str) -> Mapping[str, TreeEntry]:
        if self.failure:
            raise RenderRefused(self.failure, "no")
        prefix = f"{path}/" if path else ""
        found: dict[str, TreeEntry] = {}
        for place, content in self.files.items():
            if not place.startswith(prefix):
                continue
            name, slash, _ = place.removeprefix(prefix).partition("/")
            kind = "tree" if slash else content[0] if isinstance(content, tuple) else "file"
            found[name] = TreeEntry(kind, place)
        if not found:
            raise RenderRefused("path-missing", "no")
        return found

    async def entry(self, path: str) -> TreeEntry | None:
        raise NotImplementedError

    async def read(self, ids: Collection[str]) -> Mapping[str, bytes]:
        return {name: str(self.files[name]).encode() for name in ids}


async def names(files: Mapping[str, str | tuple[str]], path: str = ".") -> list[str]:
    found = await read_configuration(FakeTree(files), path)
    return [f"{item.file}:{item.line} {item.resource.metadata.name}" for item in found]


async def test_every_yaml_file_below_the_path_is_read() -> None:
    files = {
        "all/b.yaml": f"{cluster('b')}---\n{cluster('c')}",
        "all/deep/er/a.yml": cluster("a"),
        "all/README.md": "not: [yaml",
        "all/.hidden.yaml": "nothing of ours",
        "all/.github/workflow.yaml": "nothing of ours",
        "elsewhere/x.yaml": "nothing of ours",
    }
    assert await names(files, "all") == [
        "all/b.yaml:1 b",
        "all/b.yaml:6 c",
        "all/deep/er/a.yml:1 a",
    ]
    assert await names(files, "all/deep") == ["all/deep/er/a.yml:1 a"]
    assert await names(files, "missing") == []


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.yaml": cluster("a"), "b": ("symlink",)}, "b: is a symlink"),
        ({"a.yaml": cluster("a"), "sub": ("submodule",)}, "sub: is a submodule"),
        ({"a.yaml": cluster("a"), "b/c.yaml": cluster("a")}, "the first is at a.yaml:1"),
        ({"a\x1b[2J.yaml": cluster("a")}, "control character"),
        ({"a.yaml": "kind: Deployment"}, "a.yaml:1: kind 'Deployment' is no kind of Trueup's"),
        ({"a.yaml": "a: &a [1, 2]\na: 3"}, "a.yaml:2"),
        ({"a.yaml": "a: " + "[" * 40_000}, "a.yaml"),
        ({"a.yaml": "a: &a [x, x]\nb: &b [*a, *a]\n" + _BOMB}, "a.yaml"),
        ({"a.yaml": "a: 1\nb: \x00"}, "a.yaml:2"),
        ({"a.yaml": cluster("'\\e[2J'")}, "a.yaml:3: metadata.name"),
        ({f"{'x/' * 40}a.yaml": cluster("a")}, "too deep"),
        ({f"{n}.yaml": cluster(f"c{n}") for n in range(11)}, "one file more than 10"),
        ({"a.yaml": "---\n".join(cluster(f"c{n}") for n in range(16))}, "more than 15 resources"),
    ],
)
async def test_what_cannot_be_taken_is_named(
    files: Mapping[str, str | tuple[str]], said: str
) -> None:
    limits = ConfigurationLimits(files=10, resources=15)
    with pytest.raises(Refused) as refused:
        await read_configuration(FakeTree(files), ".", limits)
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)


async def test_what_aliases_write_out_counts() -> None:
    names = ", ".join(["*n"] * 50)
    bomb = (
        "apiVersion: trueup.dev/v1\nkind: Application\nmetadata: {name: a}\nspec:\n"
        f"  source: {{repository: r, path: &n {'p' * 900}}}\n  targets: {{clusters: [c]}}\n"
    )
    small = ConfigurationLimits(specification=500)
    with pytest.raises(Refused) as refused:
        await read_configuration(FakeTree({"a.yaml": bomb}), ".", small)
    assert "more than 500 bytes" in str(refused.value)
    with pytest.raises(Refused):
        await read_configuration(
            FakeTree({"a.yaml": bomb.replace("[c]", f"[{names}]")}), ".", ConfigurationLimits()
        )


@pytest.mark.parametrize("code", ["mirror-broken", "commit-missing"])
async def test_a_mirror_that_cannot_be_read_says_nothing_about_the_commit(code: str) -> None:
    with pytest.raises(Unreadable):
        await read_configuration(FakeTree({}, code), ".")
