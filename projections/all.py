"""All views of Trueup, in one place: what a runner folds, and what `rebuild` can name.

Pure.
"""

from __future__ import annotations

from typing import Any

from projections.alerts import ALERTS
from projections.cases import CASES
from projections.clusters import CLUSTERS
from projections.commits import COMMITS
from projections.corrections import CORRECTIONS
from projections.declared import DECLARED
from projections.desired import DESIRED
from projections.drift import DRIFT
from projections.fleet import FLEET
from projections.notifications import NOTIFICATIONS
from projections.observed import OBSERVED
from projections.people import PEOPLE
from projections.projection import Projection, SubjectIndex
from projections.sources import SOURCES
from projections.targets import TARGETS
from projections.timeline import TIMELINE
from projections.tokens import TOKENS
from projections.waiting import WAITING

DOCUMENT_VIEWS: tuple[Projection[Any], ...] = (
    DECLARED,
    SOURCES,
    DESIRED,
    CLUSTERS,
    OBSERVED,
    TARGETS,
    DRIFT,
    CASES,
    CORRECTIONS,
    COMMITS,
    TOKENS,
    NOTIFICATIONS,
    FLEET,
    WAITING,
    PEOPLE,
)
SUBJECT_VIEWS: tuple[SubjectIndex, ...] = (TIMELINE, ALERTS)
