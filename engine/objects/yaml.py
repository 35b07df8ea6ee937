"""YAML and JSON files to plain values, exactly as kubectl would read them. Pure.

One pass over libyaml's events, without recursion, so that nesting, aliases and duplicates are
counted before anything is built from them. Scalars follow the resolver of sigs.k8s.io/yaml
(YAML 1.1 booleans, `012` is ten, `3.0` is 3, dates stay text). Stricter than kubectl in these:
duplicate keys, NUL characters, and keys that would change when made text are refused. No message
ever quotes a value, because files may hold secrets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from msgspec import Struct

from engine.objects.json_text import JsonRefused, load_json_stream
from engine.objects.yaml_scalars import NotThatTag, key_text, resolve

Path = tuple[str | int, ...]


class YamlLimits(Struct, frozen=True):
    """How much one file may be. What aliases repeat counts as if it were written out."""

    bytes: int = 10 * 1024 * 1024
    documents: int = 5_000
    depth: int = 100
    nodes: int = 1_000_000


class YamlRefused(Exception):
    """A file cannot be read. `code` is stable; `document` and `line` count from 1, 0 if unknown."""

    def __init__(self, code: str, message: str, document: int = 0, line: int = 0) -> None:
        super().__init__(message)
        self.code, self.message, self.document, self.line = code, message, document, line


class Document(Struct, frozen=True):
    """One document that is a mapping: its place in the file (from 1) and the line of its start."""

    index: int
    line: int
    value: dict[str, Any]


class Located(Struct, frozen=True):
    """A document with the line (from 1) of each field: of its key, or of the list item's start."""

    index: int
    line: int
    value: dict[str, Any]
    positions: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """Return the line of the field at `path`, or of the nearest field around it."""
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, self.line)


DEFAULT_LIMITS = YamlLimits()


def parse_documents(data: bytes, *, limits: YamlLimits = DEFAULT_LIMITS) -> list[Document]:
    """Read every document of a file; empty ones are left out, others must be mappings.

    What begins with `{` is tried as JSON first, as kubectl does. Raises `YamlRefused`.
    """
    text = _text_of(data, limits)
    if text.lstrip(" \t\r\n").startswith("{"):
        try:
            found = load_json_stream(text, limits.depth, limits.nodes, limits.documents)
        except JsonRefused as error:
            raise YamlRefused(error.code, error.message, error.document, error.line) from error
        if found is not None:
            return [Document(index, line, value) for index, line, value in found]
    return [Document(d.index, d.line, d.value) for d in _Reader(text, limits, False).read()]


def parse_located(data: bytes, *, limits: YamlLimits = DEFAULT_LIMITS) -> list[Located]:
    """Read every document of a file as `parse_documents` does, with the line of each field.

    Raises `YamlRefused`.
    """
    return _Reader(_text_of(data, limits), limits, True).read()


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# libyaml looks every directive up in a list, so many of them take quadratic time.
_TAG_DIRECTIVE = re.compile("^%TAG", re.MULTILINE)


def _text_of(data: bytes, limits: YamlLimits) -> str:
    if len(data) > limits.bytes:
        raise YamlRefused(
            "file-too-large", f"the file has {len(data)} bytes, more than {limits.bytes}"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise YamlRefused("not-utf8", f"not UTF-8 at line {line}", 0, line) from error
    control = _CONTROL.search(text)
    if control is not None:
        line = text.count("\n", 0, control.start()) + 1
        name = f"U+{ord(control[0]):04X}"
        raise YamlRefused("control-character", f"control character {name} at line {line}", 0, line)
    directive = _TAG_DIRECTIVE.search(text)
    if directive is not None:
        line = text.count("\n", 0, directive.start()) + 1
        raise YamlRefused("yaml-directive", f"%TAG directives are not read, line {line}", 0, line)
    return text


class _Frame:
    """A mapping or sequence being read."""

    __slots__ = ("anchor", "height", "key", "line", "merged", "nodes", "size", "value", "waiting")

    def __init__(self, value: dict[str, Any] | list[Any], line: int, anchor: str | None) -> None:
        self.value, self.line, self.anchor = value, line, anchor
        self.waiting = isinstance(value, dict)
        """Whether a mapping's key comes next."""
        self.key: str | None = None
        """The key whose value comes next; None for a merge key."""
        self.merged: set[str] = set()
        """Keys that a merge brought, which may still be overridden."""
        self.height = self.nodes = 1
        """Levels of nesting from here down, and values, this one included."""
        self.size = 0


class _Anchored(Struct, frozen=True):
    value: Any
    height: int
    nodes: int
    size: int


class _Reader:
    """Builds values from libyaml's events."""

    def __init__(self, text: str, limits: YamlLimits, located: bool) -> None:
        self._limits = limits
        self._parser = yaml.CSafeLoader(text)
        self._located = located
        self._positions: dict[Path, int] = {}
        self._stack: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._nodes = self._size = self._document = self._line = 0
        self._root: Any = None

    def read(self) -> list[Located]:
        found: list[Located] = []
        try:
            while (event := self._parser.get_event()) is not None:
                self._line = _line_of(event)
                if isinstance(event, yaml.DocumentStartEvent):
                    self._start_document()
                elif isinstance(event, yaml.DocumentEndEvent):
                    self._end_document(found)
                else:
                    self._node(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark is not None else self._line
            what = ", ".join(str(part) for part in (error.context, error.problem) if part)
            message = f"not YAML at line {line}: {what}"
            raise YamlRefused("not-yaml", message, max(self._document, 1), line) from error
        return found

    def _refuse(self, code: str, message: str, line: int = 0) -> YamlRefused:
        line = line or self._line
        return YamlRefused(code, f"{message}, line {line}", self._document, line)

    def _start_document(self) -> None:
        self._document += 1
        self._anchors, self._positions, self._root = {}, {}, None
        if self._document > self._limits.documents:
            raise self._refuse(
                "too-many-documents", f"more than {self._limits.documents} documents"
            )

    def _end_document(self, found: list[Located]) -> None:
        if self._root is None:
            return
        line = self._positions.pop((), self._line)
        if not isinstance(self._root, dict):
            raise self._refuse("not-a-mapping", "a document must be a mapping", line)
        found.append(Located(self._document, line, self._root, self._positions))

    def _node(self, event: Any) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            self._open({}, event.anchor)
        elif isinstance(event, yaml.SequenceStartEvent):
            self._open([], event.anchor)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor))

    def _count(self, nodes: int, size: int) -> None:
        self._nodes += nodes
        self._size += size
        if self._nodes > self._limits.nodes:
            raise self._refuse("too-many-values", f"more than {self._limits.nodes} values")
        if self._size > self._limits.bytes:
            raise self._refuse(
                "file-too-large", f"with aliases written out, more than {self._limits.bytes} bytes"
            )

    def _open(self, value: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self._count(1, 0)
        if len(self._stack) >= self._limits.depth:
            raise self._refuse("too-deep", f"nested deeper than {self._limits.depth}")
        if self._stack and self._stack[-1].waiting:
            raise self._refuse("key-not-text", "a mapping's key must be text")
        self._mark()
        if anchor is not None:
            self._anchors[anchor] = None
        self._stack.append(_Frame(value, self._line, anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = _Anchored(
                frame.value, frame.height, frame.nodes, frame.size
            )
        self._add(frame.value, frame.height, frame.nodes, frame.size)

    def _alias(self, name: str) -> None:
        if name not in self._anchors:
            raise self._refuse("unknown-alias", "an alias names an anchor that is not there")
        anchored = self._anchors[name]
        if anchored is None:
            raise self._refuse("recursive-alias", "an alias is inside of what it names")
        if len(self._stack) + anchored.height > self._limits.depth:
            raise self._refuse("too-deep", f"nested deeper than {self._limits.depth}")
        self._count(anchored.nodes, anchored.size)
        if self._stack and self._stack[-1].waiting:
            self._key(key_text(anchored.value))
            return
        self._mark()
        # A copy: callers may alter one place without altering the other.
        self._add(_copied(anchored.value), anchored.height, anchored.nodes, anchored.size)

    def _scalar(self, event: Any) -> None:
        text: str = event.value
        if "\x00" in text:
            raise self._refuse("control-character", "NUL character")
        self._count(1, len(text))
        plain = event.style in (None, "")
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.waiting and plain and event.tag is None and text == "<<":
            frame.waiting, frame.key = False, None
            return
        try:
            value = resolve(text, event.tag, plain)
        except NotThatTag as error:
            raise self._refuse("wrong-value", str(error)) from error
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 0, 1, len(text))
        if frame is not None and frame.waiting:
            self._key(key_text(value, text))
            return
        self._mark()
        self._add(value, 0, 1, len(text))

    def _key(self, key: str | None) -> None:
        if key is None:
            raise self._refuse("key-not-text", "a mapping's key must be text: put it in quotes")
        frame = self._stack[-1]
        value = frame.value
        if key in value and key not in frame.merged:
            raise self._refuse("duplicate-key", "a key is there twice in one mapping")
        frame.merged.discard(key)
        frame.waiting, frame.key = False, key
        if self._located:
            self._positions[self._path()] = self._line

    def _path(self) -> Path:
        return tuple(
            len(frame.value) if isinstance(frame.value, list) else frame.key or ""
            for frame in self._stack
        )

    def _mark(self) -> None:
        """Note the line of a list's item, or of the document's start."""
        if not self._stack:
            self._positions[()] = self._line
        elif self._located and isinstance(self._stack[-1].value, list):
            self._positions[self._path()] = self._line

    def _add(self, value: Any, height: int, nodes: int, size: int) -> None:
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        frame.height = max(frame.height, height + 1)
        frame.nodes += nodes
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
            return
        if frame.key is None:
            self._merge(frame, value)
        else:
            frame.value[frame.key] = value
        frame.waiting = True

    def _merge(self, frame: _Frame, value: Any) -> None:
        merged = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in merged):
            raise self._refuse("wrong-value", "a merge (<<) needs a mapping, or a list of them")
        # The first of a list wins, and what is merged overrides what stands before: kubectl's way.
        for one in reversed(merged):
            frame.value.update(_copied(one))  # type: ignore[union-attr]
            frame.merged.update(one)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_copied(one) for one in value]
    return value


def _line_of(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark is not None else 0
