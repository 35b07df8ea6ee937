"""A CustomResourceDefinition, as far as it has to be read. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct


class _Names(Struct):
    kind: str


class _Version(Struct):
    name: str
    served: bool = True


class _Spec(Struct):
    group: str
    names: _Names
    versions: tuple[_Version, ...]


class _Condition(Struct):
    type: str
    status: str


class _Status(Struct):
    conditions: tuple[_Condition, ...] | None = None


class Definition(Struct):
    """What is read of a CustomResourceDefinition."""

    spec: _Spec
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def is_established(self) -> bool:
        """Whether its kinds are served."""
        return _Condition("Established", "True") in (self.status.conditions or ())

    @property
    def served(self) -> list[str]:
        """The apiVersions that are served."""
        return [
            f"{self.spec.group}/{version.name}" for version in self.spec.versions if version.served
        ]


_decoder = msgspec.json.Decoder(Definition)


def definition_of(body: bytes) -> Definition:
    """Read one; raises `msgspec.MsgspecError` or `RecursionError`."""
    return _decoder.decode(body)
