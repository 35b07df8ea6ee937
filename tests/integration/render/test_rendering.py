"""What a commit renders to, and what is refused by name."""

from __future__ import annotations

import orjson
import pytest

from engine.objects.redact import Redactor
from engine.ports import Owner, Rendered, RenderRefused
from engine.render.confine import Confinement, Limits
from engine.render.rendering import Rendering
from engine.resources.model import Render
from tests.fakes import MemoryTree

pytestmark = pytest.mark.anyio
OWNER = Owner("log", "default", "web")
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: b}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
AUTO = Render()


@pytest.fixture(scope="module")
def rendering() -> Rendering:
    return Rendering(Redactor(b"k" * 32, "test"), allow_unconfined=True)


async def refusal(rendering: Rendering, tree: MemoryTree, path: str = "app") -> RenderRefused:
    with pytest.raises(RenderRefused) as caught:
        await rendering.render(tree, path, AUTO, OWNER)
    return caught.value


def names(rendered: Rendered) -> list[str]:
    return [desired.ref.name for desired in rendered.objects]


async def test_plain_manifests_are_found_recursively_and_hidden_ones_are_not(
    rendering: Rendering,
) -> None:
    tree = MemoryTree(
        {
            "app/a.yaml": CONFIG % "a",
            "app/deep/b.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}',
            "app/.hidden/c.yaml": CONFIG % "c",
            "app/notes.txt": "no manifest",
            "other/d.yaml": CONFIG % "d",
        }
    )
    assert names(await rendering.render(tree, "app", AUTO, OWNER)) == ["a", "b"]


async def test_lists_are_flattened(rendering: Rendering) -> None:
    items = "".join("- " + (CONFIG % n).replace("\n", "\n  ").rstrip(" ") for n in ("a", "b"))
    tree = MemoryTree({"app/l.yaml": f"apiVersion: v1\nkind: List\nitems:\n{items}"})
    assert names(await rendering.render(tree, "app", AUTO, OWNER)) == ["a", "b"]


async def test_a_base_beside_the_path_is_rendered_and_touches_the_inputs(
    rendering: Rendering,
) -> None:
    files = {
        "overlays/dev/kustomization.yaml": "namespace: dev\nresources: [../../base]\n",
        "base/kustomization.yaml": "resources: [c.yaml]\n",
        "base/c.yaml": CONFIG % "c",
        "unrelated.yaml": CONFIG % "x",
    }
    before = await rendering.inputs(MemoryTree(files), "overlays/dev", AUTO, OWNER)
    rendered = await rendering.render(MemoryTree(files), "overlays/dev", AUTO, OWNER)
    assert [d.ref.namespace for d in rendered.objects] == ["dev"]
    assert rendered.inputs == before
    elsewhere = MemoryTree(files | {"unrelated.yaml": CONFIG % "y"})
    assert await rendering.inputs(elsewhere, "overlays/dev", AUTO, OWNER) == before
    touched = MemoryTree(files | {"base/c.yaml": CONFIG % "z"})
    assert await rendering.inputs(touched, "overlays/dev", AUTO, OWNER) != before


async def test_generated_objects_depend_on_the_files_that_they_come_from(
    rendering: Rendering,
) -> None:
    files = {
        "app/kustomization.yaml": "configMapGenerator:\n- name: g\n  files: [key=x.conf]\n"
        "  envs: [e.env]\n",
        "app/x.conf": "one",
        "app/e.env": "A=1\n",
    }
    rendered = await rendering.render(MemoryTree(files), "app", AUTO, OWNER)
    assert len(rendered.objects) == 1
    other = MemoryTree(files | {"app/x.conf": "two"})
    assert await rendering.inputs(other, "app", AUTO, OWNER) != rendered.inputs


async def test_secret_values_are_in_no_body_and_whole_only_in_memory(rendering: Rendering) -> None:
    rendered = await rendering.render(MemoryTree({"app/s.yaml": SECRET}), "app", AUTO, OWNER)
    everything = b"".join(rendered.bodies.values())
    assert b"hunter2" not in everything
    assert b"aHVudGVyMg" not in everything
    (desired,) = rendered.objects
    assert desired.secret
    assert rendered.secrets[desired.ref.identity]["data"] == {"password": "aHVudGVyMg=="}


async def test_every_object_carries_its_owner(rendering: Rendering) -> None:
    rendered = await rendering.render(MemoryTree({"app/a.yaml": CONFIG % "a"}), "app", AUTO, OWNER)
    body = orjson.loads(rendered.bodies[rendered.objects[0].digest])
    assert body["metadata"]["annotations"]["trueup.dev/owner"] == "log/default/web"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"other/a.yaml": CONFIG % "a"}, "path-missing"),
        ({"app/readme.txt": "x"}, "empty"),
        ({"app/a.yaml": "# nothing\n"}, "empty"),
        ({"app/a.yaml": (CONFIG % "a") + "---\n" + (CONFIG % "a")}, "duplicate-object"),
        ({"app/kustomization.yaml": "resources: [https://example.com/x]\n"}, "remote-base"),
        ({"app/kustomization.yaml": "resources: ['github.com/a/b?ref=x']\n"}, "remote-base"),
        ({"app/kustomization.yaml": "resources: ['file:///etc']\n"}, "remote-base"),
        ({"app/kustomization.yaml": "resources: [/etc/passwd]\n"}, "absolute-path"),
        ({"app/kustomization.yaml": "resources: [../../x]\n"}, "outside-repository"),
        ({"app/kustomization.yaml": "resources: [gone.yaml]\n"}, "file-missing"),
        ({"app/kustomization.yaml": "helmCharts: [{name: x}]\n"}, "helm-in-kustomize"),
        (
            {
                "app/kustomization.yaml": "transformers: [t.yaml]\n",
                "app/t.yaml": "apiVersion: x/v1\nkind: T\nmetadata:\n  name: t\n  annotations:\n"
                "    config.kubernetes.io/function: |\n      exec: {path: /bin/sh}\n",
            },
            "plugin",
        ),
    ],
)
async def test_what_cannot_or_must_not_be_rendered_is_refused_by_name(
    rendering: Rendering, files: dict[str, str | bytes], code: str
) -> None:
    assert (await refusal(rendering, MemoryTree(files))).code == code


@pytest.mark.parametrize("kind", ["symlink", "submodule"])
async def test_links_are_refused_where_they_are_needed(rendering: Rendering, kind: str) -> None:
    tree = MemoryTree({"app/a.yaml": CONFIG % "a"}, {"app/b.yaml": kind})
    refused = await refusal(rendering, tree)
    assert (refused.code, refused.file) == (kind, "app/b.yaml")


async def test_an_unparsable_file_is_named_with_document_and_line(rendering: Rendering) -> None:
    tree = MemoryTree({"app/a.yaml": (CONFIG % "a") + "---\na: [1\n"})
    refused = await refusal(rendering, tree)
    assert refused.file == "app/a.yaml"
    assert refused.line >= 5


async def test_a_message_of_kustomize_names_no_path_of_this_machine(rendering: Rendering) -> None:
    tree = MemoryTree({"app/kustomization.yaml": "resources: [a.yaml]\n", "app/a.yaml": "a: 1\n"})
    refused = await refusal(rendering, tree)
    assert refused.code == "render-failed"
    assert "trueup-render" not in refused.message


async def test_a_render_that_takes_too_long_is_killed_whole() -> None:
    from pathlib import Path

    confinement = Confinement(Limits(seconds=0.3), allow_unconfined=True)
    with pytest.raises(RenderRefused) as caught:
        await confinement.run(["/bin/sh", "-c", "while :; do :; done"], Path("/"))
    assert caught.value.code == "timeout"


async def test_a_render_that_prints_too_much_is_stopped() -> None:
    from pathlib import Path

    confinement = Confinement(Limits(output=1000), allow_unconfined=True)
    with pytest.raises(RenderRefused) as caught:
        await confinement.run(["/bin/sh", "-c", "while :; do echo x; done"], Path("/"))
    assert caught.value.code == "too-large"
