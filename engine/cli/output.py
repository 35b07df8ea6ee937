"""What commands print: data to standard output, all else to standard error.

Tables fit the terminal; into a pipe they go uncut. What comes from outside (a commit's subject, an
object's name) may hold terminal escape sequences: they are made visible, never sent.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Literal

import msgspec

from engine.cli.errors import CliError
from engine.settings import plain_output

Format = Literal["table", "wide", "json", "yaml", "jsonl"]
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ud800-\udfff]"
)
_UNSAFE_IN_LINE = re.compile(_UNSAFE.pattern + "|[\t\n]")
_STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "cyan": "36",
}
_WORDS = {
    "synced": "green",
    "healthy": "green",
    "connected": "green",
    "created": "green",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "failed": "red",
    "degraded": "red",
    "lost": "red",
    "missing": "red",
    "held": "yellow",
    "out-of-sync": "yellow",
    "pending": "cyan",
    "progressing": "cyan",
    "configured": "cyan",
    "suspended": "yellow",
}
LEAST_COLUMN = 8
HANGING = "      "
_STYLE = re.compile("\x1b\\[[0-9]+m")


def safe(value: object) -> str:
    """Return text in one line in which nothing can steer a terminal: such characters are shown."""
    return _UNSAFE_IN_LINE.sub(_shown, str(value))


def styled(text: str, style: str, file: IO[str] | None = None) -> str:
    """Colour text, where the output is a terminal that wants colours."""
    code = _STYLES.get(style)
    if not code or not has_colours(file or sys.stdout):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def word(text: str) -> str:
    """Colour a word that says how something stands."""
    return styled(text, _WORDS.get(text.strip(), ""))


def has_colours(file: IO[str]) -> bool:
    """Say whether colours may be sent."""
    return file.isatty() and not plain_output()


def width_of(file: IO[str]) -> int | None:
    """Return how many columns a terminal has; None where the output is none."""
    return shutil.get_terminal_size((80, 24)).columns if file.isatty() else None


def note(text: str) -> None:
    """Say how it goes, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def say(text: str = "") -> None:
    """Print a line of data."""
    sys.stdout.write(text + "\n")


def tell(line: str) -> None:
    """Print a line for people: on a terminal in as many as it takes, the further ones set in."""
    width = width_of(sys.stdout)
    for part in (line,) if width is None else wrapped(line, width):
        say(part)


def wrapped(line: str, width: int) -> Iterator[str]:
    """Cut a line at its spaces into lines of at most `width` columns, where it has spaces."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    hanging = indent + HANGING
    current, length = "", 0
    for word_ in line.lstrip(" ").split(" "):
        columns = len(_STYLE.sub("", word_))
        if current and length + 1 + columns > width:
            yield current
            current, length = hanging + word_, len(hanging) + columns
        elif current:
            current, length = f"{current} {word_}", length + 1 + columns
        else:
            current, length = indent + word_, len(indent) + columns
    yield current


def print_error(error: CliError) -> None:
    """Print why a command ended, what was found, and what to do about it."""
    label = styled("error:", "red", sys.stderr)
    lines = [f"{label} {safe(error.message)}", *(f"  {safe(line)}" for line in error.lines)]
    hint = error.hint or (f"`trueup explain error {error.code}` tells more" if error.code else "")
    if hint:
        lines.append(f"{styled('hint:', 'cyan', sys.stderr)} {safe(hint)}")
    note("\n".join(lines))


def print_json(value: object) -> None:
    """Print one JSON document, indented."""
    say(_escaped(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))


def print_lines(values: Iterable[object]) -> None:
    """Print a JSON document a line."""
    for value in values:
        say(_escaped(msgspec.json.encode(value).decode()))
    sys.stdout.flush()


def print_yaml(values: Iterable[object]) -> None:
    """Print YAML documents."""
    import yaml

    texts = []
    for value in values:
        text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100)
        if _UNSAFE.search(text):
            text = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=100)
        texts.append(text)
    sys.stdout.write("---\n".join(texts))


def print_data(shape: Format, value: Any, items: Sequence[Any] | None = None) -> bool:
    """Print for a machine, where the format is one; False where a table is wanted.

    `items` are printed singly as YAML documents and JSON lines.
    """
    match shape:
        case "json":
            print_json(value)
        case "yaml":
            print_yaml([value] if items is None else items)
        case "jsonl":
            print_lines([value] if items is None else items)
        case _:
            return False
    return True


def print_table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    flexible: Sequence[str] = (),
    with_header: bool = True,
) -> None:
    """Print columns under a header. On a terminal the `flexible` ones are cut until it fits."""
    cells = [[safe("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    width = width_of(sys.stdout)
    if width is not None:
        _shrink(widths, [header.index(name) for name in flexible], width)
    if with_header:
        say(styled(_row(header, widths), "bold"))
    for row in cells:
        say(_row([_cut(cell, size) for cell, size in zip(row, widths, strict=True)], widths, word))


def print_fields(fields: Mapping[str, object], indent: str = "") -> None:
    """Print names and values, one a line; empty ones are left out."""
    shown = {name: safe(value) for name, value in fields.items() if value not in (None, "", (), [])}
    size = max(map(len, shown), default=0) + 1
    for name, value in shown.items():
        say(f"{indent}{styled(f'{name}:'.ljust(size), 'dim')} {word(value)}")


def one_line(value: object, most: int = 60) -> str:
    """Write a value of an object in a few characters."""
    text = "none" if value is None else msgspec.json.encode(value).decode()
    return _cut(safe(text), most)


def age(text: str | None, now: float) -> str:
    """Write how long ago a time (RFC 3339) was: `5s`, `12m`, `3h`, `9d`."""
    if not text:
        return ""
    from datetime import datetime

    seconds = max(0, int(now - datetime.fromisoformat(text).timestamp()))
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def local_time(text: str) -> str:
    """Write a time (RFC 3339) as the clock on the wall shows it here."""
    from datetime import datetime

    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _row(cells: Sequence[str], widths: Sequence[int], style: Any = str) -> str:
    padded = [style(cell.ljust(size)) for cell, size in zip(cells, widths, strict=True)]
    padded[-1] = style(cells[-1])
    return "  ".join(padded).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: max(1, size - 1)] + "…"


def _shrink(widths: list[int], flexible: Sequence[int], width: int) -> None:
    over = sum(widths) + 2 * (len(widths) - 1) - width
    while over > 0:
        widest = max(flexible, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= LEAST_COLUMN:
            return
        widths[widest] -= 1
        over -= 1


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _escaped(text: str) -> str:
    # In JSON these can only stand inside of strings, where such an escape means the same.
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
