"""How answers are shown: tables for people, JSON and YAML for programs; data to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from engine.cli.client import USAGE, CommandFailed

FORMATS = ("table", "wide", "json", "yaml", "jsonl")
Row = Sequence[object]


def clean(text: object) -> str:
    """Return a text without control characters: no escape sequence reaches the terminal."""
    return "".join(c if c.isprintable() else "?" for c in ("" if text is None else str(text)))


def show(form: str, value: Any, table: Iterable[Row], headings: Sequence[str]) -> None:
    """Show an answer as asked: `value` to programs, the table to people."""
    if form not in FORMATS:
        raise CommandFailed(f"-o {form} is unknown: {', '.join(FORMATS)}", USAGE)
    if form == "json":
        sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")
    elif form == "yaml":
        import yaml

        yaml.safe_dump(value, sys.stdout, sort_keys=False, allow_unicode=True)
    elif form == "jsonl":
        items = value if isinstance(value, list) else [value]
        for item in items:
            sys.stdout.write(orjson.dumps(item).decode() + "\n")
    else:
        write_table(headings, table)


def write_table(headings: Sequence[str], rows: Iterable[Row]) -> None:
    """Write columns as wide as they need to be, the last one unpadded."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not cells:
        sys.stderr.write("nothing found\n")
        return
    lines = [list(headings), *cells]
    widths = [max(len(line[place]) for line in lines) for place in range(len(headings))]
    for line in lines:
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def difference_line(difference: Mapping[str, Any]) -> str:
    """Write one difference on one line."""
    ref = difference["ref"]
    place = f"{ref['namespace']}/" if ref.get("namespace") else ""
    text = f"{difference['kind']:<12} {place}{ref['kind']}/{ref['name']}"
    if difference.get("path"):
        before, after = _short(difference.get("before")), _short(difference.get("after"))
        text += f" {difference['path']}: {before} -> {after}"
    if difference.get("manager"):
        text += f" (by {difference['manager']})"
    return clean(text)


def event_lines(event: Mapping[str, Any]) -> Iterable[str]:
    """Write an event as people read it: a line, and one for each field that differed."""
    payload = event["payload"]
    gist = next(
        (
            payload[key]
            for key in ("message", "reason", "how", "health", "commit")
            if key in payload
        ),
        "",
    )
    if "actions" in payload:
        gist = f"{payload.get('cause', '')}: {len(payload['actions'])} objects"
    if "objects" in payload and isinstance(payload["objects"], list) and not gist:
        gist = f"{len(payload['objects'])} objects"
    yield clean(
        f"{event['position']:>6}  {event['recordedAt'][:19].replace('T', ' ')}  "
        f"{event['type']:<20} {event['actor']:<18} {gist}"
    ).rstrip()
    for difference in payload.get("differences", ()):
        yield f"{'':8}{difference_line(difference)}"
    for result in payload.get("results", ()):
        if result["outcome"] not in ("created", "changed", "unchanged", "deleted", "gone"):
            ref = result["ref"]
            yield clean(
                f"{'':8}{result['outcome']} {ref['kind']}/{ref['name']}: {result.get('message')}"
            )


def _short(value: object, limit: int = 60) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"
