"""What an API server sends, read no deeper than needed: pages, watch lines, headers. Pure.

Most of what a watch brings changes nothing, so only uid and resourceVersion are read at first and
the object stays bytes. What does not have the expected shape is `Garbage`: it is never taken for
an empty list.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from msgspec import Raw, Struct


class Garbage(Exception):
    """An answer that is not what the Kubernetes API promises."""


class Response(Struct, frozen=True):
    """An answer: its status, its body, and how many seconds the server asks to wait.

    `date` is what the server takes the time to be, as HTTP writes it; "" where it does not say.
    """

    status: int
    body: bytes
    retry_after: float | None = None
    date: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status says that it was done."""
        return 200 <= self.status < 300


class ListMeta(Struct, rename="camel"):
    """Where a list stands. `continue_` is the token of the next page, "" for none."""

    resource_version: str
    continue_: str = msgspec.field(default="", name="continue")


class Page(Struct):
    """One page of a list; its items are still bytes."""

    metadata: ListMeta
    items: list[Raw] | None


class Line(Struct):
    """One line of a watch."""

    type: str
    object: Raw


class Meta(Struct, rename="camel"):
    """What tells an object and its version."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""


class Header(Struct):
    """The metadata of an object."""

    metadata: Meta


_page = msgspec.json.Decoder(Page)
_line = msgspec.json.Decoder(Line)
_header = msgspec.json.Decoder(Header)


def page(body: bytes) -> Page:
    """Read a page. Raises `Garbage`."""
    try:
        return _page.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"a list that cannot be read: {_short(error)}") from None


def line(body: bytes) -> Line:
    """Read a line of a watch. Raises `Garbage`."""
    try:
        return _line.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"a watch event that cannot be read: {_short(error)}") from None


def header(body: bytes | Raw) -> Meta:
    """Read the metadata of an object; it has a name, a uid and a version. Raises `Garbage`."""
    try:
        meta = _header.decode(body).metadata
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"an object that cannot be read: {_short(error)}") from None
    if not (meta.name and meta.uid and meta.resource_version):
        raise Garbage("an object without name, uid or resourceVersion")
    return meta


def version_of(body: bytes | Raw) -> str:
    """Read no more than the resourceVersion; a bookmark has nothing else. Raises `Garbage`."""
    try:
        version = _header.decode(body).metadata.resource_version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage(f"an object that cannot be read: {_short(error)}") from None
    if not version:
        raise Garbage("an object without resourceVersion")
    return version


def object_of(body: bytes | Raw) -> dict[str, Any]:
    """Read an object whole. Raises `Garbage`."""
    try:
        found = orjson.loads(bytes(body))
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise Garbage(f"an object that cannot be read: {_short(error)}") from None
    if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
        raise Garbage("an object without metadata")
    return found


def is_newer(version: str, than: str) -> bool:
    """Whether a resourceVersion is later than another of the same object.

    They are integers of any length wherever that can be told; versions of another form are only
    known to differ, and then what came last counts as later.
    """
    if _is_number(version) and _is_number(than):
        return int(version) > int(than)
    return version != than


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is known to be earlier than another."""
    return _is_number(version) and _is_number(than) and int(version) < int(than)


def _is_number(version: str) -> bool:
    # Bounded, because Python refuses to read an integer of thousands of digits.
    return len(version) <= 64 and version.isascii() and version.isdecimal()


def _short(error: Exception) -> str:
    # A decoder's message may quote what it read; the first words say what was wrong.
    return str(error)[:120]
