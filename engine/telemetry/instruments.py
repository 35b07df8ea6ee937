"""Everything that is measured: one instrument each, with its unit, its labels and what it tells.

The only list of metrics there is: docs, dashboards and alerts are held to it by tests. No
instrument names a cluster, an application or a commit unless the operator asks for the first two,
for then the number of time series grows with the fleet. Until the SDK is started, recording does
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

_SUFFIXES = {"s": "_seconds", "By": "_bytes"}
Labels = Mapping[str, str | int]
Reading = tuple[float, Labels]
_QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds in seconds for what takes milliseconds: appends, requests."""
_WORK = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""Bounds in seconds for what takes up to minutes: attempts, renders, fetches."""
_STORY = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Bounds in seconds for what takes up to hours: from a commit to a synced target."""
_EVENTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Live(Protocol):
    """An instrument of the SDK."""

    def record(self, amount: float, attributes: Labels) -> None:
        """Take a value of a histogram."""
        ...

    def add(self, amount: float, attributes: Labels) -> None:
        """Add to a counter."""
        ...


class Instrument:
    """What all have in common: `labels` are those that it may have."""

    def __init__(self, name: str, unit: str, about: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.unit, self.about, self.labels = name, unit, about, labels
        self._live: Live | None = None
        ALL.append(self)

    @property
    def exposed(self) -> str:
        """The name of its family on Prometheus' page; a counter's series end in `_total`."""
        return exposed(self.name) + _SUFFIXES.get(self.unit, "")

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series on Prometheus' page."""
        return (self.exposed,)

    def use(self, live: Live | None) -> None:
        """Record with this from now on; None: do not."""
        self._live = live


class Histogram(Instrument):
    """How values are distributed over `buckets`."""

    def __init__(
        self,
        name: str,
        unit: str,
        about: str,
        labels: tuple[str, ...] = (),
        *,
        buckets: tuple[float, ...],
    ) -> None:
        super().__init__(name, unit, about, labels)
        self.buckets = buckets

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series on Prometheus' page."""
        return tuple(f"{self.exposed}_{part}" for part in ("bucket", "count", "sum"))

    def record(self, value: float, labels: Labels | None = None) -> None:
        """Take a value."""
        if self._live is not None:
            self._live.record(max(value, 0.0), labels or {})


class Counter(Instrument):
    """How often something happened."""

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series on Prometheus' page."""
        return (f"{self.exposed}_total",)

    def add(self, number: int = 1, labels: Labels | None = None) -> None:
        """Count."""
        if self._live is not None:
            self._live.add(number, labels or {})


class Gauge(Instrument):
    """What is so now: asked for when the metrics are collected. `grows` where it never falls."""

    def __init__(
        self,
        name: str,
        unit: str,
        about: str,
        labels: tuple[str, ...] = (),
        *,
        grows: bool = False,
    ) -> None:
        super().__init__(name, unit, about, labels)
        self.grows = grows
        self._reading: Callable[[], Iterable[Reading]] | None = None

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series on Prometheus' page."""
        return (f"{self.exposed}_total" if self.grows else self.exposed,)

    def ask(self, reading: Callable[[], Iterable[Reading]] | None) -> None:
        """Ask this from now on; None: there is nothing to tell. It must be quick and not wait."""
        self._reading = reading

    def read(self) -> Iterable[Reading]:
        """Return what is so now."""
        return self._reading() if self._reading is not None else ()


def exposed(name: str) -> str:
    """Return what a name of OpenTelemetry's is on Prometheus' page."""
    return name.replace(".", "_")


class Breakdown:
    """Whether clusters and applications are labels: the operator's choice, made once."""

    cluster = False
    application = False


def broken_down(cluster: str, application: str = "") -> dict[str, str | int]:
    """Return the labels that the operator asked for besides an instrument's own."""
    labels: dict[str, str | int] = {}
    if Breakdown.cluster:
        labels["k8s.cluster.name"] = cluster
    if Breakdown.application and application:
        labels["trueup.application"] = application
    return labels


ALL: list[Instrument] = []
"""Every instrument, in the order in which docs list them."""
BY_TARGET = ("k8s.cluster.name", "trueup.application")
BY_CLUSTER = ("k8s.cluster.name",)
OPTIONAL = frozenset(BY_TARGET)
"""Labels that are there only where `metrics_labels` asks for them."""

# Reconciling.

QUEUE_DEPTH = Gauge("trueup.queue.depth", "{target}", "Targets that wait for their turn.")
QUEUE_WORKING = Gauge("trueup.queue.working", "{target}", "Targets that are worked on.")
QUEUE_WAIT = Histogram(
    "trueup.queue.wait", "s", "How long a target waited for its turn.", BY_TARGET, buckets=_WORK
)
RECONCILE_DURATION = Histogram(
    "trueup.reconcile.duration",
    "s",
    "How long an attempt at a target took, by what it came to.",
    ("trueup.outcome", *BY_TARGET),
    buckets=_WORK,
)
CORRECTIONS = Counter(
    "trueup.corrections",
    "{correction}",
    "Corrections that ended, by outcome and by what they were for.",
    ("trueup.outcome", "trueup.cause", *BY_TARGET),
)
CORRECTION_LATENCY = Histogram(
    "trueup.correction.latency",
    "s",
    "From DriftDetected to the CorrectionApplied that mended it.",
    BY_TARGET,
    buckets=_STORY,
)
COMMIT_TO_SYNCED = Histogram(
    "trueup.commit.to_synced",
    "s",
    "From RefMoved to the TargetSynced at its commit, once for each target and commit.",
    BY_TARGET,
    buckets=_STORY,
)
APPLIED_TO_HEALTHY = Histogram(
    "trueup.applied.to_healthy",
    "s",
    "From CorrectionApplied to the target being healthy again.",
    BY_TARGET,
    buckets=_STORY,
)
FAULTS = Counter(
    "trueup.faults",
    "{fault}",
    "Faults of ours that were logged and worked around: each is a bug.",
    ("trueup.part",),
)

# The fleet, as its views have it.

TARGETS = Gauge(
    "trueup.targets",
    "{target}",
    "Targets by state, as `trueup get targets` tells it.",
    ("trueup.target.state", *BY_TARGET),
)
HEALTHS = Gauge(
    "trueup.targets.health", "{target}", "Targets by health.", ("trueup.health", *BY_TARGET)
)
DRIFT_OPEN = Gauge("trueup.drift.open", "{case}", "Drift cases that are open.")
DRIFT_AGE = Gauge("trueup.drift.age", "s", "How long the oldest open drift case has been open.")
CLUSTERS = Gauge(
    "trueup.clusters",
    "{cluster}",
    "Declared clusters by whether they answer.",
    ("trueup.cluster.state", *BY_CLUSTER),
)
OBSERVATION_AGE = Gauge(
    "trueup.observation.age",
    "s",
    "How long ago what is known of a cluster was last known to be so; of the oldest, or of each.",
    BY_CLUSTER,
)

# The log and its views.

APPEND_DURATION = Histogram(
    "trueup.log.append.duration",
    "s",
    "How long an append took from being asked for to being committed.",
    ("error.type",),
    buckets=_QUICK,
)
BATCH_EVENTS = Histogram(
    "trueup.log.batch.events",
    "{event}",
    "Events that were committed together.",
    buckets=_EVENTS,
)
BATCH_DURATION = Histogram(
    "trueup.log.batch.duration", "s", "How long one commit of the log took.", buckets=_QUICK
)
LOG_POSITION = Gauge("trueup.log.position", "{event}", "The last position of the log.", grows=True)
PROJECTION_LAG = Gauge(
    "trueup.projection.lag", "{event}", "Events that the views have not folded yet."
)
PROJECTION_AGE = Gauge(
    "trueup.projection.age", "s", "How long the oldest event that is not folded has waited."
)
PARKED = Gauge(
    "trueup.projection.parked",
    "{document}",
    "Documents of views that stay as they were because a fold failed.",
)

UNSIGNED_AGE = Gauge(
    "trueup.log.unsigned.age",
    "s",
    "How long the oldest event has waited that no signed checkpoint covers.",
)

# The world.

FETCH_DURATION = Histogram(
    "trueup.source.fetch.duration",
    "s",
    "How long a look at a repository took.",
    ("error.type",),
    buckets=_WORK,
)
RENDER_DURATION = Histogram(
    "trueup.render.duration",
    "s",
    "How long finding out what a commit means for one application took.",
    ("error.type",),
    buckets=_WORK,
)
CLUSTER_REQUEST = Histogram(
    "trueup.cluster.request.duration",
    "s",
    "How long a request to a cluster took, until its answer was read; watches are not counted.",
    ("http.request.method", "http.response.status_code", "error.type", *BY_CLUSTER),
    buckets=_QUICK,
)
OBSERVATIONS = Counter(
    "trueup.observations",
    "{observation}",
    "Changes of objects that were recorded.",
    BY_CLUSTER,
)

NOTIFICATIONS = Counter(
    "trueup.notifications",
    "{request}",
    "Requests to receivers of notifications, by what came of them.",
    ("trueup.outcome",),
)

# The process.

CACHES = Gauge(
    "trueup.cache.usage",
    "By",
    "What is kept at hand though it could be read or made again, by what it is.",
    ("trueup.cache",),
)
KEPT_FORMS_READ = Counter(
    "trueup.kept_forms.read",
    "{form}",
    "Kept forms that were read from the log because they were not at hand.",
)
HTTP_SERVER = Histogram(
    "http.server.request.duration",
    "s",
    "How long a request was being answered.",
    ("http.request.method", "http.route", "http.response.status_code"),
    buckets=_QUICK,
)
LEADING = Gauge(
    "trueup.engine.leading", "1", "1 for the engine that has the lease and works, 0 for a standby."
)
MEMORY = Gauge("process.memory.usage", "By", "Memory of the engine's process, resident.")
CPU_TIME = Gauge(
    "process.cpu.time", "s", "Processor time of the engine's process.", ("cpu.mode",), grows=True
)


def markdown() -> str:
    """Return the table of all instruments, as `docs/telemetry.md` has it."""
    lines = ["| metric | for Prometheus | unit | labels | what it tells |", "|---|---|---|---|---|"]
    for made in ALL:
        labels = ", ".join(f"`{name}`{'?' if name in OPTIONAL else ''}" for name in made.labels)
        names = made.series[0].removesuffix("_bucket")
        unit = made.unit.strip("{}")
        lines.append(f"| `{made.name}` | `{names}` | {unit} | {labels} | {made.about} |")
    return "\n".join(lines) + "\n"
