"""Dry runs for those who ask what a plan would come to, while the engine works."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from engine.ports import Answer, NotRehearsed
from engine.reconcile.act import Bodies, BodyRefused
from engine.reconcile.reconciler import Clusters
from engine.reconcile.requests import rehearse
from events.catalog import CorrectionPlanned, Facts
from events.vocabulary import Action, Verb
from projections.fold import TargetId

_AT_ONCE = 16
_TIME = 30.0
"""Seconds that all dry runs of a plan may take together."""


class Rehearser:
    """Asks clusters what they would answer; they are there once the engine works."""

    def __init__(self) -> None:
        self._clusters: Clusters | None = None
        self._bodies: Bodies | None = None
        self._limit = anyio.CapacityLimiter(_AT_ONCE)

    def works_with(self, clusters: Clusters, bodies: Bodies) -> None:
        """Say whom to ask, and where bodies come from."""
        self._clusters, self._bodies = clusters, bodies

    async def of(
        self, target: TargetId, commit: str, actions: Sequence[Action]
    ) -> Sequence[Answer]:
        """Return what each action would come to. Raises `NotRehearsed`."""
        port = self._clusters.port(target.cluster_stream) if self._clusters else None
        if port is None or self._bodies is None:
            raise NotRehearsed(f"cluster {target.cluster} is not at hand: try again shortly")
        plan = CorrectionPlanned(commit, Facts(0), tuple(actions), "request")
        applies = [action for action in actions if action.verb is Verb.APPLY]
        try:
            with anyio.fail_after(_TIME):
                whole = await self._bodies.of(
                    plan, f"{target.project}/{target.application}", applies
                )
                answers = await rehearse(
                    actions, port, whole, lambda: self._limit, anyio.Semaphore(4)
                )
        except BodyRefused as refused:
            raise NotRehearsed(str(refused)) from None
        except TimeoutError:
            message = f"cluster {target.cluster} did not answer all of it within {_TIME:.0f} s"
            raise NotRehearsed(message) from None
        return [answers[index] for index in range(len(actions))]
