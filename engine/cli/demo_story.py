"""The demo's story, step by step: everything it says was read from the product's own API."""

from __future__ import annotations

import time
from typing import Any

import anyio
import msgspec
from rich.console import Console

from engine.cli.demo_repository import SECOND_IMAGE
from engine.cli.demo_stage import DemoFailed, Stage
from engine.tell import given_reason, said
from events.catalog import CATALOG

_FLAGS = 40
_SHOWN = 24


class Story:
    """Tells what happens, and measures it."""

    def __init__(self, stage: Stage, started: float) -> None:
        self._stage, self._started = stage, started
        self._console = Console(highlight=False, soft_wrap=True)
        self._figures: dict[str, str] = {}
        self._last = stage.clusters[-1]
        self._target = f"shop-{self._last}@{self._last}"

    async def tell(self) -> None:
        """Tell it from the beginning."""
        await self._sync()
        await self._roll_out()
        await self._drift()
        await self._hold()
        await self._crash()
        await self._timeline()
        await self._prove()
        await self._show_figures()

    def _chapter(self, title: str) -> None:
        self._console.print(f"\n[bold]{title}[/bold]")

    def _say(self, text: str) -> None:
        self._console.print(f"  {time.monotonic() - self._started:6.1f} s  {text}", markup=False)

    async def _sync(self) -> None:
        stage = self._stage
        self._chapter("1. Declare a repository, clusters and applications; they are synced")
        self._say(f"the engine answers at {stage.url}")
        commit = stage.repository.start(stage.clusters)
        body = [_repository(stage.repository.url)]
        for name in stage.clusters:
            body += [_cluster(name, str(stage.kubeconfig)), _application(name)]
        answer = await stage.call("POST", "/v1/resources", body)
        self._say(f"declared {len(body)} resources, at position {answer['position']} of the log")
        for name in stage.clusters:
            await stage.wait(f"shop-{name}@{name}", "healthy", commit)
            self._say(f"shop-{name}@{name} is synced to {commit[:10]} and healthy")

    async def _roll_out(self) -> None:
        stage = self._stage
        self._chapter("2. Commit a new image; it is rolled out")
        before = time.monotonic()
        commit = stage.repository.new_image()
        self._say(f"committed {commit[:10]}: {SECOND_IMAGE}")
        for name in stage.clusters:
            await stage.wait(f"shop-{name}@{name}", "synced", commit)
            image = await stage.kubectl(
                name, "-n", "shop", "get", "deploy", "shop", "-o", "jsonpath={..image}"
            )
            if image != SECOND_IMAGE:
                raise DemoFailed(f"{name} runs {image}")
            self._say(f"{name} runs {image}")
        took = time.monotonic() - before
        self._figures["commit to synced everywhere (poll of 1 s included)"] = f"{took:.2f} s"

    async def _drift(self) -> None:
        self._chapter("3. Change live objects behind Git's back; each is put right")
        edits = [
            ("kubectl scale deploy/shop --replicas=9", ["scale", "deploy/shop", "--replicas=9"]),
            ("kubectl delete service shop", ["delete", "service", "shop"]),
        ]
        for shown, words in edits:
            after = await self._stage.position()
            before = time.monotonic()
            await self._stage.kubectl(self._last, "-n", "shop", *words)
            self._say(f"somebody on {self._last}: {shown}")
            found = await self._stage.next_event("DriftDetected", after)
            for difference in found["payload"]["differences"]:
                self._say(f"drift: {_difference(difference)}")
            ended = await self._stage.next_event("DriftResolved", after, how="corrected")
            took = time.monotonic() - before
            self._say(
                f"put right by {ended['actor']} (case {found['payload']['case']}, "
                f"positions {found['position']} to {ended['position']})"
            )
            self._figures[f"{shown.split()[1]} to corrected"] = f"{took:.2f} s"

    async def _hold(self) -> None:
        stage = self._stage
        self._chapter("4. Suspend one target; its sync is held, and says why")
        path = f"/v1/targets/default/{self._target}"
        reason = "freeze for the sale"
        await stage.call("POST", f"{path}/suspend", {"reason": reason})
        after = await stage.position()
        commit = stage.repository.greeting("good day")
        held = await stage.next_event("ReconcileHeld", after)
        self._say(f"committed {commit[:10]}; {self._target} is held: {held['payload']['message']}")
        await stage.call("POST", f"{path}/resume", {"reason": "the sale is over"})
        await stage.wait(self._target, "synced", commit)
        self._say(f"resumed; {self._target} is synced to {commit[:10]}")

    async def _crash(self) -> None:
        stage = self._stage
        self._chapter("5. Kill the engine in the middle of a sync; nothing is lost or done twice")
        await stage.simulated(self._last, "DELETE", "writes")
        await stage.simulated(self._last, "POST", "pace", {"applies_per_second": 20})
        commit = stage.repository.flags(_FLAGS)
        with anyio.fail_after(60):
            while len(await self._written()) < _FLAGS // 3:  # noqa: ASYNC110 - asks over HTTP
                await anyio.sleep(0.01)
        await stage.kill_engine()
        done = len(await self._written())
        self._say(f"committed {_FLAGS} objects ({commit[:10]}); SIGKILL after {done} of them")
        await stage.simulated(self._last, "POST", "pace", {})
        before = time.monotonic()
        await stage.start_engine()
        await stage.wait(self._target, "synced", commit)
        took = time.monotonic() - before
        self._say(f"started again; {self._target} is synced to {commit[:10]}")
        changes = await self._written()
        twice = sorted({name for name in changes if changes.count(name) > 1})
        if twice or len(changes) != _FLAGS:
            raise DemoFailed(f"{len(changes)} objects were changed, these twice: {twice}")
        abandoned = await stage.events(type="CorrectionAbandoned")
        self._say(
            f"the cluster's own record: {len(changes)} objects made once each, none twice; "
            f"{len(abandoned)} cut-off plan found by fold"
        )
        self._figures["restart to synced after SIGKILL"] = f"{took:.2f} s"

    async def _written(self) -> list[str]:
        """Name the flags that the last cluster says were changed, once for each change."""
        writes = await self._stage.simulated(self._last, "GET", "writes")
        return [
            write["name"]
            for write in writes
            if write["changed"] and not write["dry_run"] and write["name"].startswith("flag-")
        ]

    async def _timeline(self) -> None:
        self._chapter(f"6. The timeline of {self._target} (the newest {_SHOWN})")
        found = await self._stage.call(
            "GET", f"/v1/timeline?subject={self._target}&order=desc&limit={_SHOWN}"
        )
        for event in reversed(found["items"]):
            line = f"{event['position']:>5}  {event['recordedAt'][11:19]}  {_gist(event)}"
            self._console.print(_cut(line, self._console.width), markup=False)

    async def _prove(self) -> None:
        self._chapter("7. Prove it: offline, without the server, and by deciding everything again")
        folder = str(self._stage.folder / "audit")
        # A proof reaches as far as the last checkpoint, which comes within a second of an event.
        await self._stage.trueup("audit", "export", "--to", folder)
        verified = await self._stage.trueup("audit", "verify", folder)
        self._say(f"trueup audit verify: {verified.strip().partition(chr(10))[0]}")
        again = await self._stage.trueup("replay")
        self._say(f"trueup replay: {again.strip().rpartition(chr(10))[2]}")

    async def _show_figures(self) -> None:
        self._chapter("Measured just now")
        events: list[dict[str, Any]] = []
        while page := await self._stage.events(events[-1]["position"] if events else 0):
            events += page
        positions = [event["position"] for event in events]
        if positions != list(range(1, len(positions) + 1)):
            raise DemoFailed("the log's positions are not dense")
        self._figures["events in the log, positions dense"] = str(len(events))
        self._figures["engine's memory"] = f"{self._stage.engine_memory():.0f} MB"
        for name, value in self._figures.items():
            self._console.print(f"  {name:<55} {value:>10}", markup=False)


def _difference(difference: dict[str, Any]) -> str:
    ref = difference["ref"]
    what = f"{ref['kind']}/{ref['name']}"
    by = difference.get("manager") or "somebody whom the API server does not name"
    if difference["kind"] == "missing":
        return f"{what} is missing; deleted by {by}"
    return (
        f"{what} {difference.get('path', '')}: {difference.get('before')} -> "
        f"{difference.get('after')}, by {by}"
    )


def _gist(event: dict[str, Any]) -> str:
    """Say what an event tells, and who said it."""
    fact = msgspec.convert(event["payload"], CATALOG[event["type"]])
    reason = given_reason(fact)
    return f"{said(fact)}{f': {reason}' if reason else ''} [{event['actor']}]"


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "trueup.dev/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


def _repository(url: str) -> dict[str, Any]:
    return _resource("Repository", "shop", {"url": url, "interval": "1s"})


def _cluster(name: str, kubeconfig: str) -> dict[str, Any]:
    return _resource("Cluster", name, {"kubeconfig": kubeconfig, "context": name})


def _application(name: str) -> dict[str, Any]:
    spec = {
        "source": {"repository": "shop", "path": f"overlays/{name}"},
        "targets": {"clusters": [name]},
    }
    return _resource("Application", f"shop-{name}", spec)


def _objects(items: list[Any]) -> str:
    return f"{len(items)} object{'' if len(items) == 1 else 's'}"
