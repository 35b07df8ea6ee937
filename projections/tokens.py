"""Which access tokens are good: one document a token's name.

Pure. Only the digest of a token is known; a revoked token stays as a document without an index
entry, so that its name's history can be told.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from events.catalog import Fact, TokenCreated, TokenRevoked
from events.event import Event
from projections.fold import StreamFold, names


class TokenDocument(Struct, frozen=True, omit_defaults=True):
    """A token. `digest` is the SHA-256 of its text, hexadecimal; `version` its stream's."""

    name: str
    digest: str
    position: int
    version: int
    at: int
    actor: str
    revoked: int = 0
    """The position at which it was revoked; 0 while it is good."""
    reason: str = ""


class TokensView(StreamFold[TokenDocument]):
    """Tokens by stream; indexed by digest while they are good."""

    name = "tokens"
    document = TokenDocument
    types = names((TokenCreated, TokenRevoked))
    kinds = ("token",)
    indexes: tuple[str, ...] = ("digest",)

    def apply(
        self, key: str, document: TokenDocument | None, event: Event, fact: Fact
    ) -> TokenDocument | None:
        """Fold one event."""
        match fact:
            case TokenCreated():
                return TokenDocument(
                    name=key.split("/", 2)[2],
                    digest=fact.digest,
                    position=event.position,
                    version=event.version,
                    at=event.recorded_at,
                    actor=event.actor,
                )
            case TokenRevoked() if document:
                return replace(
                    document, revoked=event.position, reason=fact.reason, version=event.version
                )
        return document

    def index(self, document: TokenDocument) -> tuple[str | None, ...]:
        """The digest, while the token is good."""
        return (None if document.revoked else document.digest,)


TOKENS = TokensView()
