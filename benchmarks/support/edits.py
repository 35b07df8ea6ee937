"""Edits behind Git's back, and how long each takes until it has been put right."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import anyio
import orjson

from benchmarks.support.places import Place
from benchmarks.support.shops import objects, url_of

KINDS = ("Deployment", "ServiceAccount", "Service", "Ingress")
_PATIENCE = 60.0
"""Seconds until an edit that is not put right ends the measurement."""

Corrected = Callable[[str, str], Awaitable[None]]
"""Puts (kind, name) right: what a bare controller does at once."""

_EDITS: Mapping[str, dict[str, Any]] = {
    "Deployment": {"spec": {"replicas": 2}},
    "Service": {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}},
    "Ingress": {"metadata": {"labels": {"app.kubernetes.io/name": None}}},
}


class Edits:
    """Tampers with the applications of a namespace and sees when each object is right again."""

    def __init__(
        self, place: Place, namespace: str, names: list[str], correct: Corrected | None = None
    ) -> None:
        self._place, self._namespace, self._names = place, namespace, names
        self._correct = correct
        self._declared = {(each["kind"], name): each for name in names for each in objects(name)}
        self._open: dict[tuple[str, str], tuple[float, anyio.Event]] = {}
        self.seconds: list[float] = []

    async def run(self, count: int, rate: float) -> list[float]:
        """Make so many edits at a rate; return the seconds from each edit's answer to its end.

        Raises TimeoutError where one is not put right.
        """
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._place.session())
            group = await stack.enter_async_context(anyio.create_task_group())
            for kind in KINDS:
                await group.start(self._watch, session, kind)
            async with anyio.create_task_group() as edits:
                for number in range(count):
                    edits.start_soon(self._edit, session, number)
                    await anyio.sleep(1 / rate)
            group.cancel_scope.cancel()
        return self.seconds

    async def _edit(self, session: aiohttp.ClientSession, number: int) -> None:
        kind = KINDS[number % len(KINDS)]
        key = (kind, self._names[number // len(KINDS) % len(self._names)])
        while key in self._open:
            await self._open[key][1].wait()
        done = anyio.Event()
        url = url_of(self._place, self._namespace, *key)
        self._open[key] = (float("inf"), done)
        if kind == "ServiceAccount":
            sent = session.delete(url)
        else:
            headers = {"Content-Type": "application/merge-patch+json"}
            body, params = orjson.dumps(_EDITS[kind]), {"fieldManager": "kubectl-edit"}
            sent = session.patch(url, data=body, headers=headers, params=params)
        async with sent as answer:
            answer.raise_for_status()
            answered = time.perf_counter()
            await answer.read()
        with anyio.fail_after(_PATIENCE):
            await done.wait()
        began, _ = self._open.pop(key)
        # It may have been put right before the edit's own answer was read.
        self.seconds.append(max(0.0, began - answered))

    async def _watch(self, session: aiohttp.ClientSession, kind: str, *, task_status: Any) -> None:
        url = url_of(self._place, self._namespace, kind, "").rstrip("/")
        async with session.get(url) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        params = {"watch": "1", "resourceVersion": version}
        no_end = aiohttp.ClientTimeout(total=None)
        async with session.get(url, params=params, timeout=no_end) as stream:
            task_status.started()
            async for line in stream.content:
                await self._seen(kind, orjson.loads(line))

    async def _seen(self, kind: str, event: Mapping[str, Any]) -> None:
        live = event["object"]
        key = (kind, live["metadata"]["name"])
        is_right = event["type"] != "DELETED" and contains(live, self._declared.get(key))
        if not is_right:
            if key in self._declared and self._correct is not None:
                await self._correct(*key)
            self._broken(key)
        elif key in self._open and self._open[key][0] == 0.0:
            _, done = self._open[key]
            self._open[key] = (time.perf_counter(), done)
            done.set()

    def _broken(self, key: tuple[str, str]) -> None:
        if key in self._open:
            self._open[key] = (0.0, self._open[key][1])


def contains(live: Any, declared: Any) -> bool:
    """Whether everything declared is there."""
    if isinstance(declared, dict):
        return isinstance(live, dict) and all(
            name in live and contains(live[name], value) for name, value in declared.items()
        )
    if isinstance(declared, list):
        return isinstance(live, list) and all(
            contains(one, other) for one, other in zip(live, declared, strict=False)
        )
    return bool(live == declared)
