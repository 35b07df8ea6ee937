"""Taking over what another tool manages: its fields become ours, and nothing in the object changes.

Pure. By the way that Kubernetes documents for moving from client-side to server-side apply: the
other's entries of managedFields are merged into ours, by a patch that holds only while the object
is as it was. What we then apply without declaring it goes, and the rest stays, so that a pod
template that is declared as it is does not change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from engine.objects.fieldset import FieldSet
from engine.objects.managed import entries_of
from engine.objects.ownership import MANAGER
from engine.objects.removal import version_kept

TOOLS: Final = frozenset(
    {
        "before-first-apply",
        "kubectl",
        "kubectl-client-side-apply",
        "kubectl-create",
        "kubectl-replace",
        "helm",
        "argocd-controller",
        "argocd-application-controller",
        "kustomize-controller",
        "helm-controller",
    }
)
"""Field managers of what deploys: kubectl, Helm, Argo CD, Flux. What people edit is not theirs."""


def adopted(
    live: Mapping[str, Any], api_version: str, managers: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the JSON patch that makes the tools' fields ours; [] where they have none.

    `managers` are further ones. Entries of a subresource stay, and so do those in another API
    version, whose fields might mean something else. Raises `ObjectRefused("bad-fields")`.
    """
    fields, times = FieldSet({}), [""]
    rest: list[Any] = []
    is_taken = False
    for entry, raw in zip(entries_of(live), _raw(live), strict=True):
        is_tools = entry.manager in TOOLS or entry.manager in managers
        if not entry.subresource and (
            entry.is_own() or (is_tools and entry.api_version == api_version)
        ):
            fields |= entry.fields
            times.append(entry.time)
            is_taken = is_taken or not entry.is_own()
        else:
            rest.append(raw)
    if not is_taken:
        return []
    ours = {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields.raw(),
        **({"time": max(times)} if max(times) else {}),
    }
    replaced = {"op": "replace", "path": "/metadata/managedFields", "value": [ours, *rest]}
    return [version_kept(live), replaced]


def _raw(live: Mapping[str, Any]) -> list[Any]:
    managed = live["metadata"].get("managedFields")
    if not isinstance(managed, list):
        return []
    return [entry for entry in managed if isinstance(entry, Mapping)]
