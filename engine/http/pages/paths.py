"""Where each page is: the links from names to paths. Pure."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from events.vocabulary import ObjectRef

ROOTS = frozenset(
    {
        "applications",
        "clusters",
        "commits",
        "drift",
        "events",
        "go",
        "live",
        "login",
        "logout",
        "notifications",
        "objects",
        "repositories",
        "static",
        "targets",
        "timeline",
        "views",
    }
)
"""First segments of the paths of pages; everything else is the API's."""
_OF_STREAM = {
    "app": "applications",
    "cluster": "clusters",
    "notification": "notifications",
    "repo": "repositories",
    "target": "targets",
}


def is_page(path: str) -> bool:
    """Whether a path is a page's and not the API's."""
    return path == "/" or path.removeprefix("/").partition("/")[0] in ROOTS


def to(*parts: str, **query: object) -> str:
    """Return a path of these segments, with those query values that are not empty."""
    words = {key: str(value) for key, value in query.items() if value not in ("", None, 0)}
    path = "/" + "/".join(quote(part, safe="@:+,") for part in parts)
    return path + ("?" + urlencode(words) if words else "")


def to_stream(stream: str) -> str:
    """Return the page of a stream's subject: its own, or its timeline where it has none."""
    kind, _, rest = stream.partition("/")
    project, _, name = rest.partition("/")
    collection = _OF_STREAM.get(kind)
    return to(collection, project, name) if collection else to("timeline", subject=stream)


def to_case(project: str, case: str) -> str:
    """Return the page of a drift case, by its id (`project/app@cluster#number`)."""
    target, _, number = case.partition("/")[2].rpartition("#")
    return to("drift", project, target, number)


def to_object(project: str, cluster: str, ref: ObjectRef) -> str:
    """Return the page of an object on a cluster."""
    kind = f"{ref.kind}.{ref.group}" if ref.group else ref.kind
    return to("objects", project, cluster, ref.namespace or "-", kind, ref.name)


def label(stream: str) -> str:
    """Return how people call a stream's subject: `app@cluster`, `cluster/prod`."""
    kind, _, rest = stream.partition("/")
    project, _, name = rest.partition("/")
    words = {"app": "application", "repo": "repository"}
    shown = name if kind == "target" else f"{words.get(kind, kind)}/{name}"
    return shown if project == "default" else f"{project}:{shown}"
