"""The real engine with many small applications: declared at once, and waited for."""

from __future__ import annotations

import anyio

from benchmarks.support.places import Place
from benchmarks.support.shops import files
from tests.e2e.product import Product, resource

CLUSTER = "one"
_POLL = 0.5


async def prepared(product: Product, place: Place, names: list[str]) -> None:
    """Make the repository of the applications, and declare the cluster."""
    product.repository("shops").commit(files(names))
    await product.cluster(CLUSTER, place.kubeconfig)


async def first_sync(product: Product, namespace: str, names: list[str]) -> None:
    """Declare all applications at once and wait until the last one is synced.

    Raises RuntimeError where a correction fails.
    """
    url = f"file://{product.folder}/git/shops.git"
    await product.declare(
        resource("Repository", "shops", url=url, interval="1h"),
        *(
            resource(
                "Application",
                name,
                source={"repository": "shops", "path": f"apps/{name}"},
                render={"type": "plain"},
                targets={"clusters": [CLUSTER], "namespace": namespace},
            )
            for name in names
        ),
    )
    waiting = {f"target/default/{name}@{CLUSTER}" for name in names}
    seen = 0
    while waiting:
        await anyio.sleep(_POLL)
        for event in await product.events(seen, type="TargetSynced,CorrectionFailed"):
            if event["type"] == "CorrectionFailed":
                raise RuntimeError(f"a correction failed: {event['payload']}")
            waiting.discard(event["stream"])
            seen = event["position"]


async def quiet(product: Product, seconds: float) -> None:
    """Wait until nothing has been written for so many seconds."""
    position, since = await product.position(), anyio.current_time()
    while anyio.current_time() - since < seconds:
        await anyio.sleep(_POLL)
        now = await product.position()
        if now != position:
            position, since = now, anyio.current_time()
