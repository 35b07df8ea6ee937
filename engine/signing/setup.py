"""Sets the signer up: its keys, the places that keep its heads, and the check that starts it all.

Whoever keeps heads refuses a database that does not extend them: the signer, and an engine that
leaves signing to another process (`engine.signing.witness`).

The signing key, the list of all public keys and the last head lie in the data folder, outside of
the database that they vouch for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from engine.http.local import read_private, write_private
from engine.ports import Clock
from engine.settings import Settings
from engine.signing.heads import FileHeads, S3Heads, read_credentials
from events.catalog import CheckpointKeyAdded, Fact, RestoreAccepted
from events.event import Actor, NewEvent, Position, StreamName
from events.log import EventLog
from events.note import NoteWrong, SignerKey, VerifierKey, parse_signer, parse_verifier
from events.proofs import Proofs, origin_of, recorded_keys
from events.signer import HeadRefused, HeadStore, Known, Signer, check_head, known_head

STREAM = StreamName("log/default/checkpoints")
ENGINE = Actor("engine:signer")
_FOLDER, _HEAD, _KEYS = "checkpoints", "head", "keys"


async def start_signing(
    settings: Settings, pool: asyncpg.Pool[asyncpg.Record], log: EventLog, clock: Clock
) -> Signer:
    """Make sure that the log extends its last known head, and return its signer.

    Writes nothing before that is sure. Raises `HeadRefused`, `LogUnavailable`, and ValueError or
    OSError for keys that cannot be used.
    """
    seeds = read_seeds(settings.signing_key)
    heads = heads_of(settings, clock)
    origin = await origin_of(log)
    known = await known_head(heads, trusted_keys(settings, seeds))
    if known is not None:
        await check_head(Proofs(pool, log), log, origin, known)
    if not seeds:
        seeds = [make_seed(settings.signing_key, origin)]
    return await _signer(settings, pool, log, clock, seeds, heads, origin)


async def accept_restore(
    settings: Settings,
    pool: asyncpg.Pool[asyncpg.Record],
    log: EventLog,
    clock: Clock,
    actor: Actor,
    reason: str,
) -> tuple[Known, Position]:
    """Enter into the log that it does not extend its last head and goes on; sign that.

    Returns the head that is given up, and the position of the entry. Raises ValueError where the
    log extends its head: then there is nothing to accept.
    """
    seeds = read_seeds(settings.signing_key)
    heads = heads_of(settings, clock)
    known = await known_head(heads, trusted_keys(settings, seeds))
    origin = await origin_of(log)
    if known is None:
        raise ValueError("no head is known of this log, so there is none to give up")
    try:
        await check_head(Proofs(pool, log), log, origin, known)
    except HeadRefused:
        position = await _say(log, clock, RestoreAccepted(reason, known.note), actor)
    else:
        raise ValueError("the database extends its last signed head: there is nothing to accept")
    origin = await origin_of(log)
    signer = await _signer(settings, pool, log, clock, seeds, heads, origin)
    await signer.step()
    return known, position


async def _signer(
    settings: Settings,
    pool: asyncpg.Pool[asyncpg.Record],
    log: EventLog,
    clock: Clock,
    seeds: list[bytes],
    heads: list[HeadStore],
    origin: str,
) -> Signer:
    keys = [SignerKey(origin, seed) for seed in seeds]
    remember(settings, [key.verifier for key in keys])
    recorded = set(await recorded_keys(log))
    for key in keys:
        if key.verifier not in recorded:
            await _say(log, clock, CheckpointKeyAdded(str(key.verifier)), ENGINE)
    return Signer(pool, log, origin, keys, heads, settings.checkpoint_interval)


async def _say(log: EventLog, clock: Clock, fact: Fact, actor: Actor) -> Position:
    event = NewEvent(
        event_id=clock.event_id(),
        stream=STREAM,
        fact=fact,
        actor=actor,
        occurred_at=clock.now(),
    )
    return (await log.append([event])).last


def heads_of(settings: Settings, clock: Clock) -> list[HeadStore]:
    """Return the places that keep heads; raises ValueError or OSError for bad credentials."""
    heads: list[HeadStore] = [FileHeads(settings.directory / _FOLDER / _HEAD)]
    if settings.checkpoint_url is not None and settings.checkpoint_credentials_file is not None:
        credentials = read_credentials(settings.checkpoint_credentials_file)
        heads.append(
            S3Heads(settings.checkpoint_url, settings.checkpoint_region, credentials, clock)
        )
    return heads


def read_seeds(path: Path) -> list[bytes]:
    """Read the signing keys, one a line, the oldest first; none where there is no file.

    Raises ValueError for what is no key, PermissionError where others can read it.
    """
    data = read_private(path)
    if data is None:
        return []
    try:
        keys = [parse_signer(line) for line in data.decode("ascii", "replace").split("\n") if line]
    except NoteWrong as error:
        raise ValueError(f"{path}: {error}") from error
    if not keys:
        raise ValueError(f"{path} has no signing key: restore it, or remove the file for a new one")
    return [key.seed for key in keys]


def make_seed(path: Path, name: str, before: list[bytes] | None = None) -> bytes:
    """Make a signing key, written behind those that were there before, and return it."""
    seeds = [*(before or []), secrets.token_bytes(32)]
    lines = [SignerKey(name, seed).secret_text() for seed in seeds]
    write_private(path, "".join(f"{line}\n" for line in lines).encode())
    return seeds[-1]


def trusted_keys(settings: Settings, seeds: list[bytes]) -> set[bytes]:
    """Return the raw public keys that this data folder ever signed with."""
    ours = {SignerKey("x", seed).verifier.raw for seed in seeds}
    return ours | {key.raw for key in remembered(settings)}


def remembered(settings: Settings) -> list[VerifierKey]:
    """Return the public keys that this data folder trusts; raises ValueError, OSError."""
    path = settings.directory / _FOLDER / _KEYS
    try:
        lines = path.read_text("utf-8").split("\n")
        return [parse_verifier(line) for line in lines if line]
    except FileNotFoundError:
        return []
    except NoteWrong as error:
        raise ValueError(f"{path}: {error}") from error


def remember(settings: Settings, keys: Sequence[VerifierKey]) -> None:
    """Add public keys to those that this data folder trusts."""
    before = remembered(settings)
    new = [key for key in keys if key not in before]
    if new:
        text = "".join(f"{key}\n" for key in [*before, *new])
        write_private(settings.directory / _FOLDER / _KEYS, text.encode())
