"""Every error's code: what happened, why, and what to do. The table is errors.toml beside this."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import msgspec
from msgspec import Struct

from engine.resources.spelling import did_you_mean


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """What a code means. `where` says who gives it: the API with its status, a hold, a render …"""

    where: str
    what: str
    why: str
    remedy: str


class UnknownCode(LookupError):
    """No error has this code; the message names the nearest."""


@cache
def entries() -> Mapping[str, Entry]:
    """Return all entries, by code."""
    text = (files(__package__) / "errors.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Entry])


def entry(code: str) -> tuple[str, Entry]:
    """Return a code as it is written, and its entry. Raises `UnknownCode`."""
    short = code.strip().lower().removeprefix("urn:trueup:problem:").removeprefix("e-")
    found = entries().get(short)
    if found is None:
        raise UnknownCode(f"no error has the code {short[:60]}{did_you_mean(short, entries())}")
    return short, found


EXIT_CODES = {
    0: "Done as asked; of `diff`: no difference; of `wait`: it is so.",
    1: "Looked, and it is not so: `diff` found differences, `wait` did not see it in time, "
    "`audit verify` or `doctor` found something wrong.",
    2: "It could not be done as it was asked. The message says why, the hint what to do.",
    130: "Interrupted with Ctrl-C.",
}
"""What the command line's exit codes mean."""
