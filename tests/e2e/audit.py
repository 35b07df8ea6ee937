"""Reads the API server's audit log: the witness of who wrote what."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import msgspec

WITNESSED = "witnessed"
"""A namespace whose writes are booked with what was answered."""

POLICY = f"""\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - level: RequestResponse
    namespaces: [{WITNESSED}]
    verbs: [create, update, patch, delete]
  - level: Metadata
"""

_WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
# Posted, but stored nowhere.
_REVIEWS = frozenset({"authentication.k8s.io", "authorization.k8s.io"})


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _Object(msgspec.Struct, frozen=True, rename="camel"):
    resource: str = ""
    namespace: str = ""
    name: str = ""
    api_group: str = ""
    subresource: str = ""


class _Status(msgspec.Struct, frozen=True):
    code: int = 0


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _Answer(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class AuditEvent(msgspec.Struct, frozen=True, rename="camel"):
    """One request, as the API server booked it when it was complete."""

    verb: str
    request_u_r_i: str = msgspec.field(name="requestURI", default="")
    user: _User = _User()
    impersonated_user: _User | None = None
    user_agent: str = ""
    object_ref: _Object = _Object()
    response_status: _Status = _Status()
    stage_timestamp: str = ""
    response_object: _Answer = _Answer()
    """What was answered, in the namespace `WITNESSED`."""

    @property
    def username(self) -> str:
        """Who acted: the impersonated user where there is one."""
        return (self.impersonated_user or self.user).username

    @property
    def code(self) -> int:
        """The HTTP status of the answer."""
        return self.response_status.code

    @property
    def version(self) -> int:
        """The resourceVersion that a list or watch asked for; 0 for none."""
        asked = parse_qs(urlsplit(self.request_u_r_i).query).get("resourceVersion", ["0"])
        return int(asked[0])

    @property
    def is_write(self) -> bool:
        """Whether the request asked to change something: refused ones count, dry runs do not."""
        return (
            self.verb in _WRITES
            and "dryRun=All" not in self.request_u_r_i
            and self.object_ref.api_group not in _REVIEWS
        )

    def __str__(self) -> str:
        return f"{self.username} {self.verb} {self.request_u_r_i} {self.code}"


class AuditLog:
    """The audit log in a file that the API server appends to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def position(self) -> int:
        """Return where the log ends now, in bytes; pass it as `since` to read what follows."""
        return self.path.stat().st_size if self.path.exists() else 0

    def events(self, since: int = 0) -> list[AuditEvent]:
        """Return the requests booked after `since`, in the order in which they were completed."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(since)
            data = file.read()
        # The last line may be half written; it is read next time.
        whole = data[: data.rfind(b"\n") + 1]
        return [msgspec.json.decode(line, type=AuditEvent) for line in whole.splitlines()]

    def writes(self, user: str | None = None, since: int = 0) -> list[AuditEvent]:
        """Return the requests that asked to change something, by `user` or by anybody."""
        return [
            event
            for event in self.events(since)
            if event.is_write and (user is None or event.username == user)
        ]

    async def wait_for(
        self, matches: Callable[[AuditEvent], bool], since: int = 0, timeout: float = 10
    ) -> AuditEvent:
        """Return the first request after `since` that matches, waiting for it to be booked.

        A request is booked when its handler ends, which may be just after the client has the
        answer. Raises `TimeoutError` when none came within `timeout` seconds.
        """
        with anyio.fail_after(timeout):
            while True:
                for event in self.events(since):
                    if matches(event):
                        return event
                await anyio.sleep(0.02)
