"""What of a render's files must not be shown in a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.objects.yaml import YamlRefused, parse_documents

_SHORTEST = 3
"""Anything shorter would black out ordinary words, and cannot keep a secret."""


def secret_texts(bodies: Iterable[bytes]) -> list[str]:
    """Return the texts that may be secret, the longest first.

    These are the values of Secrets and of patches for them, what a secretGenerator is given in
    place, and every line of a file that is no manifest: it may be what a generator reads.
    """
    found: set[str] = set()
    for body in bodies:
        try:
            documents = [one.value for one in parse_documents(body)]
        except YamlRefused:
            found.update(_lines(body))
            continue
        for value in documents:
            found.update(_of(value))
    return sorted((text for text in found if len(text) >= _SHORTEST), key=len, reverse=True)


def _lines(body: bytes) -> Iterator[str]:
    for line in body.decode("utf-8", "replace").splitlines():
        yield line.strip()
        yield line.partition("=")[2].strip()
        if line.strip().startswith("value:"):  # of a JSON patch
            yield line.partition(":")[2].strip().strip("'\"")


def _of(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > 100:
        return
    if isinstance(value, list):
        for item in value:
            yield from _of(item, depth + 1)
    elif isinstance(value, str) and "\n" in value:
        # An inline patch may be one for a Secret.
        yield from secret_texts([value.encode()])
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key in ("data", "stringData") and value.get("kind") != "ConfigMap":
                yield from _leaves(inner)
            elif key == "secretGenerator":
                yield from _literals(inner)
            else:
                yield from _of(inner, depth + 1)


def _literals(generators: Any) -> Iterator[str]:
    for generator in generators if isinstance(generators, list) else ():
        literals = generator.get("literals") if isinstance(generator, dict) else None
        for literal in literals if isinstance(literals, list) else ():
            yield from _lines(str(literal).encode("utf-8", "replace"))


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield from _lines(value.encode("utf-8", "replace"))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
