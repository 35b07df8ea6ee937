"""An export of a small log with everything in it, made once, and ways to spoil a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from engine.audit.export import export
from engine.audit.verify import Fault, Verified, verify
from engine.embedded.server import EmbeddedPostgres
from engine.process.clock import SystemClock
from engine.settings import Settings
from engine.signing.setup import start_signing
from events.catalog import BodyRedacted, DesiredRendered
from events.event import Blob, Digest, NewEvent, blob
from events.note import VerifierKey, parse_verifier
from events.postgres import open_log
from events.proofs import Proofs
from events.tiles import pack, unpack
from events.vocabulary import Desired, ObjectRef
from tests.appending import new
from tests.databases import fresh_database

SIZE = 700
"""Events of the export: two full bundles and a partial one."""
CLOCK = SystemClock()
EARLIER: list[str] = []


def ignore(_: object) -> None:
    """Report to nobody."""


def rendered(number: int) -> tuple[NewEvent, list[Blob]]:
    manifest = blob(b'{"kind":"ConfigMap","n":%d,"image":"sha256:%s"}' % (number, b"0" * 64))
    ref = ObjectRef("v1", "ConfigMap", "default", f"c{number}")
    listed = blob(msgspec.json.encode([Desired(ref, manifest.digest)]))
    fact = DesiredRendered("c0ffee", 1, "sha256:" + "1" * 64, "plain", listed.digest, 1)
    return new("app/default/a", fact), [listed, manifest]


async def make_export(server: EmbeddedPostgres, folder: Path) -> None:
    """Append, sign twice, export all."""
    async with fresh_database(server) as dsn, open_log(dsn) as log:
        settings = Settings(data_dir=folder.parent / "data")
        signer = await start_signing(settings, log._pool, log, CLOCK)
        await log.append([new() for _ in range(299)])
        note = await signer.step()
        assert note is not None
        EARLIER.append(note)
        while (head := await log.head()) < SIZE:
            event, bodies = rendered(head)
            others = [new() for _ in range(min(39, SIZE - head - 1))]
            await log.append([event, *others], bodies)
        # As if an hour had passed, so that the earlier checkpoint is kept.
        await log._pool.execute("UPDATE log_checkpoint SET hour = hour - 1")
        await signer.step()
        await export(Proofs(log._pool, log), folder, "all", ignore, CLOCK)


async def make_redacted_export(server: EmbeddedPostgres, folder: Path) -> tuple[Digest, Digest]:
    """Export twice, the log growing; return a body that was redacted and one that was lost."""
    async with fresh_database(server) as dsn, open_log(dsn) as log:
        signer = await start_signing(
            Settings(data_dir=folder.parent / "data"), log._pool, log, CLOCK
        )
        bodies = []
        for number in range(3):
            event, both = rendered(number)
            bodies.append(both[1].digest)
            await log.append([event], both)
        await signer.step()
        await export(Proofs(log._pool, log), folder, "none", ignore, CLOCK)
        await log.append([new(f"body/default/{bodies[0][7:]}", BodyRedacted("a password"))])
        await log.erase(bodies[:1])
        await signer.step()
        await export(Proofs(log._pool, log), folder, "all", ignore, CLOCK)
        assert isinstance(check(folder), Verified)
        await log.erase(bodies[1:2])
        shutil.rmtree(folder)
        done = await export(Proofs(log._pool, log), folder, "all", ignore, CLOCK)
        # The key's event comes first.
        assert done.missing == ((bodies[1], 3),)
        return bodies[0], bodies[1]


def keys_of(folder: Path) -> list[VerifierKey]:
    return [parse_verifier(line) for line in (folder / "keys").read_text().split("\n") if line]


def check(
    folder: Path, keys: Sequence[VerifierKey] = (), since: Sequence[str] = ()
) -> Verified | Fault:
    try:
        return verify(folder, keys, since, ignore, CLOCK)
    except Fault as fault:
        return fault


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def rewrite_entries(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the list of all entries, and lay it out in bundles again as an insider would."""
    bundles = [folder / f"tile/entries/{name}" for name in ("000", "001", "002.p/188")]
    entries = [entry for path in bundles for entry in unpack(path.read_bytes())[0]]
    entries = change(entries)
    for number, path in enumerate(bundles):
        path.write_bytes(pack(entries[256 * number : 256 * (number + 1)]))


def bodies_of(folder: Path) -> list[Digest]:
    return [Digest(f"sha256:{path.name}") for path in (folder / "blobs").rglob("*/*")]


def make_export_now(server: EmbeddedPostgres, folder: Path) -> None:
    anyio.run(make_export, server, folder)
