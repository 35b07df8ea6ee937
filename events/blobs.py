"""Content-addressed bodies in Postgres: one copy of each, ever, under the SHA-256 of its bytes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from events.event import Blob, Digest
from events.limits import digest_bytes, digest_text
from events.migrate import AnyConnection
from events.queries import load

SQL = load("events", "blobs.sql")
_CHUNK_BYTES = 16 * 2**20
"""Bytes of bodies in one statement, so that memory stays small here and in the server."""
_CHUNK_COUNT = 1000


async def put(connection: AnyConnection, blobs: Collection[Blob]) -> None:
    """Keep bodies; those that are there already are not sent again."""
    bodies = {digest_bytes(blob.digest): blob.body for blob in blobs}
    if not bodies:
        return
    rows = await connection.fetch(SQL["missing"], list(bodies))
    missing = sorted(bytes(row["digest"]) for row in rows)
    for chunk in _chunks((digest, bodies[digest]) for digest in missing):
        await connection.execute(SQL["put"], list(chunk), list(chunk.values()))


async def get(connection: AnyConnection, digests: Collection[Digest]) -> Mapping[Digest, bytes]:
    """Return the bodies that are there."""
    wanted = sorted({digest_bytes(digest) for digest in digests})
    found: dict[Digest, bytes] = {}
    for start in range(0, len(wanted), _CHUNK_COUNT):
        rows = await connection.fetch(SQL["get"], wanted[start : start + _CHUNK_COUNT])
        found.update((digest_text(row["digest"]), row["body"]) for row in rows)
    return found


async def erase(connection: AnyConnection, digests: Collection[Digest]) -> None:
    """Erase bodies; their digests stay, so that they are not kept again."""
    await connection.execute(SQL["erase"], sorted(map(digest_bytes, digests)))


async def erased(connection: AnyConnection, digests: Collection[Digest]) -> frozenset[Digest]:
    """Return those of these digests whose bodies were erased."""
    rows = await connection.fetch(SQL["erased"], sorted(map(digest_bytes, digests)))
    return frozenset(digest_text(row["digest"]) for row in rows)


def _chunks(items: Iterable[tuple[bytes, bytes]]) -> Iterable[dict[bytes, bytes]]:
    chunk: dict[bytes, bytes] = {}
    size = 0
    for digest, body in items:
        if chunk and (size + len(body) > _CHUNK_BYTES or len(chunk) == _CHUNK_COUNT):
            yield chunk
            chunk, size = {}, 0
        chunk[digest] = body
        size += len(body)
    if chunk:
        yield chunk
