"""A hostile repository and hostile clusters under the whole engine, beside good ones.

Each case is an application of its own: refused by name, while the good application is rolled out,
its next commit too, and nothing of this machine is told to anybody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml
from anyio.abc import SocketStream
from pygit2.enums import FileMode

from tests.line import Line
from tests.repositories import Entry, Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
CANARY = "canary-9f2c-of-this-machine"
SECRET = "canary-77aa-of-a-secret"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: b}\n"
MODULE = (FileMode.COMMIT, "1" * 40)
MEGABYTE = 1024 * 1024


def link(target: str) -> Entry:
    return (FileMode.LINK, target)


def kustomize(text: str, **more: Entry) -> dict[str, Entry]:
    return {
        "kustomization.yaml": text,
        **{name.replace("_", "."): body for name, body in more.items()},
    }


def plugin(kind: str) -> str:
    return (
        "apiVersion: x.example/v1\nkind: Evil\nmetadata:\n  name: evil\n  annotations:\n"
        f"    config.kubernetes.io/function: |\n      {kind}\n"
    )


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
RECURSIVE = "a: &a\n  b: *a\n"


def cases(secret_file: Path) -> dict[str, tuple[str, Mapping[str, Entry]]]:
    """Return each case with the code that it is refused with, and its files."""
    outside = "../" * 30 + str(secret_file).lstrip("/")
    return {
        "link-file": ("symlink-refused", {"a.yaml": link(str(secret_file))}),
        "link-relative": ("symlink-refused", {"a.yaml": link(outside)}),
        "link-folder": ("symlink-refused", {"etc": link("/etc")}),
        "link-kustomized": (
            "symlink-refused",
            kustomize("resources: [a.yaml]\n", a_yaml=link(str(secret_file))),
        ),
        "link-circle": ("symlink-refused", {"a.yaml": link("b.yaml"), "b.yaml": link("a.yaml")}),
        "climb": ("path-refused", kustomize(f"resources: ['{outside}']\n")),
        "climb-generator": (
            "path-refused",
            kustomize(f"configMapGenerator: [{{name: x, files: ['{outside}']}}]\n"),
        ),
        "absolute": ("path-refused", kustomize(f"resources: ['{secret_file}']\n")),
        "remote-https": ("remote-refused", kustomize("resources: ['https://127.0.0.1:1/x']\n")),
        "remote-git": ("remote-refused", kustomize("resources: ['github.com/a/b//c?ref=d']\n")),
        "remote-ext": ("remote-refused", kustomize("resources: ['git::ext::sh -c id//x']\n")),
        "remote-ssh": ("remote-refused", kustomize("bases: ['ssh://-oProxyCommand=id/a']\n")),
        "remote-file": ("remote-refused", kustomize(f"resources: ['file://{secret_file}']\n")),
        "exec": (
            "plugin-refused",
            kustomize("generators: [t.yaml]\n", t_yaml=plugin("exec: {path: /bin/sh}")),
        ),
        "container": (
            "plugin-refused",
            kustomize("transformers: [t.yaml]\n", t_yaml=plugin("container: {image: evil}")),
        ),
        "helm": ("helm-refused", kustomize("helmCharts: [{name: x, repo: 'https://x.example'}]\n")),
        "alias-bomb": ("too-many-values", {"a.yaml": BOMB}),
        "alias-bomb-kustomized": (
            "kustomize-out-of-memory",
            kustomize("resources: [a.yaml]\n", a_yaml=BOMB),
        ),
        "alias-circle": ("recursive-alias", {"a.yaml": RECURSIVE}),
        "deep-flow": ("too-deep", {"a.yaml": "a: " + "[" * 40_000}),
        "deep-closed": ("too-deep", {"a.yaml": "a: " + "[" * 40_000 + "]" * 40_000}),
        "deep-json": ("too-deep", {"a.json": '{"a":' * 40_000 + "1" + "}" * 40_000}),
        "deep-block": ("too-deep", {"a.yaml": "".join(" " * n + "a:\n" for n in range(2_000))}),
        "deep-kustomization": ("too-deep", kustomize("resources: " + "[" * 40_000)),
        "double": ("duplicate-key", {"a.yaml": CONFIG % "a" + "data: {c: d}\n"}),
        "huge": ("file-too-large", {"a.yaml": b"a: " + b"x" * (50 * MEGABYTE)}),
        "huge-kustomized": (
            "file-too-large",
            kustomize("resources: [a.yaml]\n", a_yaml=b"#" * (50 * MEGABYTE)),
        ),
        "many": ("too-many-documents", {"a.yaml": "---\na: 1\n" * 10_000}),
        "nul": ("control-character", {"a.yaml": "a: \x00\n"}),
        "escape": ("control-character", {"a.yaml": "a: \x1b[2J\n"}),
        "escape-written": ("bad-name", {"a.yaml": CONFIG % '"\\e[2Jx"'}),
        "markup": ("bad-name", {"a.yaml": CONFIG % "'<script>alert(1)</script>'"}),
        "slashes": ("bad-name", {"a.yaml": CONFIG % "'../../secrets/x'"}),
        "binary": ("not-utf8", {"a.yaml": b"a: \xff\xfe\n"}),
        "tag": ("api-version-missing", {"a.yaml": "a: !!python/object/apply:os.system [id]\n"}),
        "module": ("submodule-refused", {"m": MODULE}),
        "nothing": ("empty", {"readme.txt": "nothing here"}),
    }


GOOD: dict[str, Entry] = {
    "good/a.yaml": CONFIG % "good",
    "good/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: good}\n"
    f"stringData: {{password: {SECRET}}}\n",
    ".gitattributes": "* filter=evil diff=evil\n",
    ".gitmodules": '[submodule "m"]\n\tpath = module/m\n\turl = ext::sh -c id\n\tupdate = !id\n',
}
MESSAGE = "Sell \x1b[31mmore\x07 \u202ebackwards <script>alert(1)</script>\n\n" + "x" * (
    8 * MEGABYTE
)


def arm(repository: Repository, ran: Path) -> None:
    """Have the repository run programs wherever Git would let it."""
    for hook in ("post-checkout", "pre-auto-gc", "reference-transaction", "post-update"):
        place = repository.folder / "hooks" / hook
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"#!/bin/sh\ntouch {ran}\n")
        place.chmod(0o755)
    with (repository.folder / "config").open("a") as file:
        file.write(f'[filter "evil"]\n\tsmudge = touch {ran}\n\tclean = touch {ran}\n')
        file.write(f"[core]\n\tfsmonitor = touch {ran}\n\tsshCommand = touch {ran}\n")
        file.write(
            f'[diff "evil"]\n\tcommand = touch {ran}\n[uploadpack]\n\tpackObjectsHook = {ran}\n'
        )


@asynccontextmanager
async def bad_servers() -> AsyncIterator[dict[str, int]]:
    """Serve what a cluster must not be: garbage, silence, redirects, an answer without end."""

    async def garbage(stream: SocketStream) -> None:
        await stream.send(b"\x00\xff\x1b[2J what is this" * 100)

    async def silence(_: SocketStream) -> None:
        await anyio.sleep_forever()

    async def redirect(stream: SocketStream) -> None:
        await stream.send(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        )

    async def endless(stream: SocketStream) -> None:
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{")
        while True:
            await stream.send(b" " * 65_536)

    async def serve(answer: Any, stream: SocketStream) -> None:
        async with stream:
            try:
                await stream.receive()
                await answer(stream)
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
                return

    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(group.cancel_scope.cancel)
        ports = {}
        for answer in (garbage, silence, redirect, endless):
            listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            ports[answer.__name__] = port

            async def handle(stream: SocketStream, answer: Any = answer) -> None:
                await serve(answer, stream)

            group.start_soon(listener.serve, handle)
        yield ports


def bad_kubeconfig(path: Path, ports: Mapping[str, int], ran: Path) -> None:
    def named(name: str, **inner: object) -> dict[str, object]:
        return {"name": name, **inner}

    servers = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    servers["exec"] = "http://127.0.0.1:1"
    program = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": "/bin/sh",
        "args": ["-c", f"touch {ran}"],
        "interactiveMode": "Never",
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [named(name, cluster={"server": url}) for name, url in servers.items()],
        "users": [named("plain", user={"token": "x"}), named("exec", user={"exec": program})],
        "contexts": [
            named(name, context={"cluster": name, "user": "exec" if name == "exec" else "plain"})
            for name in servers
        ],
    }
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)


class Told(logging.Handler):
    """Keeps all that was logged, as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(repr(record.__dict__) + (record.exc_text or ""))


def application(name: str, cluster: str = "dev") -> dict[str, Any]:
    return {
        "kind": "Application",
        "metadata": {"name": name},
        "spec": {
            "source": {"repository": "hostile", "path": name},
            "targets": {"clusters": [cluster]},
        },
    }


async def test_every_case_is_refused_by_name_and_the_good_ones_go_on(
    tmp_path: Path, dsn: str
) -> None:
    ran, secret_file = tmp_path / "ran", tmp_path / "outside" / "secret.yaml"
    secret_file.parent.mkdir()
    secret_file.write_text(CONFIG % CANARY)
    hostile = cases(secret_file)
    files = dict(GOOD)
    for name, (_, entries) in hostile.items():
        files |= {f"{name}/{path}": entry for path, entry in entries.items()}
    line = Line(tmp_path, dsn, ["dev"])
    told = Told()
    logging.getLogger().addHandler(told)
    try:
        async with line.clusters_running(), bad_servers() as ports:
            repository = Repository(line.git / "hostile.git")
            arm(repository, ran)
            first = repository.commit(files, MESSAGE)
            bad_kubeconfig(line.kubeconfig.parent / "bad", ports, ran)
            async with line.engine():
                await line.declare(*resources(line, repository, hostile, ports))
                await line.synced("good@dev", first)
                assert await refusals(line, set(hostile)) == {
                    name: code for name, (code, _) in hostile.items()
                }
                assert await lost(line, [*ports, "exec"]) == {
                    "garbage": "unreachable",
                    "redirect": "redirect",
                    "silence": "timed-out",
                    "endless": "too-large",
                    "exec": "exec-refused",
                }
                # What is mended goes on, and the good one keeps its pace.
                files |= {"good/b.yaml": CONFIG % "more", "markup/a.yaml": CONFIG % "mended"}
                second = repository.commit(files, "Mend one")
                await line.synced("good@dev", second)
                await line.synced("markup@dev", second)
                await nothing_leaked(line, told)
    finally:
        logging.getLogger().removeHandler(told)
    assert not ran.exists()


def resources(
    line: Line, repository: Repository, hostile: Mapping[str, object], ports: Mapping[str, int]
) -> list[dict[str, Any]]:
    clusters = [line.cluster("dev")]
    for name in (*ports, "exec"):
        cluster = line.cluster(name)
        cluster["spec"] = {"kubeconfig": str(line.kubeconfig.parent / "bad"), "context": name}
        clusters.append(cluster)
    return [
        {
            "kind": "Repository",
            "metadata": {"name": "hostile"},
            "spec": {"url": repository.url, "interval": "1s"},
        },
        *clusters,
        application("good"),
        *(application(name) for name in hostile),
    ]


async def refusals(line: Line, names: set[str]) -> dict[str, str]:
    """Wait until every case has failed, and return the codes; each message names its place."""
    with anyio.fail_after(120):
        while True:
            page = await line.call("GET", "/v1/applications/default?limit=1000")
            failures = {
                item["name"]: item["state"]["failure"]
                for item in page["items"]
                if item["state"]["failure"] and item["name"] in names
            }
            if set(failures) == names:
                break
            await anyio.sleep(0.1)
    for name, failure in failures.items():
        place = failure.get("file", "") + failure["message"]
        assert name in place, failure
        assert len(failure["message"]) < 1000, failure
        assert failure["message"].isprintable(), failure
    return {name: failure["code"] for name, failure in failures.items()}


async def lost(line: Line, names: list[str]) -> dict[str, str]:
    with anyio.fail_after(90):
        while True:
            page = await line.call("GET", "/v1/clusters/default?limit=1000")
            found = {item["name"]: item["state"]["lost"] for item in page["items"]}
            assert found["dev"] is None
            if all(found[name] for name in names):
                return {name: found[name]["code"] for name in names}
            await anyio.sleep(0.1)


async def nothing_leaked(line: Line, told: Told) -> None:
    """Look for the canaries, and for what steers a terminal, in all that is written or told."""
    events = await line.events()
    bodies = []
    for event in events:
        for digest in set(_digests(event["payload"])):
            async with line.session.get(f"/v1/blobs/{digest}") as answer:
                bodies.append(await answer.text())
    written = msgspec.json.encode(events).decode() + "".join(bodies)
    kept = [
        path.read_bytes()
        for path in (line.folder / "data").rglob("*")
        if path.is_file() and "mirrors" not in path.parts
    ]
    for canary in (CANARY, SECRET):
        assert canary not in written
        assert canary not in "".join(told.text)
        assert not any(canary.encode() in body for body in kept)
    seen = [event for event in events if event["type"] == "CommitSeen"]
    subject = seen[0]["payload"]["subject"]
    assert subject.isprintable()
    assert "Sell" in subject
    assert len(subject) < 500
    assert str(line.folder) not in msgspec.json.encode(
        [event for event in events if event["type"] == "RenderFailed"]
    ).decode().replace(f"{line.folder}/outside", "")
    assert os.sep.join(("etc", "passwd")) not in written


def _digests(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value.startswith("sha256:") else []
    if isinstance(value, dict):
        return [digest for item in value.values() for digest in _digests(item)]
    if isinstance(value, list):
        return [digest for item in value for digest in _digests(item)]
    return []
