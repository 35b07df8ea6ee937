"""How people write fields of an object: as differences show them, or as JSON pointers. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_KEY = rf"[A-Za-z0-9_.-]+=(?:{_QUOTED}|[^\[\]\",]+)"
_ITEM = rf"\[(?:\*|\d+|=(?:{_QUOTED}|[^\[\]\"]+)|{_KEY}(?:,{_KEY})*)\]"
_SHOWN = re.compile(rf"(?:\.[^.\[\]]+(?:{_ITEM})*)+")
_ANY_ITEM = rf"\[(?:[^\]\"]|{_QUOTED})*\]"


def field_path_fault(text: str) -> str:
    """Return what is wrong with a path; "" where it is good."""
    if any(ord(char) < 32 or ord(char) == 127 for char in text):
        return "must be one line, without control characters"
    if text.startswith("/"):
        bad = re.search(r"~(?![01])", text)
        return "is no JSON pointer: ~ is written ~0" if bad else ""
    return "" if _SHOWN.fullmatch(text) else "is no path of a field"


def pointer_tokens(text: str) -> tuple[str, ...]:
    """Return a JSON pointer's parts, unescaped."""
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


@lru_cache(maxsize=1024)
def shown_pattern(text: str) -> re.Pattern[str]:
    """Return what matches the shown form of a field, where `[*]` stands for any list item."""
    return re.compile(_ANY_ITEM.join(re.escape(part) for part in text.split("[*]")))
