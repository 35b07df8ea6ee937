"""JSON files to plain values, with what a general JSON reader lets pass refused. Pure."""

from __future__ import annotations

import json
from typing import Any

from engine.objects.yaml_scalars import number


class JsonRefused(Exception):
    """JSON, but none that can be taken. `document` and `line` count from 1."""

    def __init__(self, code: str, message: str, document: int, line: int) -> None:
        super().__init__(message)
        self.code, self.message, self.document, self.line = code, message, document, line


class _DuplicateKey(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _DuplicateKey
    return found


def _not_finite(_: str) -> Any:
    raise ValueError("not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_finite)


def load_json_stream(
    text: str, depth: int, nodes: int, documents: int
) -> list[tuple[int, int, dict[str, Any]]] | None:
    """Read JSON objects one after another: (index from 1, line from 1, value).

    Returns None where the text is not JSON. Raises `JsonRefused` beyond a limit, and for
    duplicate keys, NUL characters and lone surrogates.
    """
    found: list[tuple[int, int, dict[str, Any]]] = []
    at, line, left = _skip_space(text, 0), 1, nodes
    seen = 0
    while at < len(text):
        line += text.count("\n", seen, at)
        seen = at
        index = len(found) + 1
        if index > documents:
            raise JsonRefused("too-many-documents", f"more than {documents} documents", index, line)
        try:
            value, end = _decoder.raw_decode(text, at)
        except _DuplicateKey as error:
            raise JsonRefused(
                "duplicate-key",
                f"a key is there twice in one mapping of the object at line {line}",
                index,
                line,
            ) from error
        except RecursionError as error:
            raise JsonRefused("too-deep", f"nested deeper than {depth}", index, line) from error
        except ValueError:
            return None
        if not isinstance(value, dict):
            raise JsonRefused("not-a-mapping", "a document must be a mapping", index, line)
        checked, left = _check(value, depth, left, index, line)
        found.append((index, line, checked))
        at = _skip_space(text, end)
    return found


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _check(
    root: dict[str, Any], depth: int, left: int, index: int, line: int
) -> tuple[dict[str, Any], int]:
    """Hold a value against the limits and put its numbers as Kubernetes has them, in place."""
    work: list[tuple[Any, int]] = [(root, 1)]
    while work:
        value, level = work.pop()
        if level > depth:
            raise JsonRefused("too-deep", f"nested deeper than {depth}", index, line)
        if isinstance(value, dict):
            for key in value:
                _check_text(key, index, line)
            items: Any = list(value.items())
        else:
            items = list(enumerate(value))
        left -= len(items)
        if left < 0:
            raise JsonRefused("too-many-values", "more values than one file may have", index, line)
        for key, one in items:
            if isinstance(one, (dict, list)):
                work.append((one, level + 1))
            elif isinstance(one, str):
                _check_text(one, index, line)
            elif isinstance(one, (int, float)) and not isinstance(one, bool):
                value[key] = _number(one, index, line)
    return root, left


def _number(value: float, index: int, line: int) -> int | float:
    try:
        found = number(value)
    except OverflowError:
        found = float("inf")
    if found in (float("inf"), float("-inf")):
        raise JsonRefused("wrong-value", "a number is out of range", index, line)
    return found


def _check_text(text: str, index: int, line: int) -> None:
    if text.isascii():
        if "\x00" in text:
            raise JsonRefused("control-character", "NUL character", index, line)
        return
    if "\x00" in text:
        raise JsonRefused("control-character", "NUL character", index, line)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise JsonRefused("not-utf8", "half a surrogate pair", index, line) from error
