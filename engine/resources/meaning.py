"""What a resource's shape cannot say: fields that exclude or need each other, and syntax.

Pure. Whether a path is allowed, or another resource exists, is for the server to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from engine.resources import duration, windows
from engine.resources.expression import expression_fault
from engine.resources.field_path import field_path_fault
from engine.resources.model import (
    NAME_PATTERN,
    Allowed,
    Application,
    Cluster,
    Credentials,
    Drift,
    DriftRule,
    GitRef,
    HealthRule,
    Ignored,
    Notification,
    Repository,
    Resource,
    Targets,
    Webhook,
)
from engine.resources.shape import Fault, Path

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-f:.]+")
_SCP = re.compile(r"(?:[A-Za-z0-9._-]+@)?([A-Za-z0-9][A-Za-z0-9.-]*):(?!/)(\S+)")
_NOT_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/]|/$|\.$|\.lock(/|$)|(^|/)\.")
SHORTEST_INTERVAL, LONGEST_INTERVAL = 1.0, 86_400.0
_HEALTHS = ("progressing", "degraded", "suspended", "healthy")
LONGEST_GRACE = 31 * 86_400.0


def faults(resource: Resource) -> Iterator[Fault]:
    """Yield what is wrong with a resource of the right shape."""
    yield from _labels(resource.metadata.labels, ("metadata", "labels"))
    match resource:
        case Repository():
            yield from _repository(resource)
        case Cluster():
            yield from _cluster(resource)
        case Application():
            yield from _application(resource)
        case Notification():
            yield from _notification(resource)


def url_scheme(url: str) -> str:
    """Return `file`, `https` or `ssh` (also for `git@host:path`), "" for anything else."""
    scheme, sep, _ = url.partition("://")
    if sep:
        return scheme if scheme in ("file", "https", "ssh") else ""
    return "ssh" if _SCP.fullmatch(url) else ""


def _repository(resource: Repository) -> Iterator[Fault]:
    spec = resource.spec
    yield from _url(spec.url)
    yield from _ref(spec.ref)
    if spec.credentials is not None:
        yield from _credentials(spec.credentials, url_scheme(spec.url))
    elif url_scheme(spec.url) == "ssh":
        yield Fault(("spec", "credentials"), "is missing: ssh needs sshKeyFile and knownHostsFile")
    interval = duration.seconds(spec.interval)
    if not SHORTEST_INTERVAL <= interval <= LONGEST_INTERVAL:
        yield Fault(("spec", "interval"), "must lie between 1s and 24h")
    yield from _inside(spec.control_path, ("spec", "controlPath"))
    if not spec.control:
        for name, is_set in (
            ("controlPath", spec.control_path != "."),
            ("controlAllowEmpty", spec.control_allow_empty),
        ):
            if is_set:
                yield Fault(("spec", name), "is of use only with control: true")


def _url(url: str) -> Iterator[Fault]:
    path: Path = ("spec", "url")
    scheme = url_scheme(url)
    if not scheme:
        hint = "local repositories are written file:///path" if url.startswith(("/", ".")) else ""
        yield Fault(path, "must be a file:///, https:// or ssh:// URL, or git@host:path", hint)
        return
    if re.search(r"[\x00-\x20\x7f\\]", url):
        yield Fault(path, "must not have spaces, backslashes or control characters")
        return
    if "://" not in url:
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield Fault(path, "has no host and port that can be read")
        return
    if parts.password is not None or (scheme == "https" and parts.username is not None):
        yield Fault(
            path,
            "must not carry credentials: they would be recorded for ever",
            "name a file in spec.credentials.tokenFile",
        )
    if parts.query or parts.fragment:
        yield Fault(path, "must not have a query or fragment")
    if scheme == "file":
        if host not in (None, "localhost") or not parts.path.startswith("/"):
            yield Fault(path, "must name an absolute path on the engine's machine", "file:///path")
    elif host is None or not _HOST.fullmatch(host):
        yield Fault(path, "has no valid host name")


def _ref(ref: GitRef) -> Iterator[Fault]:
    given = [name for name in ("branch", "tag", "commit") if getattr(ref, name) is not None]
    if len(given) > 1:
        yield Fault(("spec", "ref"), f"must name one thing, and names {' and '.join(given)}")
    for name in ("branch", "tag"):
        value = getattr(ref, name)
        if value is None:
            continue
        if value.startswith("refs/"):
            short = value.split("/", 2)[-1][:60]
            yield Fault(("spec", "ref", name), "must be the short name", f"write {short}")
        elif not value or len(value) > 250 or _NOT_IN_REF.search(value):
            yield Fault(("spec", "ref", name), f"{value[:60]!r} is no name of a {name}")


def _credentials(credentials: Credentials, scheme: str) -> Iterator[Fault]:
    path: Path = ("spec", "credentials")
    ssh = credentials.ssh_key_file is not None or credentials.known_hosts_file is not None
    if scheme == "file":
        yield Fault(path, "is of no use with a file: URL", "leave it out")
    elif scheme == "https":
        if ssh:
            yield Fault(path, "sshKeyFile and knownHostsFile are for ssh", "use tokenFile")
        if credentials.token_file is None:
            yield Fault((*path, "tokenFile"), "is missing")
    elif scheme == "ssh":
        if credentials.token_file is not None:
            yield Fault((*path, "tokenFile"), "is for https", "use sshKeyFile")
        if credentials.ssh_key_file is None:
            yield Fault((*path, "sshKeyFile"), "is missing")
        if credentials.known_hosts_file is None:
            yield Fault((*path, "knownHostsFile"), "is missing: without it any host is believed")
    if not re.fullmatch(r"[^\s:@/\x00-\x1f\x7f]{1,255}", credentials.username):
        yield Fault((*path, "username"), "must have no spaces, colons, @, slashes")
    for name, value in (
        ("tokenFile", credentials.token_file),
        ("sshKeyFile", credentials.ssh_key_file),
        ("knownHostsFile", credentials.known_hosts_file),
    ):
        if value is not None:
            yield from _engine_file(value, (*path, name))


def _cluster(resource: Cluster) -> Iterator[Fault]:
    spec = resource.spec
    if spec.kubeconfig is not None and spec.in_cluster:
        yield Fault(("spec",), "must have kubeconfig or inCluster, and has both")
    if spec.kubeconfig is None and not spec.in_cluster:
        yield Fault(("spec",), "must have kubeconfig, or inCluster: true")
    if spec.kubeconfig is not None:
        yield from _engine_file(spec.kubeconfig, ("spec", "kubeconfig"))
    if spec.context is not None:
        if spec.kubeconfig is None:
            yield Fault(("spec", "context"), "is of use only with a kubeconfig")
        if not spec.context or len(spec.context) > 255 or _has_controls(spec.context):
            yield Fault(("spec", "context"), "is no name of a context")
    yield from _health_rules(spec.health)


def _health_rules(rules: Sequence[HealthRule]) -> Iterator[Fault]:
    seen: set[tuple[str, str]] = set()
    for place, rule in enumerate(rules):
        where: Path = ("spec", "health", place)
        if (rule.group, rule.kind) in seen:
            yield Fault((*where, "kind"), f"has a rule already: one for each kind, {rule.kind}")
        seen.add((rule.group, rule.kind))
        said = {name: getattr(rule, name) for name in _HEALTHS}
        if not any(said.values()):
            yield Fault(where, f"must have one of {', '.join(_HEALTHS)}")
        for name, text in {**said, "message": rule.message}.items():
            wrong = expression_fault(text) if text else ""
            if wrong:
                yield Fault((*where, name), wrong)


def _application(resource: Application) -> Iterator[Fault]:
    spec = resource.spec
    yield from _inside(spec.source.path, ("spec", "source", "path"))
    yield from _targets(spec.targets)
    for place, window in enumerate(spec.sync.windows):
        wrong = windows.fault(window)
        if wrong is not None:
            field, message = wrong
            yield Fault(("spec", "sync", "windows", place, field), message)
    if spec.sync.on_degraded == "rollback" and spec.sync.health_timeout is None:
        yield Fault(
            ("spec", "sync", "onDegraded"),
            "needs sync.healthTimeout",
            "say how long a target may take to be healthy, for example healthTimeout: 5m",
        )
    if resource.metadata.name in spec.depends_on:
        place = spec.depends_on.index(resource.metadata.name)
        yield Fault(("spec", "dependsOn", place), "is the application itself", "take it out")
    yield from _field_rules(spec.ignore_differences, ("spec", "ignoreDifferences"))
    yield from _field_rules(spec.foreign_fields.allow, ("spec", "foreignFields", "allow"))
    drift: tuple[Drift | DriftRule, ...] = (spec.drift, *spec.drift.rules)
    for place, rule in enumerate(drift):
        path: Path = ("spec", "drift", "rules", place - 1) if place else ("spec", "drift")
        after = duration.seconds(rule.after)
        if after > LONGEST_GRACE:
            yield Fault((*path, "after"), "must be 744h at most")
        elif after and rule.policy != "correct":
            yield Fault((*path, "after"), "is of use only with policy: correct")


def _field_rules(rules: Sequence[Ignored | Allowed], path: Path) -> Iterator[Fault]:
    for place, rule in enumerate(rules):
        if not rule.paths and not rule.managers:
            yield Fault((*path, place), "must have paths or managers")
        for number, text in enumerate(rule.paths):
            wrong = field_path_fault(text)
            if wrong:
                hint = 'write .spec.replicas, .spec.containers[name="app"], or /spec/replicas'
                yield Fault((*path, place, "paths", number), wrong, hint)


def _targets(targets: Targets) -> Iterator[Fault]:
    path: Path = ("spec", "targets")
    if not targets.clusters and targets.selector is None:
        yield Fault(path, "must name clusters, or have a selector")
    seen = set()
    for place, name in enumerate(targets.clusters):
        if name in seen:
            yield Fault((*path, "clusters", place), f"{name} is named twice")
        seen.add(name)
    if targets.selector is not None:
        yield from _labels(targets.selector.match_labels, (*path, "selector", "matchLabels"))
    if not _DNS_LABEL.fullmatch(targets.namespace):
        yield Fault(
            (*path, "namespace"),
            f"{targets.namespace[:60]!r} is no name of a namespace",
            "write lower-case letters, digits and -, at most 63",
        )


def _notification(resource: Notification) -> Iterator[Fault]:
    spec = resource.spec
    if (spec.webhook is None) == (spec.slack is None):
        said = "has both" if spec.webhook else "has neither"
        yield Fault(("spec",), f"must have webhook or slack, and {said}")
    if spec.webhook is not None:
        yield from _webhook(spec.webhook)
    if spec.slack is not None:
        yield from _engine_file(spec.slack.url_file, ("spec", "slack", "urlFile"))
    for place, name in enumerate(spec.projects):
        if name != "*" and not re.fullmatch(NAME_PATTERN.strip("^$"), name):
            yield Fault(
                ("spec", "projects", place), f'{name[:60]!r} is no name of a project, nor "*"'
            )
    if spec.projects and resource.metadata.project != "default":
        yield Fault(
            ("spec", "projects"),
            "is for a notification in project default: any other tells of its own project",
            "leave it out",
        )
    if spec.selector is not None:
        yield from _labels(spec.selector.match_labels, ("spec", "selector", "matchLabels"))
    if not 60 <= duration.seconds(spec.give_up_after) <= 31 * 86_400:
        yield Fault(("spec", "giveUpAfter"), "must lie between 1m and 744h")


def _webhook(webhook: Webhook) -> Iterator[Fault]:
    path: Path = ("spec", "webhook")
    if (webhook.url is None) == (webhook.url_file is None):
        said = "has both" if webhook.url else "has neither"
        yield Fault(path, f"must have url or urlFile, and {said}")
    if webhook.url is not None:
        yield from _http_url(webhook.url, (*path, "url"))
    if webhook.url_file is not None:
        yield from _engine_file(webhook.url_file, (*path, "urlFile"))
    yield from _engine_file(webhook.secret_file, (*path, "secretFile"))


def _http_url(url: str, path: Path) -> Iterator[Fault]:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield Fault(path, "has no host and port that can be read")
        return
    if parts.scheme not in ("https", "http") or re.search(r"[\x00-\x20\x7f\\]", url):
        yield Fault(path, "must be an https:// URL", "http:// only to a host in notification_hosts")
    elif not host or not _HOST.fullmatch(host):
        yield Fault(path, "has no valid host name")
    elif parts.username is not None or parts.query or parts.fragment:
        yield Fault(
            path,
            "must not have credentials, a query or a fragment: they would be recorded for ever",
            "put the URL into a file, and name that in urlFile",
        )


def _inside(path: str, where: Path) -> Iterator[Fault]:
    if path.startswith("/"):
        yield Fault(where, "must be relative to the repository's top", f"write {path.strip('/')}")
    elif ".." in path.split("/"):
        yield Fault(where, "must stay inside the repository: no ..")
    elif ".git" in (part.lower() for part in path.split("/")):
        yield Fault(where, "must not lead into .git")
    elif not path or "\\" in path or _has_controls(path):
        yield Fault(where, "must be a path with /, without control characters", 'the top is "."')


def _engine_file(path: str, where: Path) -> Iterator[Fault]:
    if not path.startswith("/") or len(path) > 4096 or _has_controls(path):
        yield Fault(where, "must be an absolute path: it is the engine that reads the file")
    elif ".." in path.split("/"):
        yield Fault(where, "must have no ..")


def _labels(labels: dict[str, str], path: Path) -> Iterator[Fault]:
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        good = _LABEL_NAME.fullmatch(name) is not None
        if slash:
            parts = prefix.split(".")
            good = good and len(prefix) <= 253 and all(map(_DNS_LABEL.fullmatch, parts))
        if not good:
            yield Fault((*path, key), "is no label key", "for example tier, or example.org/tier")
        if value and not _LABEL_NAME.fullmatch(value):
            yield Fault(
                (*path, key),
                f"{value[:70]!r} is no label value",
                "letters, digits, -, _ and ., at most 63",
            )


def _has_controls(text: str) -> bool:
    return any(ord(char) < 32 or ord(char) == 127 for char in text)
