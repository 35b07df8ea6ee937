"""`apply` and `delete`: what is declared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from engine.cli.client import Client, connect
from engine.cli.connection import HERE, Connection
from engine.cli.errors import CliError
from engine.cli.names import SINGULAR, split_name
from engine.cli.output import Format, note, print_data, say, word
from engine.resources.parse import Located, Problem, Refused, parse_files, path_of
from engine.resources.record import kind_of, plain

ENDINGS = (".yaml", ".yml", ".json")


async def apply(
    *,
    file: Annotated[
        list[str],
        Parameter(
            name=["--file", "-f"],
            negative="",
            # Without this, "-" would be taken for an option.
            allow_leading_hyphen=True,
            help="a file, a folder, or - for standard input",
        ),
    ],
    recursive: Annotated[
        bool, Parameter(name=["--recursive", "-R"], negative="", help="folders below folders too")
    ] = False,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Declare the resources in files: all of them, or none if anything is wrong with one.

    Prints what each came to (created, configured, unchanged) and the position in the log.

    For example:

        trueup apply -f shop.yaml
        trueup apply -f clusters/ -f applications/
        kustomize build . | trueup apply -f -
    """
    found = _read(file, recursive)
    async with connect(at) as client:
        resources = [_in_project(plain(item.resource), at.project) for item in found]
        try:
            answer = await client.write("POST", "/v1/resources", resources)
        except CliError as error:
            raise _placed(error, found) from error
    if not print_data(output, answer, answer["results"]):
        for item in answer["results"]:
            name = f"{item['kind'].lower()}/{item['name']}"
            say(f"{name} {word(item['result'])}  (position {item['position']})")
    return 0


async def delete(
    kind: str,
    name: str | None = None,
    /,
    *,
    cascade: Annotated[
        bool, Parameter(negative="", help="delete its objects on the clusters too")
    ] = False,
    reason: Annotated[str, Parameter(help="why, for the record")] = "",
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
    at: Connection = HERE,
) -> int:
    """Take a declared resource back. Its objects stay, unless --cascade is said.

    For example:

        trueup delete application/shop --reason "moved to the new platform"
        trueup delete cluster dev
        trueup delete application/shop --cascade
    """
    collection, short = split_name(kind, name)
    if collection == "targets" or not short:
        raise CliError(
            "name one repository, cluster, application or notification",
            hint="for example application/shop",
        )
    singular = SINGULAR[collection]
    async with connect(at) as client:
        answer = await _delete(client, singular, short, cascade, reason)
    if not print_data(output, answer):
        kept = "its objects too" if cascade else "objects stay"
        what = "" if collection == "notifications" else f", {kept}"
        say(f"{singular}/{short} withdrawn{what}  (position {answer['position']})")
    return 0


async def _delete(client: Client, kind: str, name: str, cascade: bool, reason: str) -> Any:
    from urllib.parse import quote

    path = f"/v1/resources/{kind}/{quote(client.project, safe='')}/{quote(name, safe='')}"
    query = {"cascade": "true" if cascade else None, "reason": reason or None}
    return await client.write("DELETE", path, query=query)


def _read(places: Sequence[str], recursive: bool) -> list[Located]:
    files: dict[str, bytes] = {}
    for place in places:
        if place == "-":
            files["standard input"] = sys.stdin.buffer.read()
            continue
        for path in _files_at(Path(place), recursive):
            try:
                files[str(path)] = path.read_bytes()
            except OSError as error:
                raise CliError(f"{path} cannot be read: {error.strerror}") from error
    try:
        found = parse_files(files)
    except Refused as error:
        raise refusal(error.problems) from error
    if not found:
        raise CliError(f"there is no resource in {', '.join(places)}")
    return found


def _files_at(path: Path, recursive: bool) -> list[Path]:
    if not path.exists():
        raise CliError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    found = path.rglob("*") if recursive else path.iterdir()
    files = sorted(each for each in found if each.suffix in ENDINGS and each.is_file())
    if not files:
        deeper = "" if recursive else "; --recursive looks into folders below"
        raise CliError(f"there is no file ending in {', '.join(ENDINGS)} in {path}{deeper}")
    return files


def refusal(problems: Sequence[Problem]) -> CliError:
    """Return the error that names every problem, a line each."""
    count = len(problems)
    what = f"{count} problem{'s' if count > 1 else ''}"
    return CliError(f"nothing was applied: {what}", lines=map(str, problems))


def _placed(error: CliError, found: Sequence[Located]) -> CliError:
    """Give the problems that the server named the places in the files that they come from."""
    if error.code != "refused":
        return error
    places = {f"{kind_of(item.resource)}/{item.resource.metadata.name}": item for item in found}
    places |= {f"request, item {place}": item for place, item in enumerate(found, 1)}
    problems = []
    for told in error.problem.get("errors", ()):
        item = places.get(str(told.get("file")))
        field = str(told.get("field", ""))
        problems.append(
            Problem(
                file=item.file if item else str(told.get("file", "")),
                line=_line_of(item, field) if item else int(told.get("line", 0)),
                field=field,
                message=str(told.get("message", "")),
                hint=str(told.get("hint", "")),
            )
        )
    return refusal(problems) if problems else error


def _line_of(item: Located, field: str) -> int:
    return (item.line_of(path_of(field)) if field else 0) or item.line


def _in_project(resource: dict[str, Any], project: str | None) -> dict[str, Any]:
    metadata = resource["metadata"]
    if project and metadata.get("project", "default") == "default":
        metadata["project"] = project
    elif project and metadata["project"] != project:
        note(f"{resource['kind']} {metadata['name']} stays in project {metadata['project']}")
    return resource
