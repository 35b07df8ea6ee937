"""How people name things on the command line, and where the API has them."""

from __future__ import annotations

from urllib.parse import quote

from engine.cli.errors import CliError
from engine.resources.spelling import did_you_mean

COLLECTIONS = {
    "repositories": ("repository", "repo", "repos"),
    "clusters": ("cluster",),
    "applications": ("application", "app", "apps"),
    "notifications": ("notification",),
    "targets": ("target",),
}
_BY_WORD = {
    **{name: name for name in COLLECTIONS},
    **{word: name for name, words in COLLECTIONS.items() for word in words},
}
SINGULAR = {name: words[0] for name, words in COLLECTIONS.items()}


def collection_of(word: str) -> str:
    """Return the collection that a word means: `app`, `Application` and `applications` alike."""
    found = _BY_WORD.get(word.lower())
    if found is None:
        known = ", ".join(COLLECTIONS)
        near = did_you_mean(word, _BY_WORD) or f"; there are {known}"
        raise CliError(f"no kind is called {word}{near}")
    return found


def split_name(word: str, name: str | None) -> tuple[str, str | None]:
    """Return collection and name out of `KIND NAME`, `KIND/NAME`, or a target by itself."""
    if "@" in word and "/" not in word and name is None:
        return "targets", word
    kind, slash, rest = word.partition("/")
    if slash and name is not None:
        raise CliError(f"{word} {name} names two things: write KIND/NAME, or KIND NAME")
    collection = collection_of(kind)
    return collection, (rest if slash else name)


def actable(subject: str) -> tuple[str, str]:
    """Return collection and name of what can be synced: `app@cluster`, an application's name."""
    if "@" in subject:
        return "targets", subject.removeprefix("target/")
    kind, slash, rest = subject.partition("/")
    if slash and collection_of(kind) != "applications":
        raise CliError(f"{subject} is neither a target (app@cluster) nor an application")
    return "applications", rest if slash else subject


def path_of(collection: str, project: str, name: str, *more: str) -> str:
    """Return the path of one thing in the API."""
    return "/".join(
        ["/v1", collection, *(quote(part, safe="@") for part in (project, name, *more))]
    )
