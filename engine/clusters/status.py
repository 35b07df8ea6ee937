"""What an API server's refusal means: which outcome, whose conflict, in which words. Pure.

A server quotes the values that it refuses, so for a Secret its words are not passed on, but for
those that can hold none: a right that is missing, a quota that is full, a namespace that ends.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from engine.clusters.wire import Response
from events.vocabulary import Outcome

_MAX_MESSAGE = 1000
_MANAGER = re.compile(r'conflicts? with "([^"]{1,200})"')
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NAME = r"[\w.:/@-]{1,300}"
_AMOUNTS = rf"{_NAME}=\w+(?:,{_NAME}=\w+)*"
_VALUELESS = re.compile(
    rf"""secrets(?:[ ]"{_NAME}")?[ ]is[ ]forbidden:[ ](?:
    User[ ]"{_NAME}"[ ]cannot[ ][a-z]+[ ]resource[ ]"secrets"[ ]in[ ]API[ ]group[ ]""
        [ ](?:in[ ]the[ ]namespace[ ]"{_NAME}"|at[ ]the[ ]cluster[ ]scope)
    |exceeded[ ]quota:[ ]{_NAME},[ ]requested:[ ]{_AMOUNTS},[ ]used:[ ]{_AMOUNTS},
        [ ]limited:[ ]{_AMOUNTS}
    |unable[ ]to[ ]create[ ]new[ ]content[ ]in[ ]namespace[ ]{_NAME}
        [ ]because[ ]it[ ]is[ ]being[ ]terminated
    )""",
    re.VERBOSE | re.ASCII,
)
_NOT_RETRIED = (
    "failed to create typed patch object",
    "field not declared in schema",
    "duplicate entries for key",
)


class Cause(Struct, frozen=True):
    """One reason of a refusal: its word, the server's text, the field that it is about."""

    reason: str = ""
    message: str = ""
    field: str = ""


class _Details(Struct, frozen=True):
    kind: str = ""
    name: str = ""
    causes: tuple[Cause, ...] | None = None


class Status(Struct, frozen=True):
    """A `Status` object, as far as it is used."""

    kind: str = ""
    reason: str = ""
    message: str = ""
    code: int = 0
    details: _Details | None = None

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The causes, () where there are none."""
        return (self.details.causes if self.details else None) or ()


class Refusal(Struct, frozen=True):
    """A refused request in the log's terms. `managers`: who owns the fields in conflict."""

    outcome: Outcome
    message: str
    managers: tuple[str, ...] = ()


_decoder = msgspec.json.Decoder(Status)


def status_of(body: bytes) -> Status:
    """Read a `Status`; an empty one where the body is something else."""
    try:
        status = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Status()
    return status if status.kind == "Status" else Status()


def explain(response: Response, secret: bool = False) -> str:
    """Return in one line what a server said; for a Secret only what can hold no value of it."""
    status = status_of(response.body)
    words = status.message
    if secret and not (response.status == 403 and _VALUELESS.fullmatch(words)):
        fields = [f"{cause.field}: {cause.reason}" for cause in status.causes if cause.field]
        words = "; ".join([status.reason, *fields]) if status.reason else ""
    return printable(words) or f"status {response.status}"


def printable(text: str) -> str:
    """Return a foreign text on one line, without control characters, not too long."""
    text = _UNPRINTABLE.sub(" ", text).strip()
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"


def refusal(response: Response, secret: bool) -> Refusal:
    """Say what a refused apply or delete came to."""
    status = status_of(response.body)
    said = explain(response, secret)
    match response.status:
        case 409:
            return _conflict(status, said)
        case 400 | 413 | 422:
            if _is_about_uid(status):
                return Refusal(Outcome.STALE, f"It is another object than was observed: {said}")
            return Refusal(Outcome.INVALID, said)
        case 401:
            return Refusal(Outcome.UNREACHABLE, f"The cluster refuses our credentials: {said}")
        case 403 if any(cause.reason == "NamespaceTerminating" for cause in status.causes):
            return Refusal(Outcome.FAILED, said)
        case 403:
            return Refusal(Outcome.FORBIDDEN, said)
        case 404:
            return Refusal(Outcome.FAILED, _missing(status, said))
        case 500 if any(words in status.message for words in _NOT_RETRIED):
            # The server answers 500 to what it cannot merge; sending it again changes nothing.
            return Refusal(Outcome.INVALID, said)
        case _:
            return Refusal(Outcome.FAILED, said)


def _conflict(status: Status, said: str) -> Refusal:
    causes = [cause for cause in status.causes if cause.reason == "FieldManagerConflict"]
    if not causes:
        return Refusal(Outcome.STALE, said)
    managers = {
        printable(match[1]) for cause in causes if (match := _MANAGER.search(cause.message))
    }
    fields = ", ".join(printable(cause.field) for cause in causes[:10])
    more = f" and {len(causes) - 10} more" if len(causes) > 10 else ""
    owners = ", ".join(sorted(managers)) or "another manager"
    return Refusal(
        Outcome.CONFLICT, printable(f"{owners} owns {fields}{more}"), tuple(sorted(managers))
    )


def _is_about_uid(status: Status) -> bool:
    return any(cause.field == "metadata.uid" for cause in status.causes)


def lacks_namespace(response: Response) -> bool:
    """Whether a refusal is for want of the namespace."""
    return response.status == 404 and _is_about_namespace(status_of(response.body))


def _is_about_namespace(status: Status) -> bool:
    return status.details is not None and status.details.kind == "namespaces"


def _missing(status: Status, said: str) -> str:
    if status.details is not None and _is_about_namespace(status):
        return f"The namespace {printable(status.details.name)!r} does not exist."
    return f"The cluster does not know this path: {said}"
