"""Which alerts a notification is for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from engine.resources.model import NotificationSpec
from events.event import stream
from projections.alerts import ALL, Alert, alerts_subject


def subject_of(spec: NotificationSpec, project: str) -> str:
    """Return the subject that holds every alert that can be for a notification of a project."""
    wanted = set(spec.projects) or {project}
    return alerts_subject(wanted.pop()) if len(wanted) == 1 and "*" not in wanted else ALL


def concerns(spec: NotificationSpec, project: str, alert: Alert, labels: Mapping[str, str]) -> bool:
    """Say whether an alert is for a notification; `labels` are those of what it is about."""
    projects = spec.projects or (project,)
    return (
        ("*" in projects or alert.project in projects)
        and (not spec.events or str(alert.kind) in spec.events)
        and (not spec.applications or alert.application in spec.applications)
        and (not spec.clusters or alert.cluster in spec.clusters)
        and (spec.selector is None or spec.selector.match_labels.items() <= labels.items())
    )


def labelled(alert: Alert) -> list[str]:
    """Return the streams of the resources whose labels count: the cluster's go before."""
    return [
        stream(kind, alert.project, name)
        for kind, name in (
            ("repo", alert.repository),
            ("app", alert.application),
            ("cluster", alert.cluster),
        )
        if name
    ]
