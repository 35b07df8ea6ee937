"""The whole bodies that a plan applies: from the blobs, or rendered again where they are secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from engine.decide.assignment import application_spec
from engine.ports import Owner, Renderer, RenderRefused
from engine.reconcile.act import BodyRefused
from engine.reconcile.resolve import Trees
from engine.situations import read_kept_bodies
from events.catalog import CorrectionPlanned
from events.event import digest_of
from events.log import EventLog
from events.vocabulary import Action
from projections.declared import DECLARED
from projections.views import Views


class RenderedBodies:
    """Finds bodies by digest; what is not stored, or no longer, is rendered once more."""

    def __init__(self, log: EventLog, views: Views, trees: Trees, renderer: Renderer) -> None:
        self._log, self._views, self._trees, self._renderer = log, views, trees, renderer

    async def of(
        self, plan: CorrectionPlanned, application: str, actions: Sequence[Action]
    ) -> dict[str, dict[str, Any]]:
        """Return each action's body by digest; raises `BodyRefused`."""
        plain = {action.desired for action in actions if not action.secret}
        stored = await read_kept_bodies(self._log, plain)
        for digest, body in stored.items():
            if digest_of(body) != digest:
                raise BodyRefused(f"the stored body {digest} was altered; run `trueup fsck`")
        whole: dict[str, dict[str, Any]] = {
            digest: orjson.loads(body) for digest, body in stored.items()
        }
        if any(action.desired not in whole for action in actions):
            whole |= await self._rendered(plan.commit, application)
        missing = [action for action in actions if action.desired not in whole]
        if missing:
            raise BodyRefused(
                f"commit {plan.commit[:12]} no longer renders to the planned "
                f"{missing[0].ref}: the correction is not made"
            )
        return whole

    async def _rendered(self, commit: str, application: str) -> dict[str, dict[str, Any]]:
        project, _, name = application.partition("/")
        async with self._views.snapshot() as reader:
            declared = await reader.get(DECLARED, f"app/{application}")
        if declared is None or declared.document.withdrawn:
            raise BodyRefused(f"application {name} was withdrawn")
        spec = application_spec(declared.document)
        repository = f"repo/{project}/{spec.source.repository}"
        owner = Owner(self._log.log_id, project, name)
        try:
            tree = await self._trees.tree(repository, commit)
            rendered = await self._renderer.render(tree, spec.source.path, spec.render, owner)
        except RenderRefused as refused:
            raise BodyRefused(f"it could not be rendered again: {refused.message}") from None
        return {
            desired.digest: rendered.secrets[desired.ref.identity]
            if desired.secret
            else orjson.loads(rendered.bodies[desired.digest])
            for desired in rendered.objects
        }
