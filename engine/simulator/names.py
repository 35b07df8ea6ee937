"""What names, keys and sizes are held to, in the words of a real API server. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from engine.simulator.errors import Cause, cause, invalid_value

Object = dict[str, Any]
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_CHARACTERS = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_LABEL_TEXT = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value', "
    " or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_CONFIG_TEXT = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',"
    "  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)
_ANNOTATIONS, _DATA = 256 * 1024, 1024 * 1024
"""Bytes that all annotations of an object, and all values of a ConfigMap or Secret, may have."""
_STANDARD_FINALIZERS = frozenset({"kubernetes", "orphan", "foregroundDeletion"})


def check_metadata(metadata: Object) -> Iterator[Cause]:
    """Yield why labels, annotations and finalizers may not be stored."""
    for label, value in (metadata.get("labels") or {}).items():
        yield from _qualified("metadata.labels", label)
        if len(value) > 63:
            yield invalid_value("metadata.labels", value, "must be no more than 63 bytes")
        elif not _LABEL_VALUE.match(value):
            yield invalid_value("metadata.labels", value, _LABEL_TEXT)
    annotations = metadata.get("annotations") or {}
    for name in annotations:
        yield from _qualified("metadata.annotations", name.lower(), name)
    if sum(len(k.encode()) + len(v.encode()) for k, v in annotations.items()) > _ANNOTATIONS:
        yield _too_long("metadata.annotations", _ANNOTATIONS)
    for index, name in enumerate(metadata.get("finalizers") or []):
        causes = list(_qualified("metadata.finalizers", name))
        if not causes and "/" not in name and name not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            causes = [invalid_value(f"metadata.finalizers[{index}]", name, why)]
        yield from causes


def check_data(item: Object) -> Iterator[Cause]:
    """Yield why the values of a ConfigMap or Secret may not be stored."""
    size = 0
    for field in ("data", "binaryData"):
        for name, value in (item.get(field) or {}).items():
            yield from _config_key(f"{field}[{name}]", name)
            size += _size(value, encoded=field == "binaryData" or item.get("kind") == "Secret")
    if size > _DATA:
        yield _too_long("data" if item.get("kind") == "Secret" else "[]", _DATA)


def _config_key(path: str, name: str) -> Iterator[Cause]:
    if len(name) > 253:
        yield invalid_value(path, name, "must be no more than 253 characters")
    if not _CONFIG_KEY.match(name):
        yield invalid_value(path, name, _CONFIG_TEXT)
    elif name in (".", ".."):
        yield invalid_value(path, name, f"must not be '{name}'")
    elif name.startswith(".."):
        yield invalid_value(path, name, "must not start with '..'")


def _size(value: Any, *, encoded: bool) -> int:
    if not isinstance(value, str):
        return 0
    if encoded:
        try:
            return len(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError):
            return 0
    return len(value.encode())


def _too_long(path: str, most: int) -> Cause:
    return cause(path, "FieldValueTooLong", f"Too long: may not be more than {most} bytes")


def _qualified(path: str, name: str, shown: str | None = None) -> Iterator[Cause]:
    """Yield why a key is no qualified name: a name with, perhaps, a domain and a slash before."""
    shown = name if shown is None else shown
    parts = name.split("/")
    if len(parts) > 2:
        with_prefix = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        yield invalid_value(path, shown, f"a valid label key {_CHARACTERS}{with_prefix}")
        return
    if len(parts) == 2:
        if not parts[0]:
            yield invalid_value(path, shown, "prefix part must be non-empty")
        elif not DNS_NAME.match(parts[0]):
            yield invalid_value(path, shown, f"prefix part {SUBDOMAIN}")
    last = parts[-1]
    if not last:
        yield invalid_value(path, shown, "name part must be non-empty")
    elif len(last) > 63:
        yield invalid_value(path, shown, "name part must be no more than 63 bytes")
    if not _PART.match(last):
        yield invalid_value(path, shown, f"name part {_CHARACTERS}")
