"""`explain`: what a field of a resource means, and what an error's code means."""

from __future__ import annotations

import textwrap
from typing import Annotated

from cyclopts import Parameter
from msgspec import to_builtins

from engine.cli.errors import CliError
from engine.cli.output import Format, print_data, say, styled
from engine.explain.errors import Entry, UnknownCode, entries, entry
from engine.explain.fields import KINDS, Field, UnknownField, find, kind_of, walk

WIDTH = 78


async def explain(
    what: str | None = None,
    code: str | None = None,
    /,
    *,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"], negative="")] = False,
    output: Annotated[Format, Parameter(name=["--output", "-o"])] = "table",
) -> int:
    """Tell what a field of a declared resource means, or what an error's code means.

    Without a word it lists what can be explained. For example:

        trueup explain
        trueup explain application
        trueup explain application.sync
        trueup explain repository.spec.ref --recursive
        trueup explain error render-failed

    Parameters
    ----------
    what
        a kind, a field of it (`spec.` may be left out), or `error` with a code
    code
        the error's code, after `error`
    recursive
        list the fields below it, and theirs
    output
        table, or json, yaml
    """
    if what is None:
        return _list_all(output)
    if what.lower() in ("error", "errors"):
        return _explain_error(code, output)
    if code is not None:
        raise CliError(
            f"{what} {code} names two things", hint="a field is written application.spec.sync"
        )
    try:
        kind, field = find(what)
    except UnknownField as error:
        # `explain E-no-token` and `explain no-token` are clear enough.
        if what.lower().removeprefix("e-") in entries():
            return _explain_error(what, output)
        raise CliError(str(error), hint="`trueup explain error` lists the errors' codes") from error
    if not print_data(output, to_builtins(field)):
        _print_field(kind, field, recursive)
    return 0


def _list_all(output: Format) -> int:
    kinds = {kind.lower(): kind_of(kind) for kind in sorted(KINDS)}
    about = {name: kind.description for name, kind in kinds.items()}
    if print_data(output, {"kinds": about, "errors": sorted(entries())}):
        return 0
    say(styled("KINDS:", "bold") + "  (trueup explain application.sync)")
    for name, kind in kinds.items():
        say(f"  {styled(name, 'bold')}")
        _paragraph(kind.description, "    ")
        spec = next(field for field in kind.fields if field.name == "spec")
        _paragraph(", ".join(field.name for field in spec.fields), "    ")
    say()
    say(styled("ERRORS:", "bold") + "  (trueup explain error render-failed)")
    say(f"  {len(entries())} codes; `trueup explain error` lists them")
    return 0


def _explain_error(code: str | None, output: Format) -> int:
    if code is None:
        if not print_data(output, to_builtins(entries())):
            _print_codes()
        return 0
    try:
        known, found = entry(code)
    except UnknownCode as error:
        raise CliError(str(error), hint="`trueup explain error` lists them") from error
    if not print_data(output, {"code": known, **to_builtins(found)}):
        _print_entry(known, found)
    return 0


def _print_codes() -> None:
    width = max(map(len, entries()))
    for code, found in sorted(entries().items()):
        text = textwrap.shorten(found.what, WIDTH - width - 2, placeholder=" …")
        say(f"{code:<{width}}  {text}")


def _print_entry(code: str, found: Entry) -> None:
    say(styled(code, "bold") + f"  ({found.where})")
    for title, text in (("What", found.what), ("Why", found.why), ("What to do", found.remedy)):
        say()
        say(styled(f"{title}:", "bold"))
        _paragraph(text, "  ")


def _print_field(kind: str, field: Field, recursive: bool) -> None:
    say(f"{styled('KIND:', 'bold')}     {kind}  (trueup.dev/v1)")
    if field.path != kind:
        say(f"{styled('FIELD:', 'bold')}    {field.path} <{field.type}>{_mark(field)}")
    for title, text in (
        ("DEFAULT", field.default),
        ("ALLOWED", ", ".join(field.allowed)),
        ("FORM", field.rule),
        ("EXAMPLE", field.example),
    ):
        if text:
            say(f"{styled(title + ':', 'bold'):<9} {text}")
    say()
    say(styled("DESCRIPTION:", "bold"))
    _paragraph(" ".join(filter(None, (field.description, field.details))), "  ")
    if field.fields:
        say()
        say(styled("FIELDS:", "bold"))
        shown = list(walk(field)) if recursive else field.fields
        top = field.path.count(".") + (1 if field.path != kind else 0)
        for item in shown:
            indent = "  " * (item.path.count(".") - top + 1)
            say(f"{indent}{styled(item.name, 'bold')} <{item.type}>{_mark(item)}")
            if not recursive:
                _paragraph(_short(item), indent + "    ")
                say()


def _short(field: Field) -> str:
    more = f" One of {', '.join(field.allowed)}." if field.allowed else ""
    default = f" Default: {field.default}." if field.default else ""
    return field.description + more + default


def _mark(field: Field) -> str:
    return " (required)" if field.required else ""


def _paragraph(text: str, indent: str) -> None:
    say(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent))
