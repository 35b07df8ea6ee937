"""docs/errors.md and docs/resources.md, as text."""

from __future__ import annotations

from collections.abc import Iterator

from engine.explain.errors import EXIT_CODES, entries
from engine.explain.fields import KINDS, Field, kind_of, walk

_MADE = "<!-- Made by `python -m engine.explain docs`: change the code that it tells of. -->"


def errors_page() -> str:
    """Return docs/errors.md."""
    return "\n".join(_errors())


def resources_page() -> str:
    """Return docs/resources.md."""
    return "\n".join(_resources())


def _errors() -> Iterator[str]:
    yield from (
        "# Errors",
        "",
        _MADE,
        "",
        "Every error has a code that does not change: in the API's problems (`code`), in events, "
        "and in what",
        "`trueup describe` shows. `trueup explain error CODE` prints an entry of this page.",
        "",
        "## Exit codes of the command line",
        "",
        "| code | meaning |",
        "|---|---|",
    )
    for number, meaning in EXIT_CODES.items():
        yield f"| {number} | {meaning} |"
    yield from ("", "## Codes", "")
    for code, entry in sorted(entries().items()):
        yield from (
            f"### {code}",
            "",
            f"*{entry.where}.* {entry.what}",
            "",
            f"**Why:** {entry.why}",
            "",
            f"**What to do:** {entry.remedy}",
            "",
        )


def _resources() -> Iterator[str]:
    yield from (
        "# Declared resources",
        "",
        _MADE,
        "",
        "What `trueup apply` takes, field by field; `trueup explain KIND.FIELD` prints the same.",
        "",
    )
    for name in sorted(KINDS):
        kind = kind_of(name)
        yield from (f"## {name}", "", " ".join(filter(None, (kind.description, kind.details))), "")
        yield from ("| field | type | default | what it says |", "|---|---|---|---|")
        for field in walk(kind):
            default = "required" if field.required else _code(field.default)
            yield f"| `{field.path}` | {field.type} | {default} | {_cell(field)} |"
        yield ""


def _cell(field: Field) -> str:
    parts = [field.description, field.details]
    if field.allowed:
        parts.append(f"One of {', '.join(f'`{word}`' for word in field.allowed)}.")
    if field.rule:
        parts.append(f"Form: `{field.rule}`.")
    if field.example:
        parts.append(f"For example `{field.example}`.")
    return " ".join(part for part in parts if part).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
