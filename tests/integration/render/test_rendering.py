"""What a commit renders to, and what is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from engine.objects.redact import Redactor
from engine.ports import Owner, Rendered, RenderRefused
from engine.render.files import RenderLimits
from engine.render.rendering import Rendering
from engine.resources.model import Render
from tests.fakes import MemoryTree

pytestmark = pytest.mark.anyio
OWNER = Owner("log", "default", "web")
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: b}\n"
SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: hunter2}\n"
AUTO, PLAIN, KUSTOMIZE = Render(), Render("plain"), Render("kustomize")
REDACTOR = Redactor(b"k" * 32, "test")


@pytest.fixture(scope="module")
def rendering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rendering]:
    folder = tmp_path_factory.mktemp("rendering") / "render"
    yield Rendering(REDACTOR, allow_unconfined=True, folder=folder)
    assert [path.name for path in folder.iterdir()] == ["kubectl"], "every render cleans up"


async def refusal(
    rendering: Rendering, tree: MemoryTree, path: str = "app", render: Render = AUTO
) -> RenderRefused:
    with pytest.raises(RenderRefused) as caught:
        await rendering.render(tree, path, render, OWNER)
    return caught.value


def names(rendered: Rendered) -> list[str]:
    return [desired.ref.name for desired in rendered.objects]


def kustomization(text: str, **files: str | bytes) -> MemoryTree:
    placed = {f"app/{name.replace('_', '.')}": body for name, body in files.items()}
    return MemoryTree({"app/kustomization.yaml": text, **placed})


async def test_plain_manifests_are_found_recursively_and_hidden_ones_are_not(
    rendering: Rendering,
) -> None:
    tree = MemoryTree(
        {
            "app/a.yaml": CONFIG % "a",
            "app/deep/b.json": '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}',
            "app/.hidden/c.yaml": CONFIG % "c",
            "app/.d.yaml": CONFIG % "d",
            "app/notes.txt": "no manifest",
            "other/d.yaml": CONFIG % "d",
        }
    )
    assert names(await rendering.render(tree, "app", AUTO, OWNER)) == ["a", "b"]


async def test_a_kustomization_is_no_object_where_plain_is_asked_for(rendering: Rendering) -> None:
    text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Component\n"
    files = {"app/a.yaml": CONFIG % "a", "app/kustomization.yaml": "resources: [a.yaml]\n"}
    tree = MemoryTree(files | {"app/x.yaml": text})
    assert names(await rendering.render(tree, "app", PLAIN, OWNER)) == ["a"]


async def test_lists_are_flattened_also_typed_ones(rendering: Rendering) -> None:
    items = "".join("- " + (CONFIG % n).replace("\n", "\n  ").rstrip(" ") for n in ("a", "b"))
    typed = "apiVersion: v1\nkind: ConfigMapList\nitems:\n- metadata: {name: c}\n"
    tree = MemoryTree(
        {"app/l.yaml": f"apiVersion: v1\nkind: List\nitems:\n{items}", "app/m.yaml": typed}
    )
    rendered = await rendering.render(tree, "app", AUTO, OWNER)
    assert names(rendered) == ["a", "b", "c"]
    assert {desired.ref.kind for desired in rendered.objects} == {"ConfigMap"}


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
    elsewhere = MemoryTree(files | {"unrelated.yaml": CONFIG % "y"}, commit="d" * 40)
    assert await rendering.inputs(elsewhere, "overlays/dev", AUTO, OWNER) == before
    touched = MemoryTree(files | {"base/c.yaml": CONFIG % "z"}, commit="e" * 40)
    assert await rendering.inputs(touched, "overlays/dev", AUTO, OWNER) != before
    other_owner = Owner("log", "default", "other")
    assert await rendering.inputs(MemoryTree(files), "overlays/dev", AUTO, other_owner) != before


async def test_every_way_to_name_a_file_is_followed(rendering: Rendering) -> None:
    files = {
        "app/kustomization.yaml": (
            "resources: [a.yaml]\n"
            "components: [../component]\n"
            "configurations: [config.yaml]\n"
            "patches:\n- path: patch.yaml\n- {target: {kind: ConfigMap, name: a}, path: op.json}\n"
            "patchesStrategicMerge:\n- merge.yaml\n"
            "- |-\n  apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: a}\n"
            "  data: {inline: x}\n"
            "configMapGenerator:\n- {name: g, files: [key=x.conf, y.conf], envs: [e.env]}\n"
            "secretGenerator:\n- {name: s, env: s.env}\n"
            "replacements:\n- path: replacement.yaml\n"
            "transformers: [labels.yaml, more]\n"
            "generators:\n- generator.yaml\n"
            "generatorOptions: {disableNameSuffixHash: true}\n"
        ),
        "app/a.yaml": CONFIG % "a",
        "app/config.yaml": "nameReference: []\n",
        "app/patch.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {p: q}\n",
        "app/op.json": '[{"op": "add", "path": "/data/o", "value": "p"}]',
        "app/merge.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {m: n}\n",
        "app/x.conf": "one",
        "app/y.conf": "two",
        "app/e.env": "A=1\n",
        "app/s.env": "B=2\n",
        "app/replacement.yaml": (
            "source: {kind: ConfigMap, name: g, fieldPath: data.key}\n"
            "targets:\n- {select: {kind: ConfigMap, name: a}, fieldPaths: [data.a]}\n"
        ),
        "app/labels.yaml": (
            "apiVersion: builtin\nkind: LabelTransformer\nmetadata: {name: l}\n"
            "labels: {team: t}\nfieldSpecs: [{path: metadata/labels, create: true}]\n"
        ),
        "app/more/kustomization.yaml": "resources: [t.yaml]\n",
        "app/more/t.yaml": (
            "apiVersion: builtin\nkind: AnnotationsTransformer\nmetadata: {name: x}\n"
            "annotations: {note: n}\nfieldSpecs: [{path: metadata/annotations, create: true}]\n"
        ),
        "app/generator.yaml": (
            "apiVersion: builtin\nkind: ConfigMapGenerator\nmetadata: {name: h}\n"
            "files: [h.conf]\noptions: {disableNameSuffixHash: true}\n"
        ),
        "app/h.conf": "three",
        "component/kustomization.yaml": (
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [c.yaml]\n"
        ),
        "component/c.yaml": CONFIG % "c",
    }
    tree = MemoryTree(files | {"app/unused.yaml": "a: b\n", "other/x.yaml": "a: b\n"})
    rendered = await rendering.render(tree, "app", AUTO, OWNER)
    assert names(rendered) == ["a", "c", "g", "h", "s"]
    body = orjson.loads(rendered.bodies[rendered.objects[0].digest])
    assert body["data"] == {"a": "one", "p": "q", "o": "p", "m": "n", "inline": "x"}
    assert body["metadata"]["labels"]["team"] == "t"
    assert body["metadata"]["annotations"]["note"] == "n"
    for number, path in enumerate(files):
        changed = MemoryTree(tree_files(files, path), commit=f"{number:040x}")
        assert await rendering.inputs(changed, "app", AUTO, OWNER) != rendered.inputs, path


def tree_files(files: dict[str, str], path: str) -> dict[str, str | bytes]:
    """The files with a space more in one of them: the same meaning, another content."""
    return {**files, path: files[path] + "\n"}


async def test_secret_values_are_in_no_body_and_whole_only_in_memory(rendering: Rendering) -> None:
    tree = MemoryTree({"app/s.yaml": SECRET})
    for _ in range(2):
        rendered = await rendering.render(tree, "app", AUTO, OWNER)
        everything = b"".join(rendered.bodies.values())
        assert b"hunter2" not in everything
        assert b"aHVudGVyMg" not in everything
        (desired,) = rendered.objects
        assert desired.secret
        assert rendered.secrets[desired.ref.identity]["data"] == {"password": "aHVudGVyMg=="}
    assert "hunter2" not in repr(vars(rendering)), "no cache holds a whole Secret"


async def test_what_has_no_secret_is_remembered_by_its_inputs(rendering: Rendering) -> None:
    first = await rendering.render(MemoryTree({"app/q.yaml": CONFIG % "q"}), "app", AUTO, OWNER)
    tree = MemoryTree({"app/q.yaml": CONFIG % "q", "readme": "x"}, commit="d" * 40)
    assert await rendering.render(tree, "app", AUTO, OWNER) is first


async def test_every_object_carries_its_owner(rendering: Rendering) -> None:
    rendered = await rendering.render(MemoryTree({"app/a.yaml": CONFIG % "a"}), "app", AUTO, OWNER)
    body = orjson.loads(rendered.bodies[rendered.objects[0].digest])
    assert body["metadata"]["annotations"]["trueup.dev/owner"] == "log/default/web"


def named(text: str) -> dict[str, str]:
    return {"app/a.yaml": text}


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"other/a.yaml": CONFIG % "a"}, "path-missing"),
        ({"app": "a file"}, "path-missing"),
        ({"app/readme.txt": "x"}, "empty"),
        (named("# nothing\n"), "empty"),
        (named("apiVersion: v1\nkind: List\nitems: []\n"), "empty"),
        (named((CONFIG % "a") + "---\n" + (CONFIG % "a")), "duplicate-object"),
        (named("kind: A\nmetadata: {name: a}\n"), "api-version-missing"),
        (named("apiVersion: v1\nmetadata: {name: a}\n"), "kind-missing"),
        (named("apiVersion: v1\nkind: A\nmetadata: {}\n"), "name-missing"),
        (named("apiVersion: v1\nkind: A\nmetadata: {generateName: a-}\n"), "generate-name"),
        (named(CONFIG % "A_B"), "bad-name"),
        (named(CONFIG % "'../x'"), "bad-name"),
        (named(CONFIG % "a, namespace: A"), "bad-namespace"),
        (named(CONFIG % "a, labels: {x: 1}"), "bad-metadata"),
        (named("apiVersion: v1/v1/v1\nkind: A\nmetadata: {name: a}\n"), "bad-api-version"),
        (named("apiVersion: v1\nkind: 'A b'\nmetadata: {name: a}\n"), "bad-kind"),
        (named("apiVersion: v1\nkind: List\nitems: [1]\n"), "bad-list"),
        (named("a: 1\na: 2\n"), "duplicate-key"),
        (
            named("a: &a [x]\n" + "".join(f"b{n}: *a\n" for n in range(3)) + "c: *d\n"),
            "unknown-alias",
        ),
        (named("[" * 5000), "too-deep"),
        (named("---\na: 1\n" * 10_000), "too-many-documents"),
        (named("a: " + "x" * 10_485_760), "file-too-large"),
    ],
)
async def test_what_cannot_be_rendered_is_refused_by_name(
    rendering: Rendering, files: dict[str, str | bytes], code: str
) -> None:
    assert (await refusal(rendering, MemoryTree(files))).code == code


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("resources:\n- a.yaml\n- https://example.com/x\n", "remote-refused", 3),
        ("resources: ['github.com/a/b?ref=x']\n", "remote-refused", 1),
        ("resources: ['git@example.com:a/b']\n", "remote-refused", 1),
        ("resources: ['git::https://example.com/a']\n", "remote-refused", 1),
        ("bases: ['ssh://git@example.com/a']\n", "remote-refused", 1),
        ("components: ['example.com/a.git//b']\n", "remote-refused", 1),
        ("resources: ['file:///etc']\n", "remote-refused", 1),
        ("patches: [{path: 'https://example.com/p'}]\n", "remote-refused", 1),
        ("configMapGenerator:\n- name: x\n  files:\n  - a=http://x/y\n", "remote-refused", 4),
        ("openapi: {path: 'https://example.com/p'}\n", "remote-refused", 1),
        ("resources: [/etc/passwd]\n", "path-refused", 1),
        ("resources: [../../x]\n", "path-refused", 1),
        ("resources: ['~/x']\n", "path-refused", 1),
        ("resources: [../outside.yaml]\n", "path-refused", 1),
        ("configMapGenerator: [{name: x, files: [../../../etc/passwd]}]\n", "path-refused", 1),
        ("configMapGenerator: [{name: x, envs: [/etc/passwd]}]\n", "path-refused", 1),
        ("resources: [gone.yaml]\n", "file-missing", 1),
        ("patches: [{path: folder}]\n", "file-missing", 1),
        ("resources: [folder]\n", "kustomization-missing", 1),
        ("resources: a.yaml\n", "kustomization-invalid", 1),
        ("resources: [{a: b}]\n", "kustomization-invalid", 1),
        ("resources: []\n---\nresources: []\n", "kustomization-invalid", 0),
        ("resources: [a.yaml]\nresources: []\n", "duplicate-key", 2),
        ("helmCharts: [{name: x}]\n", "helm-refused", 1),
        ("resources: []\nhelmChartInflationGenerator: [{chartName: x}]\n", "helm-refused", 2),
        ("generators:\n- |-\n  apiVersion: x.io/v1\n  kind: T\n", "plugin-refused", 2),
        (
            "transformers:\n- |-\n  apiVersion: builtin\n  kind: HelmChartInflationGenerator\n",
            "helm-refused",
            2,
        ),
        ("resources: [linked.yaml]\n", "symlink-refused", 0),
        ("resources: [linked/a.yaml]\n", "symlink-refused", 0),
        ("resources: [module]\n", "submodule-refused", 0),
        # Enormous, but within a file's limit: it must not take the time of its square.
        pytest.param(f"resources: [{'m' * 2_000_000}]\n", "file-missing", 1, id="letters"),
        pytest.param(f"resources: ['{'?' * 2_000_000}x']\n", "file-missing", 1, id="queries"),
    ],
)
async def test_what_a_kustomization_must_not_name_is_refused_with_its_line(
    rendering: Rendering, text: str, code: str, line: int
) -> None:
    files: dict[str, str | bytes] = {
        "app/kustomization.yaml": text,
        "app/a.yaml": CONFIG % "a",
        "app/folder/b.yaml": CONFIG % "b",
        "outside.yaml": CONFIG % "c",
    }
    links = {"app/linked.yaml": "symlink", "app/linked": "symlink", "app/module": "submodule"}
    refused = await refusal(rendering, MemoryTree(files, links))
    assert (refused.code, refused.line) == (code, line)
    assert refused.file.startswith("app/")


@pytest.mark.parametrize("field", ["generators", "transformers", "validators"])
async def test_programs_and_containers_are_never_run(rendering: Rendering, field: str) -> None:
    plugin = (
        "apiVersion: builtin\nkind: T\nmetadata:\n  name: t\n  annotations:\n"
        "    config.kubernetes.io/function: |\n      exec: {path: /bin/sh}\n"
    )
    refused = await refusal(rendering, kustomization(f"{field}: [t.yaml]\n", t_yaml=plugin))
    assert (refused.code, refused.file) == ("plugin-refused", "app/t.yaml")


@pytest.mark.parametrize(
    ("name", "kind"), [("b.yaml", "symlink"), ("folder", "symlink"), ("b", "submodule")]
)
async def test_links_that_may_hide_manifests_are_refused(
    rendering: Rendering, name: str, kind: str
) -> None:
    tree = MemoryTree({"app/a.yaml": CONFIG % "a"}, {f"app/{name}": kind})
    refused = await refusal(rendering, tree)
    assert (refused.code, refused.file) == (f"{kind}-refused", f"app/{name}")


async def test_a_path_that_is_a_link_is_refused(rendering: Rendering) -> None:
    assert (await refusal(rendering, MemoryTree({}, {"app": "symlink"}))).code == "symlink-refused"


@pytest.mark.parametrize("path", ["/app", "../app", "app/../../x", "a\x00b"])
async def test_a_path_that_leaves_the_repository_is_refused(
    rendering: Rendering, path: str
) -> None:
    assert (await refusal(rendering, MemoryTree({}), path)).code == "path-refused"


async def test_two_kustomization_files_are_one_too_many(rendering: Rendering) -> None:
    tree = MemoryTree({"app/kustomization.yaml": "", "app/Kustomization": ""})
    assert (await refusal(rendering, tree)).code == "kustomization-ambiguous"


async def test_kustomize_needs_a_kustomization_file(rendering: Rendering) -> None:
    tree = MemoryTree({"app/a.yaml": CONFIG % "a"})
    refused = await refusal(rendering, tree, render=KUSTOMIZE)
    assert refused.code == "kustomization-missing"


async def test_bases_that_name_one_another_end(rendering: Rendering) -> None:
    tree = MemoryTree(
        {
            "app/kustomization.yaml": "resources: [../base]\n",
            "base/kustomization.yaml": "resources: [../app]\n",
        }
    )
    refused = await refusal(rendering, tree)
    assert refused.code == "kustomize-failed"
    assert "cycle" in refused.message


async def test_an_unparsable_file_is_named_with_document_and_line(rendering: Rendering) -> None:
    refused = await refusal(rendering, MemoryTree(named((CONFIG % "a") + "---\na: [1\n")))
    assert (refused.file, refused.document, refused.line) == ("app/a.yaml", 2, 7)


async def test_an_object_is_named_with_its_place(rendering: Rendering) -> None:
    text = (CONFIG % "a") + "---\n# none\n---\n" + (CONFIG % "B")
    refused = await refusal(rendering, MemoryTree(named(text)))
    assert (refused.file, refused.document, refused.line) == ("app/a.yaml", 3, 8)


async def test_names_that_only_rbac_allows_are_allowed_there(rendering: Rendering) -> None:
    text = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: 'system:A'}\n"
    assert names(await rendering.render(MemoryTree(named(text)), "app", AUTO, OWNER)) == [
        "system:A"
    ]


async def test_a_message_of_kustomize_names_no_path_of_this_machine(
    rendering: Rendering, tmp_path: Path
) -> None:
    tree = kustomization("resources: [a.yaml]\n", a_yaml="a: 1\n")
    refused = await refusal(rendering, tree)
    assert refused.code == "kustomize-failed"
    assert refused.file == "app/kustomization.yaml"
    assert "render-" not in refused.message
    assert "/files" not in refused.message
    assert str(tmp_path.parent) not in refused.message


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("secretGenerator: [{name: s, literals: [hunter2]}]\n", {}),
        ("secretGenerator: [{name: s, envs: [e.env]}]\n", {"e_env": "A=hunter2\nA=hunter2\n"}),
        ("resources: [s.yaml]\nnamePrefix: [x]\n", {"s_yaml": SECRET}),
        ("patches: [{path: p.yaml}]\n", {"p_yaml": SECRET}),
        (
            "resources: [s.yaml]\npatches:\n- target: {kind: Secret}\n  patch: |-\n"
            "    - {op: bad, path: /data/password, value: hunter2}\n",
            {"s_yaml": SECRET},
        ),
        (
            "resources: [s.yaml]\npatches:\n- target: {kind: Secret}\n  patch: |-\n"
            "    - op: test\n      path: /stringData/password\n      value: hunter2\n    - x: y\n",
            {"s_yaml": SECRET.replace("hunter2", "other")},
        ),
        ("resources: [s.yaml]\n", {"s_yaml": SECRET.replace("apiVersion: v1\n", "")}),
        ("resources: [s.yaml]\n", {"s_yaml": SECRET.replace("metadata: {name: s}\n", "")}),
        ("resources: [s.yaml]\n", {"s_yaml": SECRET + "bad: [\n"}),
    ],
)
async def test_a_message_of_kustomize_holds_no_secret(
    rendering: Rendering, text: str, files: dict[str, str]
) -> None:
    refused = await refusal(rendering, kustomization(text, **files))
    assert refused.code in {"kustomize-failed", "api-version-missing"}
    assert "hunter2" not in refused.message
    assert "aHVudGVyMg" not in refused.message


async def test_a_render_over_its_limits_is_stopped(tmp_path: Path) -> None:
    bomb = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\na: &a [x,x,x,x,x,x,x,x,x,x]\n"
    for level in "bcdef":
        before = chr(ord(level) - 1)
        bomb += f"{level}: &{level} [{','.join(['*' + before] * 10)}]\n"
    tree = kustomization("resources: [r.yaml]\n", r_yaml=bomb)
    for limits, codes in (
        (RenderLimits(memory=200 * 1024**2), {"kustomize-out-of-memory"}),
        (RenderLimits(seconds=0.05), {"kustomize-timeout"}),
        (RenderLimits(output=1000), {"too-large"}),
    ):
        rendering = Rendering(
            REDACTOR, allow_unconfined=True, limits=limits, folder=tmp_path / "render"
        )
        text = CONFIG % "c" + "  x: " + "y" * 5000 + "\n"
        small = kustomization("resources: [r.yaml]\n", r_yaml=text.replace("data: {a: b}", "data:"))
        refused = await refusal(rendering, small if limits.output == 1000 else tree)
        assert refused.code in codes


async def test_limits_on_what_is_read_are_named(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {f"app/{n}.yaml": CONFIG % f"c{n}" for n in range(5)}
    for limits in (
        RenderLimits(files=4),
        RenderLimits(input=100),
        RenderLimits(objects=4),
    ):
        rendering = Rendering(REDACTOR, allow_unconfined=True, limits=limits, folder=tmp_path / "r")
        refused = await refusal(rendering, MemoryTree(files))
        assert refused.code in {"too-large", "too-many-objects"}
