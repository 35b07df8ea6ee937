"""The log as a tiled transparency log: `/v1/log` is its prefix, laid out as by C2SP tlog-tiles.

Besides what that defines (`checkpoint`, `tile/…`, `tile/entries/…`) there are `keys`,
`checkpoints`, `payloads/…` (JSON lines, numbered as the entries are) and `blobs/…`.
"""

from __future__ import annotations

from aiohttp import web

from engine.http.api import api_of
from engine.http.problem import Refusal, not_found
from engine.http.wire import Query
from events.event import Digest
from events.limits import digest_bytes
from events.note import open_checkpoint
from events.proofs import ProofSource
from events.tiles import WIDTH, Tile, TileWrong, parse_path

PREFIX = "/v1/log"
_NEVER_CHANGES = "private, max-age=31536000, immutable"
routes = web.RouteTableDef()


@routes.get(f"{PREFIX}/checkpoint")
async def checkpoint(request: web.Request) -> web.Response:
    """Return the newest signed checkpoint: a C2SP signed note."""
    Query(request).done()
    return _text(await _newest(_source(request)))


@routes.get(f"{PREFIX}/checkpoints")
async def checkpoints(request: web.Request) -> web.Response:
    """Return what checkpoints were kept, one an hour, the newest last; a form feed behind each."""
    Query(request).done()
    notes = await _source(request).checkpoints()
    return _text("".join(f"{note}\f" for note in notes))


@routes.get(f"{PREFIX}/keys")
async def keys(request: web.Request) -> web.Response:
    """Return the public keys that checkpoints were ever signed with, one a line."""
    Query(request).done()
    return _text("".join(f"{key}\n" for key in await _source(request).keys()))


@routes.get(PREFIX + r"/{path:tile/.+}")
async def tile(request: web.Request) -> web.Response:
    """Return a tile of the Merkle tree, or a bundle of entries."""
    Query(request).done()
    source = _source(request)
    word, index, width = _parse(request.match_info["path"])
    size = await _size(source)
    if word == "entries":
        _check_inside(size, index, width)
        return _bytes(await source.entries(index, width))
    if not word.isdigit():
        raise not_found(f"there is no level {word[:20]}")
    level = int(word)
    _check_inside(size >> 8 * level, index, width)
    return _bytes(await source.tile(Tile(level, index, width)))


@routes.get(PREFIX + r"/payloads/{path:.+}")
async def payloads(request: web.Request) -> web.Response:
    """Return the payloads of the events of a bundle, one a line."""
    Query(request).done()
    source = _source(request)
    _, index, width = _parse(f"tile/entries/{request.match_info['path']}")
    _check_inside(await _size(source), index, width)
    lines = await source.payloads(index, width)
    return _bytes(b"".join(line + b"\n" for line in lines))


@routes.get(PREFIX + r"/blobs/{digest}")
async def body(request: web.Request) -> web.Response:
    """Return the body under a digest."""
    Query(request).done()
    digest = Digest(request.match_info["digest"])
    try:
        digest_bytes(digest)
    except ValueError as error:
        raise not_found(str(error)) from error
    found = await _source(request).body(digest)
    if found is None:
        raise not_found(f"there is no body {digest}, or it was erased")
    return _bytes(found)


def _source(request: web.Request) -> ProofSource:
    source = api_of(request).proofs
    if source is None:
        raise not_found("this log has no proofs: it is in memory only")
    return source


async def _newest(source: ProofSource) -> str:
    note = await source.checkpoint()
    if note is None:
        raise Refusal(503, "not-signed", "nothing was signed yet; try again in a few seconds")
    return note


async def _size(source: ProofSource) -> int:
    """Return up to where there are proofs."""
    return open_checkpoint(await _newest(source), await source.keys()).size


def _parse(path: str) -> tuple[str, int, int]:
    try:
        return parse_path(path)
    except TileWrong as error:
        raise not_found(str(error)) from error


def _check_inside(count: int, index: int, width: int) -> None:
    if index * WIDTH + width > count:
        raise not_found(f"that is beyond the newest checkpoint: {count} there")


def _text(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/plain", charset="utf-8")


def _bytes(data: bytes) -> web.Response:
    response = web.Response(body=data, content_type="application/octet-stream")
    response.headers["Cache-Control"] = _NEVER_CHANGES
    response.enable_compression()
    return response
