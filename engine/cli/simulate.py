"""`trueup simulate`: Kubernetes APIs to try things on."""

from __future__ import annotations

import sys
from pathlib import Path

ENVIRONMENTS = ("dev", "staging", "prod")


def names_of(number: int) -> list[str]:
    """Name so many clusters: dev, staging, prod, and numbered ones after them."""
    return [*ENVIRONMENTS, *(f"cluster-{place}" for place in range(4, number + 1))][:number]


def simulate(*, clusters: int = 3, kubeconfig: Path | None = None, port: int = 0) -> None:
    """Serve simulated clusters on loopback until Ctrl-C; write a kubeconfig with their contexts.

    For example:

        trueup simulate --clusters 3 --kubeconfig ./kubeconfig
    """
    from engine.simulator.main import main

    if clusters < 1:
        sys.stderr.write("trueup simulate: --clusters must be 1 or more\n")
        raise SystemExit(2)
    arguments = ["--clusters", ",".join(names_of(clusters)), "--port", str(port)]
    if kubeconfig is not None:
        arguments += ["--kubeconfig", str(kubeconfig)]
    sys.exit(main(arguments))
