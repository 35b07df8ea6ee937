"""Secret values are nowhere but in Git and in the cluster: a canary is put in, and looked for.

Not looked at: the repository's mirror, which holds what Git holds, and the cluster itself.
"""

from __future__ import annotations

import base64
import gzip
import html
import itertools
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import asyncpg
import pytest
from aiohttp import web

from engine.cli.demo_stage import Stage
from engine.embedded.server import EmbeddedPostgres
from tests.repositories import Repository

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]
CLUSTER = "prod"
HREF = re.compile('href="([^"]+)"')
MOST_PAGES = 120
PLACES = (
    *("data", "string", "list", "generator", "literal", "patch"),
    *("invalid", "malformed", "broken", "unquoted", "badpatch"),
    *("conflict", "theirs", "live", "applied", "later"),
)
CANARIES = {place: f"canary-{place}-Zq8vKw3T" for place in PLACES}


def forms(canary: str) -> Iterator[bytes]:
    """Every way in which a canary may be written: as it is, and in base64 at any offset."""
    plain = canary.encode()
    yield plain
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + plain)
        # The ends depend on what stands beside it.
        yield encoded[4 if offset else 0 : len(encoded) // 4 * 4 - 4]
    yield from (base64.b64encode(base64.b64encode(plain))[:-4], plain.hex().encode())


FORMS = {form: place for place, canary in CANARIES.items() for form in forms(canary)}


def found_in(body: bytes) -> set[str]:
    return {f"{place} as {form!r}" for form, place in FORMS.items() if form in body}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(name: str, body: str) -> str:
    return f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n{body}\n"


C = CANARIES
FILES = {
    "plain/data.yaml": secret("data", f"data: {{key: {b64(C['data'])}}}"),
    "plain/string.yaml": secret("string", f"stringData: {{key: '{C['string']}'}}"),
    "plain/list.yaml": json.dumps(
        {
            "apiVersion": "v1",
            "kind": "List",
            "items": [
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "list"},
                    "stringData": {"key": C["list"]},
                }
            ],
        }
    ),
    "kustomized/kustomization.yaml": f"""\
secretGenerator:
  - name: generated
    literals: [key={C["literal"]}]
    files: [key.txt]
resources: [secret.yaml]
patches:
  - patch: |
      apiVersion: v1
      kind: Secret
      metadata: {{name: patched}}
      stringData: {{key: {C["patch"]}}}
""",
    "kustomized/key.txt": C["generator"],
    "kustomized/secret.yaml": secret("patched", "type: Opaque"),
    "invalid/secret.yaml": secret("invalid", f"data: {{key: '{C['invalid']}!'}}"),
    "malformed/secret.yaml": secret("malformed", f"data: ['{C['malformed']}']"),
    "broken/secret.yaml": secret("broken", f"stringData:\n  key: '{C['broken']}\n  b: [}}\n"),
    "unquoted/secret.yaml": secret("unquoted", f"stringData:\n  key: {{{C['unquoted']}: 1}}\n"),
    "badpatch/kustomization.yaml": f"""\
resources: [secret.yaml]
patches:
  - target: {{kind: Secret, name: other}}
    patch: |
      - op: replace
        path: /stringData/nothing/here
        value: {C["badpatch"]}
""",
    "badpatch/secret.yaml": secret("other", f"stringData: {{key: '{C['badpatch']}'}}"),
    "conflict/secret.yaml": secret("conflict", f"stringData: {{key: '{C['conflict']}'}}"),
}
APPLICATIONS = sorted({path.partition("/")[0] for path in FILES})
SYNCED = ("kustomized", "plain")


class Receiver:
    """Takes in whatever is exported over OTLP/HTTP."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        is_packed = body[:2] == b"\x1f\x8b"
        self.bodies.append(gzip.decompress(body) if is_packed else body)
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def stage(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.setenv("TRUEUP_LOG_LEVEL", "debug")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    stage = Stage(tmp_path, [CLUSTER])
    try:
        await stage.open()
        yield stage
    finally:
        await stage.close()


def resource(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    api_version = "trueup.dev/v1"
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def statuses(stage: Stage) -> dict[str, dict[str, Any]]:
    found = await stage.call("GET", "/v1/targets/default")
    return {item["application"]: item for item in found["items"]}


async def until(stage: Stage, application: str, *wanted: str) -> dict[str, Any]:
    with anyio.fail_after(60):
        while True:
            status = (await statuses(stage)).get(application, {})
            if status.get("sync") in wanted:
                return status
            await anyio.sleep(0.05)


async def resolved(stage: Stage, cases: int) -> None:
    with anyio.fail_after(60):
        while len(await stage.events(type="DriftResolved")) < cases:  # noqa: ASYNC110 - a process
            await anyio.sleep(0.05)


async def play(stage: Stage, repository: Repository) -> None:
    """Sync, refuse, edit behind Git's back, change: with a canary in each."""
    theirs = stage.folder / "theirs.yaml"
    theirs.write_text(secret("conflict", f"stringData: {{key: '{C['theirs']}'}}"))
    await stage.kubectl(CLUSTER, "create", "-f", str(theirs), "--field-manager=helm")
    repository.commit(FILES)
    await stage.call(
        "POST",
        "/v1/resources",
        [
            resource("Repository", "vault", url=repository.url, interval="1s"),
            resource("Cluster", CLUSTER, kubeconfig=str(stage.kubeconfig), context=CLUSTER),
            *(
                resource(
                    "Application",
                    name,
                    source={"repository": "vault", "path": name},
                    targets={"clusters": [CLUSTER]},
                )
                for name in APPLICATIONS
            ),
        ],
    )
    for name in SYNCED:
        await until(stage, name, "synced")
    for name in set(APPLICATIONS) - set(SYNCED):
        await until(stage, name, "failed", "held")
    live = json.dumps({"stringData": {"key": C["live"], "more": C["live"]}})
    await stage.kubectl(CLUSTER, "patch", "secret", "data", "--type=merge", "-p", live)
    await resolved(stage, 1)
    theirs.write_text(secret("string", f"stringData: {{key: '{C['applied']}'}}"))
    await stage.kubectl(CLUSTER, "apply", "-f", str(theirs))
    await resolved(stage, 2)
    later = FILES | {"plain/data.yaml": secret("data", f"stringData: {{key: '{C['later']}'}}")}
    await stage.wait(f"plain@{CLUSTER}", "synced", repository.commit(later))


async def answers(stage: Stage) -> AsyncIterator[tuple[str, bytes]]:
    """Ask for everything that there is to ask for."""
    described = await stage.call("GET", "/v1/openapi.json")
    events = await stage.events()
    digests = sorted({word for word in json.dumps(events).split('"') if word.startswith("sha256:")})
    known = {
        "project": ["default"],
        "target": [f"{name}@{CLUSTER}" for name in APPLICATIONS],
        "collection": ["repositories", "clusters", "applications"],
        "kind": ["repositories", "clusters", "applications"],
        "name": ["vault", CLUSTER, *APPLICATIONS],
        "digest": digests,
        "actor": sorted({event["actor"] for event in events if event["type"] == "CommitSeen"}),
        "path": ["tile/0/000", "tile/entries/000"],
    }
    subjects = [f"{CLUSTER}/default/Secret/{name}" for name in ("data", "string", "conflict")]
    subjects += [f"{name}@{CLUSTER}" for name in APPLICATIONS]
    paths = ["/v1/events?limit=1000", "/metrics", *(f"/v1/timeline?subject={s}" for s in subjects)]
    for template, verbs in described["paths"].items():
        if "get" in verbs:
            names = [part.partition("}")[0] for part in template.split("{")[1:]]
            paths += [
                template.format(**dict(zip(names, values, strict=True)))
                for values in itertools.product(*(known[name] for name in names))
            ]
    session = stage._session
    assert session is not None
    for path in paths:
        if path.endswith("/stream") or path == "/v1/wait":
            continue
        async with session.get(stage.url + path) as answer:
            yield path, await answer.read()


async def pages(stage: Stage) -> AsyncIterator[tuple[str, bytes]]:
    """Log in as a person would, and follow every link."""
    link = await stage.call("POST", "/v1/login-links")
    jar = aiohttp.CookieJar(unsafe=True)
    headers = {"Origin": stage.url, "Accept": "text/html"}
    async with aiohttp.ClientSession(stage.url, cookie_jar=jar, headers=headers) as browser:
        form = {"code": link["path"].partition("code=")[2]}
        async with browser.post("/login", data=form) as answer:
            assert answer.status == 200, await answer.text()
        known, waiting = {"/"}, ["/"]
        while waiting and len(known) < MOST_PAGES:
            path = waiting.pop(0)
            async with browser.get(path) as answer:
                body = await answer.read()
                assert answer.status < 500, path
                yield f"page {path}", body
            for found in HREF.findall(body.decode(errors="replace")):
                target = html.unescape(found).partition("#")[0]
                if target.startswith("/") and target not in known | {"/logout", "/live"}:
                    known.add(target)
                    waiting.append(target)


async def commands(stage: Stage) -> AsyncIterator[tuple[str, bytes]]:
    """What the command line prints."""
    target = f"plain@{CLUSTER}"
    for words in (
        "get targets -o wide",
        "get targets -o yaml",
        "get applications -o json",
        f"describe target {target}",
        f"describe target conflict@{CLUSTER}",
        "describe application broken",
        f"diff {target}",
        f"diff invalid@{CLUSTER}",
        f"timeline {target}",
        f"timeline {CLUSTER}/default/Secret/data",
        "events -o jsonl",
        "events -o yaml",
    ):
        command = [sys.executable, "-m", "engine.cli", *words.split()]
        env = {**os.environ, "TRUEUP_DATA_DIR": str(stage.data_dir)}
        done = await anyio.run_process(command, check=False, env=env)
        assert done.returncode in (0, 1), (words, done.stderr.decode())
        yield f"trueup {words}", done.stdout + done.stderr


async def tables(folder: Path) -> AsyncIterator[tuple[str, bytes]]:
    """Every row of every table: in the files some may be compressed."""
    async with EmbeddedPostgres(folder) as server:
        connection = await asyncpg.connect(server.dsn)
        try:
            await connection.execute("CHECKPOINT")
            for row in await connection.fetch(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname <> 'pg_catalog'"
            ):
                name = f'"{row["schemaname"]}"."{row["tablename"]}"'
                chunks: list[bytes] = []

                async def take(chunk: bytes, into: list[bytes] = chunks) -> None:
                    into.append(chunk)

                await connection.copy_from_query(
                    f"SELECT * FROM {name}", output=take, format="binary"
                )
                yield f"table {name}", b"".join(chunks)
        finally:
            await connection.close()


async def test_a_secret_value_is_nowhere_but_in_git_and_in_the_cluster(
    stage: Stage, receiver: Receiver
) -> None:
    await play(stage, Repository(stage.folder / "git" / "vault"))
    leaks: dict[str, set[str]] = {}
    looked = 0

    def look(where: str, body: bytes) -> None:
        nonlocal looked
        looked += 1
        if found := found_in(body):
            leaks[where] = found

    async for where, body in answers(stage):
        look(where, body)
    walked = 0
    async for where, body in pages(stage):
        walked += 1
        look(where, body)
    assert walked > len(APPLICATIONS)
    async for where, body in commands(stage):
        look(where, body)
    reasons = await statuses(stage)
    await stage.close()
    assert any(b"reconcile" in body for body in receiver.bodies), "no traces came"
    for index, body in enumerate(receiver.bodies):
        look(f"trace {index}", body)
    async for where, body in tables(stage.data_dir / "postgres"):
        look(where, body)
    mirrors = stage.data_dir / "mirrors"
    for path in sorted(stage.data_dir.rglob("*")):
        if path.is_file() and not path.is_relative_to(mirrors):
            look(str(path.relative_to(stage.folder)), path.read_bytes())
    log = (stage.folder / "engine.log").read_bytes()
    look("engine.log", log)
    for where, found in leaks.items():
        print(where, found)
    assert leaks == {}
    assert looked > 100
    assert reasons["conflict"]["code"] == "conflict"
    assert reasons["invalid"]["code"] == "invalid"


def test_the_canary_would_be_found() -> None:
    for place, canary in CANARIES.items():
        for before in ("", "a", "ab", "abc"):
            for after in ("", "x", "xy"):
                text = (before + canary + after).encode()
                for body in (text, base64.b64encode(text), text.hex().encode()):
                    assert any(found.startswith(f"{place} as") for found in found_in(body))
