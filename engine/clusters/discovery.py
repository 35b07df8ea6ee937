"""Which kinds a cluster has: looked up for the groups and versions that are asked for.

Each group's version is read by itself, when it is needed: so a group that fails (an APIService
without its backend) makes its own kinds unknown and no others, and nobody pays for the two hundred
kinds that no application uses.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import msgspec
from msgspec import Struct

from engine.bounded import MIB
from engine.clusters.connect import Connection, Unreachable
from engine.clusters.paths import group_path, is_api_version, is_segment
from engine.clusters.status import explain
from engine.clusters.wire import Response
from engine.ports import Clock, KindInfo

_BYTES = 16 * MIB


class KindUnknown(Exception):
    """A kind cannot be told. `code`: no-such-kind, group-unavailable, forbidden or garbage."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class _Resource(Struct):
    name: str
    kind: str
    namespaced: bool = False
    verbs: tuple[str, ...] = ()


class _ResourceList(Struct):
    resources: tuple[_Resource, ...] | None


class _Known(Struct, frozen=True):
    """What was read of one apiVersion: its kinds, or why they are unknown."""

    read_at: float
    kinds: Mapping[str, KindInfo] = {}
    failure: tuple[str, str] | None = None


_decoder = msgspec.json.Decoder(_ResourceList)


class Discovery:
    """The kinds of one cluster, remembered until one is not found."""

    def __init__(self, connection: Connection, clock: Clock, interval: float) -> None:
        self._connection, self._clock, self._interval = connection, clock, interval
        self._known: dict[str, _Known] = {}
        self._locks: dict[str, anyio.Lock] = {}

    async def find(self, api_version: str, kind: str) -> KindInfo:
        """Return what the API says of a kind. Raises `KindUnknown`, `Unreachable`."""
        if not is_api_version(api_version):
            raise KindUnknown("no-such-kind", f"{api_version!r} is no apiVersion.")
        known = self._known.get(api_version)
        if known is None or (kind not in known.kinds and self._is_due(known)):
            async with self._locks.setdefault(api_version, anyio.Lock()):
                known = self._known.get(api_version)
                if known is None or (kind not in known.kinds and self._is_due(known)):
                    known = self._known[api_version] = await self._read(api_version)
        if kind in known.kinds:
            return known.kinds[kind]
        if known.failure is not None:
            raise KindUnknown(*known.failure)
        raise KindUnknown("no-such-kind", f"The cluster has no kind {kind} in {api_version}.")

    def forget(self, api_version: str) -> None:
        """Read a group's version afresh the next time: it is not as it was."""
        self._known.pop(api_version, None)

    def _is_due(self, known: _Known) -> bool:
        return self._clock.monotonic() >= known.read_at + self._interval

    async def _read(self, api_version: str) -> _Known:
        response = await self._connection.request("GET", group_path(api_version), limit=_BYTES)
        now = self._clock.monotonic()
        if response.is_success:
            try:
                return _Known(now, _kinds(api_version, response.body))
            except (msgspec.MsgspecError, RecursionError):
                message = f"What the cluster says of {api_version} cannot be read."
                return _Known(now, failure=("garbage", message))
        if response.status == 401:
            raise Unreachable("unauthorised", "The cluster refuses our credentials.")
        if response.status == 404:
            return _Known(now)
        return _Known(now, failure=_failure(api_version, response))


def _failure(api_version: str, response: Response) -> tuple[str, str]:
    said = explain(response)
    if response.status == 403:
        return "forbidden", f"The cluster does not let us read {api_version}: {said}"
    return "group-unavailable", f"The cluster cannot tell what {api_version} has: {said}"


def _kinds(api_version: str, body: bytes) -> Mapping[str, KindInfo]:
    kinds: dict[str, KindInfo] = {}
    for resource in _decoder.decode(body).resources or ():
        # Subresources are listed under their parent's path; their kind may be another's.
        if not is_segment(resource.name) or resource.kind in kinds:
            continue
        kinds[resource.kind] = KindInfo(
            api_version=api_version,
            kind=resource.kind,
            plural=resource.name,
            namespaced=resource.namespaced,
            verbs=frozenset(resource.verbs),
        )
    return kinds
