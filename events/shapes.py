"""Which fields a type gained with which schema. Pure.

A field may be added to a type where it has a default: then payloads of earlier schemas read as they
are. That it was added still matters to whoever asks what an earlier release meant: a field that it
did not know is left out of what it wrote, and so is one that it knew and left at its default. The
schema number tells these two apart.

`tests/histories/shapes.json` has the shape of every schema of every type; a test fails where one
changes without a new number.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from events.catalog import CATALOG

ADDED: Final[Mapping[tuple[str, int], tuple[str, ...]]] = {
    ("CommitSeen", 2): ("author", "committer"),
    ("CorrectionApplied", 2): ("results.left",),
    ("CorrectionFailed", 2): ("results.left",),
    ("CorrectionPlanned", 2): (
        "actions.adopt",
        "actions.hook",
        "actions.leave",
        "actions.managers",
        "actions.owners",
        "actions.paths",
        "remaining",
        "rest",
        "run",
        "stage",
    ),
    ("DriftDetected", 2): ("seen",),
    ("DriftResolved", 2): ("seen",),
    ("HealthChanged", 2): ("seen",),
    ("HoldLifted", 2): ("seen",),
    ("ReconcileHeld", 2): ("seen", "waits_for"),
    ("RollbackLifted", 2): ("after_failure",),
    ("RolledBack", 2): ("instead", "seen"),
    ("TargetSynced", 2): ("count", "seen"),
}
"""Field paths (list indexes left out) by the type and the schema that it has them since."""


@cache
def unknown_to(name: str, schema: int) -> frozenset[str]:
    """Return the field paths that a type has today and had not yet at a schema."""
    today = CATALOG[name].schema
    return frozenset(
        path for later in range(schema + 1, today + 1) for path in ADDED.get((name, later), ())
    )
