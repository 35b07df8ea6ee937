"""`audit`: signed checkpoints, proofs, exports and their verification."""

from __future__ import annotations

import getpass
import os
import re
import sys
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.output import Format, note, print_data, print_fields, safe, say
from engine.cli.proof_source import RUNNING, Stopped, database_of, proofs_of
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.audit.verify import Verified

Output = Annotated[Format, Parameter(name=["--output", "-o"])]
Keys = Annotated[
    list[str] | None,
    Parameter(
        name="--key", help="a public key to trust, or a file of them (default: the export's)"
    ),
]
_WIDTH = 78
HELP = """Prove that the log was not altered, and verify it offline.

For example:

    trueup audit export --to audit
    trueup audit verify audit --key log.pub
"""
audit = App(name="audit", help=HELP)


@audit.command
async def checkpoint(
    *, output: Output = "table", stopped: Stopped = RUNNING, at: Connection = HERE
) -> int:
    """Print the newest signed checkpoint: of which log, how many events, which root.

    Keep it where nobody who can write to the log can reach: `audit verify --since` holds a later
    export to it.

    For example:

        trueup audit checkpoint > checkpoint-$(date +%F)
        trueup audit checkpoint -o json
    """
    from events.note import NoteWrong, open_checkpoint

    async with proofs_of(stopped, at) as source:
        text = await source.checkpoint()
        keys = await source.keys()
    if text is None:
        raise CliError("nothing was signed yet", hint="try again in a few seconds")
    try:
        found = open_checkpoint(text, keys)
    except NoteWrong as error:
        raise CliError(f"the checkpoint is not to be trusted: {error}", exit_code=1) from error
    value = {
        "origin": found.origin,
        "size": found.size,
        "root": found.root.hex(),
        "keys": [str(key) for key in keys],
        "note": text,
    }
    if not print_data(output, value):
        sys.stdout.write(text)
    return 0


@audit.command
async def prove(
    position: int,
    /,
    *,
    output: Output = "table",
    stopped: Stopped = RUNNING,
    at: Connection = HERE,
) -> int:
    """Print the proof that an event is in the log, for `audit verify` or any C2SP tlog-proof tool.

    For example:

        trueup audit prove 4711 > 4711.tlog-proof
        trueup audit verify 4711.tlog-proof --key log.pub
    """
    from engine.audit.prove import NoProof
    from engine.audit.prove import prove as make
    from events.event import Position

    async with proofs_of(stopped, at) as source:
        try:
            found = await make(source, Position(position))
        except NoProof as error:
            raise CliError(str(error), exit_code=1) from error
    value = {
        "position": position,
        "header": dict(zip(found.header.__struct_fields__, _array(found.entry), strict=True)),
        "hashes": [item.hex() for item in found.hashes],
        "checkpoint": found.note,
    }
    if not print_data(output, value):
        sys.stdout.write(found.text)
        header = found.header
        note(
            f"position {position} ({safe(header.type)} on {safe(header.stream)}) is among the "
            f"{found.checkpoint.size} events that {safe(found.checkpoint.origin)} signed"
        )
    return 0


def _array(entry: bytes) -> list[Any]:
    import msgspec

    return msgspec.json.decode(entry, type=list[Any])


@audit.command
async def export(
    *,
    to: Annotated[Path, Parameter(help="the folder to write; an earlier export goes on")],
    bodies: Annotated[
        str, Parameter(help="what goes along: none, payloads, or all (manifests too)")
    ] = "payloads",
    output: Output = "table",
    stopped: Stopped = RUNNING,
    at: Connection = HERE,
) -> int:
    """Write the log with its proofs into a folder that can be verified without any server.

    For example:

        trueup audit export --to audit-2026
        trueup audit export --to audit-2026 --bodies none
        trueup audit export --to audit-2026 --data-dir /var/lib/trueup
    """
    from engine.audit.export import ExportRefused
    from engine.audit.export import export as write
    from engine.process.clock import SystemClock

    if bodies not in ("none", "payloads", "all"):
        raise CliError(f"--bodies is none, payloads or all, not {bodies}")
    async with proofs_of(stopped, at) as source:
        try:
            done = await write(source, to, bodies, lambda p: note(str(p)), SystemClock())  # type: ignore[arg-type]
        except ExportRefused as error:
            raise CliError(str(error)) from error
        except OSError as error:
            raise CliError(f"{to} cannot be written: {error}") from error
    value = {
        "folder": str(to),
        "origin": done.checkpoint.origin,
        "size": done.checkpoint.size,
        "payloads": done.payloads,
        "blobs": done.blobs,
        "missing": [{"digest": digest, "position": at} for digest, at in done.missing],
    }
    if not print_data(output, value):
        print_fields({name: value[name] for name in value if name != "missing"})
        for digest, place in done.missing:
            note(f"position {place} names {digest}, which the log lost: see `trueup fsck`")
        note(f"verify it with: trueup audit verify {to}")
    return 0


@audit.command
def verify(
    path: Path,
    /,
    *,
    since: Annotated[
        list[Path] | None, Parameter(help="a checkpoint kept from earlier, that must be extended")
    ] = None,
    key: Keys = None,
    jobs: Annotated[
        int | None, Parameter(help="processes that verify at once; as many as processors if unset")
    ] = None,
    output: Output = "table",
) -> int:
    """Verify an export, or the proof of one event: offline, trusting public keys alone.

    Exits 0 where all of it is as it was signed, 1 where not; the first position that was altered,
    dropped, reordered or inserted is named. Every file must be vouched for by what is signed.

    For example:

        trueup audit verify audit-2026 --key trueup.dev/log/…+1234abcd+AQ…
        trueup audit verify audit-2026 --key log.pub --since checkpoint-2026-01-31
        trueup audit verify 4711.tlog-proof --key log.pub
    """
    from concurrent.futures import BrokenExecutor

    from engine.audit.verify import Fault
    from engine.audit.verify import verify as check
    from engine.process.clock import SystemClock

    if jobs is not None and jobs < 1:
        raise CliError(f"--jobs is 1 or more, not {jobs}")
    keys = [item for given in key or [] for item in _keys_in(given)]
    if path.is_file():
        return _verify_proof(path, keys, output)
    older = [_read(item) for item in since or []]
    try:
        found = check(path, keys, older, _tell, SystemClock(), jobs or _processors())
    except Fault as error:
        value: dict[str, Any] = {
            "verified": False,
            "position": error.position or None,
            "until": error.until or None,
            "file": error.file or None,
            "problem": error.what,
        }
        if not print_data(output, value):
            say("NOT as it was signed")
            for line in wrap(safe(error.told), _WIDTH):
                say(f"  {line}")
            if error.file:
                say(f"  in {safe(error.file)}")
        return 1
    except OSError as error:
        raise CliError(f"{path} cannot be read: {error}") from error
    except BrokenExecutor as error:
        raise CliError(
            "a process that verified was ended from outside", hint="try again with --jobs 1"
        ) from error
    _say_verified(found, keys, output)
    return 0


def _say_verified(found: Verified, keys: list[Any], output: Format) -> None:
    value = {
        "verified": True,
        "origin": found.checkpoint.origin,
        "size": found.checkpoint.size,
        "root": found.checkpoint.root.hex(),
        "keys": [str(item) for item in found.keys],
        "since": found.since or None,
        "payloads": found.payloads,
        "withheld": found.withheld,
        "blobs": found.blobs,
    }
    if not print_data(output, value):
        say(f"verified: {found.checkpoint.size} events of {safe(found.checkpoint.origin)}")
        say(f"  payloads verified {found.payloads}, left out {found.withheld}")
        say(f"  bodies verified {found.blobs}{'' if found.blobs else ': none is in this export'}")
        if found.since:
            say(f"  and they extend the {found.since} events of the checkpoint from earlier")
        if not keys:
            _say_unpinned([str(item) for item in found.keys])


def _tell(progress: object) -> None:
    note(str(progress))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _verify_proof(path: Path, keys: list[Any], output: Format) -> int:
    from engine.audit.prove import NoProof, read_proof

    if not keys:
        raise CliError(
            "a proof names no keys to trust", hint="give the log's public key with --key"
        )
    try:
        found = read_proof(_read(path), keys)
    except NoProof as error:
        if not print_data(output, {"verified": False, "problem": str(error)}):
            say(f"NOT proven: {safe(error)}")
        return 1
    header = dict(zip(found.header.__struct_fields__, _array(found.entry), strict=True))
    value = {"verified": True, "size": found.checkpoint.size, "header": header}
    if not print_data(output, value):
        say(
            f"verified: this event is among the {found.checkpoint.size} of "
            f"{safe(found.checkpoint.origin)}"
        )
        print_fields(header, indent="  ")
    return 0


def _say_unpinned(keys: list[str]) -> None:
    note("with the export's own keys: make sure from elsewhere that they are the log's, then")
    for key in keys:
        note(f"  --key {safe(key)}")


def _keys_in(given: str) -> list[Any]:
    from events.note import NoteWrong, parse_verifier

    text = given if "+" in given and not Path(given).is_file() else _read(Path(given))
    try:
        return [parse_verifier(line.strip()) for line in text.split("\n") if line.strip()]
    except NoteWrong as error:
        raise CliError(f"--key: {error}") from error


def _read(path: Path) -> str:
    from events.note import MAX_NOTE

    try:
        with path.open("rb") as file:
            return file.read(MAX_NOTE + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{path} cannot be read: {error}") from error


@audit.command
def new_key(*, config: Path | None = None, stopped: Stopped = RUNNING) -> int:
    """Add a key to those that sign checkpoints, on the engine's machine; restart it to use it.

    Checkpoints then carry the signatures of all keys in the file. Once those who verify know the
    new one, take the old line out of the file.

    For example:

        trueup audit new-key
    """
    from engine.signing.setup import make_seed, read_seeds

    settings = _settings(stopped, config)
    path = settings.signing_key
    try:
        before = read_seeds(path)
        if not before:
            raise CliError(f"{path} has no key yet", hint="the engine makes it at its first start")
        make_seed(path, "trueup.dev/log", before)
    except (OSError, ValueError) as error:
        raise CliError(str(error)) from error
    say(f"{path} has {len(before) + 1} keys now: restart the engine, and it signs with each")
    return 0


def _settings(stopped: Stopped, config: Path | None) -> Settings:
    from engine.settings import SettingsRefused, load

    flags = {"data_dir": stopped.data_dir, "database_url": stopped.database_url}
    try:
        return load(flags, config=config)
    except SettingsRefused as error:
        raise CliError("the settings cannot be used", lines=error.problems) from error


@audit.command
async def accept_restore(
    *,
    reason: Annotated[str, Parameter(name=["--reason", "-m"], help="why, for the record")],
    config: Path | None = None,
    stopped: Stopped = RUNNING,
    output: Output = "table",
) -> int:
    """Go on with a database that does not extend its last signed head: events are lost for good.

    For a stopped engine, on its machine. The head that is given up is entered in the log, with the
    reason; what is signed from then on goes by another origin, and auditors who keep checkpoints
    will see the break.

    For example:

        trueup audit accept-restore --reason "disk failed, back to the backup of 3 March"
    """
    from engine.process.clock import SystemClock
    from engine.signing.setup import accept_restore as accept
    from events.connection import make_pool
    from events.event import Actor
    from events.log import LogError
    from events.postgres import open_log

    settings = _settings(stopped, config)
    if not reason.strip():
        raise CliError("a restore is accepted for a reason: give it with --reason")
    here = Stopped(settings.directory, settings.database_url)
    actor = Actor(f"user:{re.sub('[^a-z0-9.-]', '-', getpass.getuser().lower())[:63]}")
    try:
        async with database_of(here) as dsn, open_log(dsn) as log:
            pool = await make_pool(dsn, 2)
            try:
                known, position = await accept(
                    settings, pool, log, SystemClock(), actor, reason.strip()
                )
            finally:
                pool.terminate()
    except (LogError, ValueError, OSError) as error:
        raise CliError(str(error), code=getattr(error, "code", "")) from error
    value = {"position": position, "lost": known.checkpoint.size, "from": known.store}
    if not print_data(output, value):
        say(
            f"accepted at position {position}: the head of {known.checkpoint.size} events is "
            "given up"
        )
    return 0
