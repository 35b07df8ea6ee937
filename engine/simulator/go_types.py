"""Reads from Kubernetes' Go sources what OpenAPI does not say: which fields are written when empty.

Not used at run time; a part of `make_schema`. A field of a Go struct is written always, or only
when it is not zero, by its type and its `json` tag, and a client sees the difference: a named
`readOnly: false` comes back as nothing, a `serviceName` that nobody named comes back as "".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"^\t(?:(\w+)[ \t]+)?([^\s`]+(?: [^\s`]+)?)[ \t]*`([^`]*)`")
_TAG = re.compile(r'json:"([^"]*)"')
_ROOTS = {
    "io.k8s.apimachinery.pkg.apis.meta": "apimachinery@*/pkg/apis/meta",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions": (
        "apiextensions-apiserver@*/pkg/apis/apiextensions"
    ),
    "io.k8s.kube-aggregator.pkg.apis.apiregistration": "kube-aggregator@*/pkg/apis/apiregistration",
}


@dataclass(frozen=True, slots=True)
class GoField:
    """One field as Go declares it."""

    name: str
    type: str
    options: frozenset[str]


class Sources:
    """The Go files below a folder that holds `api@v0.x`, `apimachinery@v0.x` and so on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._packages: dict[str, dict[str, str]] = {}

    def _package(self, definition: str) -> dict[str, str]:
        package, _, _ = definition.rpartition(".")
        found = self._packages.get(package)
        if found is None:
            head, _, version = package.rpartition(".")
            pattern = f"{_ROOTS.get(head, f'api@*/{head}')}/{version}/types*.go"
            found = {}
            for file in sorted(self._folder.glob(pattern)):
                text = file.read_text(encoding="utf-8")
                found.update({m[1]: m[2] for m in _STRUCT.finditer(text)})
            self._packages[package] = found
        return found

    def fields(self, definition: str) -> list[GoField]:
        """The fields of a definition, those of embedded structs included.

        Raises LookupError when the sources do not have it.
        """
        package, _, name = definition.rpartition(".")
        body = self._package(definition).get(name)
        if body is None:
            raise LookupError(f"{definition} is not in the Go sources")
        out = []
        for line in body.splitlines():
            match = _FIELD.match(line)
            tag = _TAG.search(match[3]) if match else None
            if match is None or tag is None or tag[1] == "-":
                continue
            json_name, *options = tag[1].split(",")
            if not json_name:
                out.extend(self._embedded(package, match[2]))
            else:
                out.append(GoField(json_name, match[2], frozenset(options)))
        return out

    def _embedded(self, package: str, written: str) -> list[GoField]:
        name = written.lstrip("*")
        if name.endswith("TypeMeta"):
            omitted = frozenset({"omitempty"})
            return [GoField("apiVersion", "string", omitted), GoField("kind", "string", omitted)]
        if "." in name:
            return self.fields("core.v1." + name.rpartition(".")[2])
        return self.fields(f"{package}.{name}")


def mark(go: GoField, notation: str) -> str:
    """How a field of this type is written when it is zero.

    "!" as its zero; "~" as null; "?" not at all, even when it was named; "" as it was named.
    """
    empty = bool(go.options & {"omitempty", "omitzero"})
    if go.type.startswith("*"):
        return "" if empty else "~"
    if go.type.startswith(("[", "map[")) or notation.endswith(("]", "}")):
        return "?" if empty else "~"
    if notation in ("s", "i", "n", "b") and not go.type.endswith("Time"):
        return "?" if empty else "!"
    # Structs are written even with omitempty; a zero time is a null.
    if "omitzero" in go.options:
        return "?"
    return "~" if go.type.endswith("Time") or notation == "*" else "!"
