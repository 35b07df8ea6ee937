"""From a live edit to its correction, beside a bare watch that applies again at once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.frame import CannotRun, Figure, percentile, say
from benchmarks.support.edits import Edits
from benchmarks.support.engine import first_sync, prepared
from benchmarks.support.places import REAL, SIMULATED, Place, place
from benchmarks.support.shops import applies, bare_apply, bare_loop, make_namespace, url_of
from tests.e2e.product import Product

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


async def figures(
    applications: int = 50, edits: int = 400, rate: float = 10.0, where: str = "all"
) -> AsyncIterator[Figure]:
    """Yield the distribution on each place; `where` is all, simulated or real, `rate` edits/s.

    A quarter of the edits each: replicas of a Deployment, a ServiceAccount deleted, a label of a
    Service changed, a label of an Ingress removed.
    """
    names = [f"shop-{number:05}" for number in range(applications)]
    for kind in [SIMULATED, REAL] if where == "all" else [where]:
        with tempfile.TemporaryDirectory(prefix="trueup-bench-") as temporary:
            folder = Path(temporary)
            try:
                async with place(kind, folder / "cluster") as cluster:
                    bare = await bare_edits(cluster, names, edits, rate)
                    ours = await _ours(cluster, folder, names, edits, rate)
            except CannotRun as why:
                if kind == where:
                    raise
                say(f"correct.{kind}: left out: {why}")
                continue
        params = {"applications": applications, "edits": edits, "rate": rate}
        for name, share in _SHARES.items():
            value, ceiling = percentile(ours, share), percentile(bare, share)
            yield Figure(f"correct.{kind}.{name}", 1000 * value, "ms", 1000 * ceiling, params)


async def _ours(
    cluster: Place, folder: Path, names: list[str], edits: int, rate: float
) -> list[float]:
    await make_namespace(cluster, "bench")
    async with Product(folder / "engine") as product:
        await prepared(product, cluster, names)
        await first_sync(product, "bench", names)
        return await Edits(cluster, "bench", names).run(edits, rate)


async def bare_edits(cluster: Place, names: list[str], edits: int, rate: float) -> list[float]:
    """Return the seconds that each edit lasts where a bare watch applies again at once."""
    await make_namespace(cluster, "bare")
    await bare_loop(cluster, "bare", names)
    bodies = dict(applies(cluster, "bare", names))
    async with cluster.session() as session:

        async def correct(kind: str, name: str) -> None:
            url = url_of(cluster, "bare", kind, name)
            await bare_apply(session, url, bodies[url])

        return await Edits(cluster, "bare", names, correct).run(edits, rate)
