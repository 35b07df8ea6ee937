"""The declared kinds: `Repository`, `Cluster`, `Application` (`apiVersion: trueup.dev/v1`).

Pure. Field names are written in camelCase in YAML. Unknown fields are refused. A field's
`description` is what `trueup explain` prints.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

API_VERSION = "trueup.dev/v1"
NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"

Name = Annotated[
    str,
    Meta(
        pattern=NAME_PATTERN,
        description="A name: lower-case letters, digits, - and ., at most 63.",
        examples=["shop"],
    ),
]
Duration = Annotated[
    str,
    Meta(
        pattern=r"^([0-9]{1,9}(ms|s|m|h))+$",
        description="A length of time: numbers with ms, s, m or h.",
        examples=["30s", "1h30m"],
    ),
]
EngineFile = Annotated[
    str,
    Meta(
        description="An absolute path on the engine's machine, below a configured root.",
        examples=["/etc/trueup/secrets/shop"],
    ),
]
Labels = Annotated[
    dict[str, str],
    Meta(description="Labels, as in Kubernetes.", examples=[{"stage": "prod"}]),
]
ApiVersion = Annotated[
    Literal["trueup.dev/v1"], Meta(description="The version of these kinds: trueup.dev/v1.")
]


class Model(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """What all declared structures have in common."""


class Metadata(Model, frozen=True):
    """How a resource is called."""

    name: Annotated[Name, Meta(description="The resource's name, unique in project and kind.")]
    project: Annotated[
        Name, Meta(description="What it belongs to; resources name others of their project.")
    ] = "default"
    labels: Annotated[Labels, Meta(description="What selectors look at.")] = {}


class GitRef(Model, frozen=True):
    """What is followed: exactly one of these; the remote's default branch where none is given."""

    branch: Annotated[
        str | None, Meta(description="A branch, by its short name.", examples=["main"])
    ] = None
    tag: Annotated[
        str | None, Meta(description="A tag, by its short name.", examples=["v1.2.0"])
    ] = None
    commit: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{40}$")] | None,
        Meta(description="A commit: all 40 hexadecimal digits. Nothing is followed then."),
    ] = None


class Credentials(Model, frozen=True):
    """Where secrets are, never what they are: each is a path below a configured root.

    `tokenFile` (with `username`, default "git") for https; `sshKeyFile` with `knownHostsFile`
    for ssh.
    """

    username: Annotated[str, Meta(description="Who the token belongs to, for https.")] = "git"
    token_file: Annotated[
        EngineFile | None, Meta(description="A file with a token or password, for https.")
    ] = None
    ssh_key_file: Annotated[
        EngineFile | None, Meta(description="A file with a private key, for ssh.")
    ] = None
    known_hosts_file: Annotated[
        EngineFile | None,
        Meta(
            description="A file with the hosts' keys, as ssh has it; a host not in it is refused."
        ),
    ] = None


class RepositorySpec(Model, frozen=True):
    """A Git repository and the ref that is followed."""

    url: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=2048,
            description="Where it is: https://, ssh://, git@host:path, or file:/// below the "
            "setting repository_roots. It holds no credentials.",
            examples=["https://git.example.com/shop.git", "git@git.example.com:shop.git"],
        ),
    ]
    ref: Annotated[GitRef, Meta(description="What is followed.")] = GitRef()
    credentials: Annotated[
        Credentials | None, Meta(description="Where secrets for it are, where it needs some.")
    ] = None
    interval: Annotated[
        Duration, Meta(description="How often it is fetched without being asked: 1s to 24h.")
    ] = "60s"
    control: Annotated[
        bool, Meta(description="Whether the resources that its YAML files declare are in force.")
    ] = False
    control_path: Annotated[
        str,
        Meta(
            max_length=1024,
            description="The folder that those files lie below.",
            examples=["trueup"],
        ),
    ] = "."
    control_allow_empty: Annotated[
        bool, Meta(description="Whether a folder without resources may withdraw all of them.")
    ] = False


CelExpression = Annotated[str, Meta(min_length=1, max_length=2000)]


class HealthRule(Model, frozen=True):
    """How objects of a kind fare, in CEL: each expression sees one as `object`.

    The first of `progressing`, `degraded`, `suspended` and `healthy` that is true decides; where
    none is, the object is progressing if there is a `healthy`, and else healthy.
    """

    kind: Annotated[str, Meta(min_length=1, description="The kind.", examples=["Widget"])]
    group: Annotated[str, Meta(description='Its API group; "" is the core group.')] = ""
    progressing: Annotated[
        CelExpression | None, Meta(description="Whether it is on its way to be well.")
    ] = None
    degraded: Annotated[CelExpression | None, Meta(description="Whether it has failed.")] = None
    suspended: Annotated[
        CelExpression | None, Meta(description="Whether it is paused on purpose.")
    ] = None
    healthy: Annotated[
        CelExpression | None,
        Meta(description="Whether it is well.", examples=["object.status.phase == 'Ready'"]),
    ] = None
    message: Annotated[CelExpression | None, Meta(description="What is said of it, as text.")] = (
        None
    )


class ClusterSpec(Model, frozen=True):
    """A Kubernetes API: a kubeconfig (path and context), or the cluster the engine runs in."""

    kubeconfig: Annotated[
        str | None,
        Meta(
            description="A kubeconfig on the engine's machine, below the setting kubeconfig_roots. "
            "It is read again when it changes.",
            examples=["/home/me/.kube/config"],
        ),
    ] = None
    context: Annotated[
        str | None,
        Meta(description="Which context of it; its current one where none is named."),
    ] = None
    in_cluster: Annotated[
        bool, Meta(description="Whether it is the cluster that the engine runs in.")
    ] = False
    health: Annotated[
        tuple[HealthRule, ...],
        Meta(
            max_length=100,
            description="How objects of some kinds fare, in the place of what is built in.",
        ),
    ] = ()


class Source(Model, frozen=True):
    """A path in a repository of the same project."""

    repository: Annotated[Name, Meta(description="The Repository, by name.")]
    path: Annotated[
        str,
        Meta(
            max_length=1024,
            description='The folder in it, from its top, which is ".".',
            examples=["overlays/prod"],
        ),
    ] = "."


class Render(Model, frozen=True):
    """How the path becomes objects; `auto` is kustomize where there is a kustomization file."""

    type: Annotated[
        Literal["auto", "plain", "kustomize"],
        Meta(
            description="`plain` takes each YAML and JSON file below the path, `kustomize` builds "
            "it, `auto` decides by whether there is a kustomization file."
        ),
    ] = "auto"


class LabelSelector(Model, frozen=True):
    """Clusters whose labels have all of these values."""

    match_labels: Annotated[
        dict[str, str],
        Meta(
            min_length=1,
            description="Labels and the values that they must have, all of them.",
            examples=[{"stage": "prod"}],
        ),
    ]


class Targets(Model, frozen=True):
    """Which clusters: by name, or by label; `namespace` is for objects that name none."""

    clusters: Annotated[
        tuple[Name, ...], Meta(description="Clusters by name.", examples=[["prod-eu", "prod-us"]])
    ] = ()
    selector: Annotated[
        LabelSelector | None,
        Meta(description="Clusters by label, those declared later too."),
    ] = None
    namespace: Annotated[
        str,
        Meta(description="Where objects go that name no namespace.", examples=["shop"]),
    ] = "default"


class Window(Model, frozen=True):
    """A time in which syncs are allowed, or denied: from each tick of a schedule, for a duration.

    A deny window that is open holds everything; where there are allow windows, one of them has to
    be open.
    """

    kind: Annotated[
        Literal["allow", "deny"], Meta(description="Whether syncs are allowed then, or denied.")
    ]
    schedule: Annotated[
        str,
        Meta(
            min_length=9,
            max_length=100,
            description="When it opens: five fields, as cron has them.",
            examples=["0 22 * * 1-5"],
        ),
    ]
    duration: Annotated[Duration, Meta(description="For how long it is open.")]
    time_zone: Annotated[
        str,
        Meta(
            max_length=64,
            description="Whose time the schedule is in: an IANA name.",
            examples=["Europe/Berlin"],
        ),
    ] = "UTC"


class Retry(Model, frozen=True):
    """How failed corrections are tried again: base doubled up to cap, limit times (0: for ever)."""

    limit: Annotated[
        int, Meta(ge=0, le=1000, description="How many times at most; 0 for as long as it takes.")
    ] = 0
    base: Annotated[
        Duration | None, Meta(description="The first pause; the setting retry_base else.")
    ] = None
    cap: Annotated[
        Duration | None, Meta(description="The longest pause; the setting retry_cap else.")
    ] = None


class Waves(Model, frozen=True):
    """How long a wave may take to be healthy before the next one, and what then."""

    timeout: Annotated[
        Duration, Meta(description="How long a wave's objects may take to be healthy.")
    ] = "10m"
    on_failure: Annotated[
        Literal["stop", "continue"],
        Meta(description="What becomes of the sync after that: it stops, or goes on all the same."),
    ] = "stop"


class Sync(Model, frozen=True):
    """When differences are corrected. `selfHeal`: also those that no commit explains.

    What is no longer desired is deleted where `prune` says so; a person is asked before, always
    with `confirmPrune`, and where more than `pruneLimit` percent of a target's objects would go.
    """

    mode: Annotated[
        Literal["auto", "manual"],
        Meta(description="`auto` rolls out each commit; `manual` waits for `trueup sync`."),
    ] = "auto"
    prune: Annotated[
        bool, Meta(description="Whether objects of ours that are no longer desired are deleted.")
    ] = True
    confirm_prune: Annotated[
        bool, Meta(description="Whether a person is asked before anything is deleted.")
    ] = False
    prune_limit: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="How many percent of a target's objects may go without asking.",
        ),
    ] = 50
    self_heal: Annotated[
        bool, Meta(description="Whether live edits that no commit explains are put right.")
    ] = True
    windows: Annotated[
        tuple[Window, ...], Meta(max_length=50, description="When syncs are allowed, or denied.")
    ] = ()
    dry_run: Annotated[
        bool,
        Meta(
            description="Whether the cluster is asked by dry runs, before the first request of a "
            "plan, whether it would take all of them: where it would not, none is sent."
        ),
    ] = False
    retry: Annotated[Retry, Meta(description="How failed corrections are tried again.")] = Retry()
    waves: Annotated[
        Waves, Meta(description="How waves wait for each other, where there are several.")
    ] = Waves()
    health_timeout: Annotated[
        Duration | None,
        Meta(description="How long a target may take to be healthy after a sync."),
    ] = None
    on_degraded: Annotated[
        Literal["nothing", "rollback"],
        Meta(
            description="What is done when a sync has not made a target healthy in time: it can go "
            "back to the last revision that was healthy, once."
        ),
    ] = "nothing"


class ObjectSelector(Model, frozen=True):
    """Objects by group, kind, namespace and name; what is not said selects nothing away."""

    group: Annotated[
        str | None,
        Meta(description='The API group; "" is the core group.', examples=["apps"]),
    ] = None
    kind: Annotated[str | None, Meta(description="The kind.", examples=["Deployment"])] = None
    namespace: Annotated[str | None, Meta(description="The namespace that it is in.")] = None
    name: Annotated[str | None, Meta(description="The object's name.")] = None


FieldPath = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=1024,
        description="A field with all that is below it: as `trueup diff` shows it "
        '(`[*]` is every list item), or a JSON pointer ("/spec/replicas").',
        examples=[".spec.replicas", '.spec.template.spec.containers[name="app"].image'],
    ),
]
Manager = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="A field manager, as `trueup diff` shows it.",
        examples=["kube-controller-manager"],
    ),
]


class Ignored(ObjectSelector, frozen=True):
    """Differences that are no drift: by path, by who made them, or both where both are said.

    They are still shown, and an apply leaves the live value as it is.
    """

    paths: Annotated[tuple[FieldPath, ...], Meta(max_length=100, description="Which fields.")] = ()
    managers: Annotated[
        tuple[Manager, ...], Meta(max_length=100, description="Whose changes.")
    ] = ()


class Allowed(ObjectSelector, frozen=True):
    """Fields of others that are welcome: by path, by who owns them, or both where both are said."""

    paths: Annotated[tuple[FieldPath, ...], Meta(max_length=100, description="Which fields.")] = ()
    managers: Annotated[tuple[Manager, ...], Meta(max_length=100, description="Whose fields.")] = ()


class ForeignFields(Model, frozen=True):
    """What becomes of fields that nobody declared and that others have set in our objects.

    What controllers of the cluster itself set is always welcome.
    """

    policy: Annotated[
        Literal["allow", "report", "remove"],
        Meta(
            description="`allow` shows them in `trueup diff`, `report` makes them drift that a "
            "person looks at, `remove` takes them out."
        ),
    ] = "allow"
    allow: Annotated[
        tuple[Allowed, ...], Meta(max_length=100, description="What is welcome all the same.")
    ] = ()


DriftWord = Literal["correct", "report", "adopt"]
_DRIFT_POLICY = Meta(
    description="`correct` puts it right, `report` leaves it to a person, `adopt` takes the live "
    "value until Git says something else of the object."
)
_DRIFT_AFTER = Meta(
    description="How long drift may last before it is put right: time for whoever made it."
)


class DriftRule(ObjectSelector, frozen=True):
    """How drift of some objects is met. The first rule that selects an object counts."""

    policy: Annotated[DriftWord, _DRIFT_POLICY] = "correct"
    after: Annotated[Duration, _DRIFT_AFTER] = "0s"


class Drift(Model, frozen=True):
    """How drift is met: what differs on the cluster though no commit says so."""

    policy: Annotated[DriftWord, _DRIFT_POLICY] = "correct"
    after: Annotated[Duration, _DRIFT_AFTER] = "0s"
    rules: Annotated[
        tuple[DriftRule, ...],
        Meta(max_length=100, description="Exceptions, by kind or object; the first that fits."),
    ] = ()


class ApplicationSpec(Model, frozen=True):
    """A path in a repository, how it is rendered, where it goes, how it is synced."""

    source: Annotated[Source, Meta(description="Where its manifests are.")]
    targets: Annotated[Targets, Meta(description="Which clusters it goes to.")]
    render: Annotated[Render, Meta(description="How manifests become objects.")] = Render()
    sync: Annotated[Sync, Meta(description="When differences are corrected.")] = Sync()
    drift: Annotated[Drift, Meta(description="How drift is met.")] = Drift()
    ignore_differences: Annotated[
        tuple[Ignored, ...],
        Meta(max_length=100, description="Differences that are no drift."),
    ] = ()
    foreign_fields: Annotated[
        ForeignFields, Meta(description="What becomes of fields that nobody declared.")
    ] = ForeignFields()
    depends_on: Annotated[
        tuple[Name, ...],
        Meta(
            max_length=50,
            description="Applications of its project that have to be synced and healthy on the "
            "same cluster first.",
            examples=[["database"]],
        ),
    ] = ()
    on_removal: Annotated[
        Literal["leave", "cascade"],
        Meta(description="What becomes of its objects when a control repository drops its file."),
    ] = "leave"


class Webhook(Model, frozen=True):
    """An HTTP endpoint that takes CloudEvents; `urlFile` where the URL itself is a secret.

    `secretFile` holds what requests are signed with: `whsec_…`, or a line of text.
    """

    secret_file: Annotated[
        EngineFile, Meta(description="A file with the secrets that requests are signed with.")
    ]
    url: Annotated[
        Annotated[str, Meta(min_length=1, max_length=2048)] | None,
        Meta(description="Where to send.", examples=["https://hooks.example.com/trueup"]),
    ] = None
    url_file: Annotated[
        EngineFile | None, Meta(description="A file with the URL, where that is a secret.")
    ] = None


class Slack(Model, frozen=True):
    """An incoming webhook of Slack's, or of what speaks like it; the URL is the secret."""

    url_file: Annotated[EngineFile, Meta(description="A file with the incoming webhook's URL.")]


class NotificationSpec(Model, frozen=True):
    """Which alerts, and where to. What is not said selects nothing away."""

    events: Annotated[
        tuple[Literal["drift", "failed", "held", "cluster-lost", "recovered"], ...],
        Meta(description="Which kinds of alerts; none named: all."),
    ] = ()
    projects: Annotated[
        tuple[str, ...],
        Meta(description='Projects other than its own, "*" for all; in project default only.'),
    ] = ()
    applications: Annotated[
        tuple[Name, ...], Meta(description="Only alerts about these applications.")
    ] = ()
    clusters: Annotated[
        tuple[Name, ...], Meta(description="Only alerts about these clusters.")
    ] = ()
    selector: Annotated[
        LabelSelector | None,
        Meta(description="Only where application, cluster and repository together have these."),
    ] = None
    webhook: Annotated[Webhook | None, Meta(description="An endpoint for CloudEvents.")] = None
    slack: Annotated[Slack | None, Meta(description="A channel, through its webhook.")] = None
    give_up_after: Annotated[
        Duration, Meta(description="How long delivery may fail before no more is tried.")
    ] = "72h"


class Notification(Model, frozen=True, tag_field="kind", tag="Notification"):
    """Who is told of what."""

    api_version: ApiVersion
    metadata: Metadata
    spec: NotificationSpec


class Repository(Model, frozen=True, tag_field="kind", tag="Repository"):
    """A Git repository and the ref that is followed."""

    api_version: ApiVersion
    metadata: Metadata
    spec: RepositorySpec


class Cluster(Model, frozen=True, tag_field="kind", tag="Cluster"):
    """A Kubernetes API that applications go to."""

    api_version: ApiVersion
    metadata: Metadata
    spec: ClusterSpec


class Application(Model, frozen=True, tag_field="kind", tag="Application"):
    """What runs where."""

    api_version: ApiVersion
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
