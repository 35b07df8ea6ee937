"""`apply`, `delete`, `get`, `describe`: what is declared, and how it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from cyclopts import Parameter

from engine.cli.client import USAGE, Client, CommandFailed, Common, perform
from engine.cli.output import difference_line, event_lines, show

COLLECTIONS = {
    "repositories": "repositories",
    "repository": "repositories",
    "repo": "repositories",
    "clusters": "clusters",
    "cluster": "clusters",
    "applications": "applications",
    "application": "applications",
    "app": "applications",
    "apps": "applications",
    "targets": "targets",
    "target": "targets",
}
_ENDINGS = (".yaml", ".yml", ".json")
_NONE = Common()


def apply(
    *,
    filename: Annotated[list[str], Parameter(name=["--filename", "-f"])],
    common: Common = _NONE,
) -> None:
    """Declare the resources of files, of the files in a folder, or of standard input (-).

    Examples
    --------
    trueup apply -f shop.yaml
    """
    from engine.resources.parse import Refused, parse_files

    async def work() -> None:
        try:
            found = parse_files(_read(filename))
        except Refused as refused:
            lines = [
                f"{problem.file}:{problem.line}: {problem.field}: {problem.message}"
                for problem in refused.problems
            ]
            raise CommandFailed("nothing was applied:\n  " + "\n  ".join(lines), USAGE) from None
        client = Client(common)
        body = [msgspec.to_builtins(item.resource) for item in found]
        answer = await client.call("POST", "/v1/resources", body)
        client.wrote(answer["position"])
        rows = [(f"{r['kind']}/{r['name']}", r["result"], r["position"]) for r in answer["results"]]
        show(common.output, answer, rows, ("RESOURCE", "RESULT", "POSITION"))

    perform(work)


def delete(name: str, *, cascade: bool = False, reason: str = "", common: Common = _NONE) -> None:
    """Take a resource back: KIND/NAME. Its objects stay unless --cascade is given.

    Examples
    --------
    trueup delete application/shop --reason "no longer sold"
    """
    collection, item = _kind_and_name(name)

    async def work() -> None:
        client = Client(common)
        kind = collection.removesuffix("s").replace("repositorie", "repository")
        query = f"?reason={quote(reason)}" + ("&cascade=true" if cascade else "")
        path = f"/v1/resources/{kind}/{client.project}/{quote(item)}{query}"
        answer = await client.call("DELETE", path)
        client.wrote(answer["position"])
        show(common.output, answer, [(name, answer["position"])], ("DELETED", "POSITION"))

    perform(work)


def get(kind: str, name: str | None = None, *, common: Common = _NONE) -> None:
    """List repositories, clusters, applications or targets, or one of them.

    Examples
    --------
    trueup get targets
    """
    collection = _collection(kind)

    async def work() -> None:
        client = Client(common)
        path = f"/v1/{collection}/{client.project}"
        if name is not None:
            found = await client.call("GET", f"{path}/{quote(name, safe='@')}")
            items = [found["status"] if collection == "targets" else found]
        else:
            items = await client.pages(path)
        headings, rows = _table(collection, items, common.output == "wide")
        show(common.output, items, rows, headings)

    perform(work)


def describe(kind: str, name: str, *, common: Common = _NONE) -> None:
    """Show all that is known of a resource or target, and what happened to it last.

    Examples
    --------
    trueup describe target shop@prod
    """
    collection = _collection(kind)

    async def work() -> None:
        client = Client(common)
        path = f"/v1/{collection}/{client.project}/{quote(name, safe='@')}"
        found = await client.call("GET", path)
        if common.output not in ("table", "wide"):
            show(common.output, found, (), ())
            return
        import yaml

        drift = (found.get("drift") or {}).get("open") or {}
        shown = {key: value for key, value in found.items() if key not in ("drift", "objects")}
        yaml.safe_dump(shown, sys.stdout, sort_keys=False, allow_unicode=True)
        for difference in drift.get("differences", ()):
            sys.stdout.write(difference_line(difference) + "\n")
        subject = name if collection == "targets" else f"{collection}/{name}"
        subject = subject.replace("repositories/", "repository/").replace("s/", "/", 1)
        query = f"subject={quote(subject)}&project={client.project}&order=desc&limit=10"
        events = await client.call("GET", f"/v1/timeline?{query}")
        for event in reversed(events["items"]):
            sys.stdout.write("\n".join(event_lines(event)) + "\n")

    perform(work)


def _read(names: list[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name in names:
        try:
            if name == "-":
                files["standard input"] = sys.stdin.buffer.read()
            elif Path(name).is_dir():
                for path in sorted(Path(name).iterdir()):
                    if path.suffix in _ENDINGS and path.is_file():
                        files[str(path)] = path.read_bytes()
            else:
                files[name] = Path(name).read_bytes()
        except OSError as error:
            raise CommandFailed(f"{name} cannot be read: {error.strerror}", USAGE) from None
    if not files:
        raise CommandFailed("there is no .yaml, .yml or .json file there", USAGE)
    return files


def _collection(word: str) -> str:
    from engine.resources.spelling import did_you_mean

    collection = COLLECTIONS.get(word.lower())
    if collection is None:
        near = did_you_mean(word, COLLECTIONS)
        raise SystemExit(f"trueup: there are no {word}{near}")
    return collection


def _kind_and_name(text: str) -> tuple[str, str]:
    kind, slash, name = text.partition("/")
    collection = COLLECTIONS.get(kind.lower())
    if not slash or not name or collection in (None, "targets"):
        raise SystemExit("trueup: name it as application/NAME, cluster/NAME or repository/NAME")
    return str(collection), name


def _table(
    collection: str, items: list[dict[str, Any]], wide: bool
) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    match collection:
        case "targets":
            rows: list[tuple[object, ...]] = [
                (i["target"], i["sync"], i["health"], i["revision"][:10], _cut(i["reason"], wide))
                for i in items
            ]
            return ("TARGET", "SYNC", "HEALTH", "REVISION", "REASON"), rows
        case "applications":
            rows = [
                (i["name"], i["sync"], i["health"], f"{i['synced']}/{i['total']}") for i in items
            ]
            return ("APPLICATION", "SYNC", "HEALTH", "SYNCED"), rows
        case "clusters":
            rows = [
                (
                    i["name"],
                    "connected" if i["state"]["connected"] else "not connected",
                    i["state"]["server_version"],
                )
                for i in items
            ]
            return ("CLUSTER", "STATE", "VERSION"), rows
    rows = [
        (
            i["name"],
            i["state"]["commit"][:10],
            i["state"]["ref"],
            (i["state"]["failure"] or {}).get("message", ""),
        )
        for i in items
    ]
    return ("REPOSITORY", "COMMIT", "REF", "FAILURE"), rows


def _cut(text: str, wide: bool, limit: int = 40) -> str:
    return text if wide or len(text) <= limit else text[: limit - 1] + "…"
