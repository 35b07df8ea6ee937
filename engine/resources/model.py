"""The declared kinds: `Repository`, `Cluster`, `Application` (`apiVersion: trueup.dev/v1`).

Pure. Field names are written in camelCase in YAML. Unknown fields are refused. A field's
`description` is what `trueup explain` prints.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

API_VERSION = "trueup.dev/v1"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"

Name = Annotated[str, Meta(pattern=NAME_PATTERN, description="DNS label or subdomain, 63 chars")]
Duration = Annotated[
    str, Meta(pattern=r"^([0-9]+(ms|s|m|h))+$", description="for example 30s, 5m, 1h30m")
]


class Model(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What all declared structures have in common."""


class Metadata(Model, frozen=True):
    """How a resource is called."""

    name: Name
    project: Name = "default"
    labels: dict[str, str] = {}


class GitRef(Model, frozen=True):
    """What is followed: exactly one of these; the remote's default branch where none is given."""

    branch: str | None = None
    tag: str | None = None
    commit: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")] | None = None


class Credentials(Model, frozen=True):
    """Where secrets are, never what they are: each is a path below a configured root.

    `tokenFile` (with `username`, default "git") for https; `sshKeyFile` with `knownHostsFile`
    for ssh.
    """

    username: str = "git"
    token_file: str | None = None
    ssh_key_file: str | None = None
    known_hosts_file: str | None = None


class RepositorySpec(Model, frozen=True):
    """A Git repository and the ref that is followed."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    ref: GitRef = GitRef()
    credentials: Credentials | None = None
    interval: Duration = "60s"
    control: Annotated[
        bool, Meta(description="whether the resources that its YAML files declare are in force")
    ] = False
    control_path: Annotated[
        str, Meta(max_length=1024, description="the folder that those files lie below")
    ] = "."
    control_allow_empty: Annotated[
        bool, Meta(description="whether a folder without resources may withdraw all of them")
    ] = False


class ClusterSpec(Model, frozen=True):
    """A Kubernetes API: a kubeconfig (path and context), or the cluster the engine runs in."""

    kubeconfig: str | None = None
    context: str | None = None
    in_cluster: bool = False


class Source(Model, frozen=True):
    """A path in a repository of the same project."""

    repository: Name
    path: Annotated[str, Meta(max_length=1024)] = "."


class Render(Model, frozen=True):
    """How the path becomes objects; `auto` is kustomize where there is a kustomization file."""

    type: Literal["auto", "plain", "kustomize"] = "auto"


class LabelSelector(Model, frozen=True):
    """Clusters whose labels have all of these values."""

    match_labels: Annotated[dict[str, str], Meta(min_length=1)]


class Targets(Model, frozen=True):
    """Which clusters: by name, or by label; `namespace` is for objects that name none."""

    clusters: tuple[Name, ...] = ()
    selector: LabelSelector | None = None
    namespace: str = "default"


class Window(Model, frozen=True):
    """A time in which syncs are allowed, or denied: from each tick of a schedule, for a duration.

    A deny window that is open holds everything; where there are allow windows, one of them has to
    be open.
    """

    kind: Literal["allow", "deny"]
    schedule: Annotated[
        str,
        Meta(
            min_length=9,
            max_length=100,
            description="cron, five fields: for example 0 22 * * 1-5",
        ),
    ]
    duration: Duration
    time_zone: Annotated[
        str, Meta(max_length=64, description="IANA name, for example Europe/Berlin")
    ] = "UTC"


class Retry(Model, frozen=True):
    """How failed corrections are tried again: base doubled up to cap, limit times (0: for ever)."""

    limit: Annotated[int, Meta(ge=0, le=1000)] = 0
    base: Duration | None = None
    cap: Duration | None = None


class Sync(Model, frozen=True):
    """When differences are corrected. `selfHeal`: also those that no commit explains.

    What is no longer desired is deleted where `prune` says so; a person is asked before, always
    with `confirmPrune`, and where more than `pruneLimit` percent of a target's objects would go.
    """

    mode: Literal["auto", "manual"] = "auto"
    prune: bool = True
    confirm_prune: bool = False
    prune_limit: Annotated[int, Meta(ge=0, le=100, description="percent")] = 50
    self_heal: bool = True
    windows: Annotated[tuple[Window, ...], Meta(max_length=50)] = ()
    retry: Retry = Retry()


class ApplicationSpec(Model, frozen=True):
    """A path in a repository, how it is rendered, where it goes, how it is synced."""

    source: Source
    targets: Targets
    render: Render = Render()
    sync: Sync = Sync()
    on_removal: Annotated[
        Literal["leave", "cascade"],
        Meta(description="what becomes of its objects when a control repository drops its file"),
    ] = "leave"


class Webhook(Model, frozen=True):
    """An HTTP endpoint that takes CloudEvents; `urlFile` where the URL itself is a secret.

    `secretFile` holds what requests are signed with: `whsec_…`, or a line of text.
    """

    secret_file: str
    url: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    url_file: str | None = None


class Slack(Model, frozen=True):
    """An incoming webhook of Slack's, or of what speaks like it; the URL is the secret."""

    url_file: str


class NotificationSpec(Model, frozen=True):
    """Which alerts, and where to. What is not said selects nothing away."""

    events: Annotated[
        tuple[Literal["drift", "failed", "held", "cluster-lost", "recovered"], ...],
        Meta(description="which kinds of alerts; none named: all"),
    ] = ()
    projects: Annotated[
        tuple[str, ...],
        Meta(description='projects other than its own, "*" for all; in project default only'),
    ] = ()
    applications: Annotated[
        tuple[Name, ...], Meta(description="only alerts about these applications")
    ] = ()
    clusters: Annotated[tuple[Name, ...], Meta(description="only alerts about these clusters")] = ()
    selector: Annotated[
        LabelSelector | None,
        Meta(description="only where application, cluster and repository together have these"),
    ] = None
    webhook: Webhook | None = None
    slack: Slack | None = None
    give_up_after: Annotated[
        Duration, Meta(description="how long delivery may fail before no more is tried")
    ] = "72h"


class Notification(Model, frozen=True, tag_field="kind", tag="Notification"):
    """Who is told of what."""

    api_version: Literal["trueup.dev/v1"]
    metadata: Metadata
    spec: NotificationSpec


class Repository(Model, frozen=True, tag_field="kind", tag="Repository"):
    """A Git repository and the ref that is followed."""

    api_version: Literal["trueup.dev/v1"]
    metadata: Metadata
    spec: RepositorySpec


class Cluster(Model, frozen=True, tag_field="kind", tag="Cluster"):
    """A Kubernetes API that applications go to."""

    api_version: Literal["trueup.dev/v1"]
    metadata: Metadata
    spec: ClusterSpec


class Application(Model, frozen=True, tag_field="kind", tag="Application"):
    """What runs where."""

    api_version: Literal["trueup.dev/v1"]
    metadata: Metadata
    spec: ApplicationSpec


Resource = Repository | Cluster | Application | Notification
STREAM_KINDS = {
    "Repository": "repo",
    "Cluster": "cluster",
    "Application": "app",
    "Notification": "notification",
}
"""The first part of a resource's stream name, by kind."""
