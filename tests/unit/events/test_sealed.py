"""Names are sealed: opened by the one key for the one actor, and by nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event import Actor
from events.sealed import Person, SealBroken, git_actor, seal, unseal

ADA = Actor("git:0123456789ab")
KEY, OTHER = bytes(range(32)), bytes(32)
texts = st.text(max_size=200)


@given(texts, texts, st.binary(min_size=32, max_size=32), st.binary(min_size=12, max_size=12))
def test_what_is_sealed_opens_again(name: str, email: str, key: bytes, nonce: bytes) -> None:
    person = Person(name, email)
    assert unseal(seal(person, ADA, key, nonce), ADA, key) == person


def test_another_key_another_actor_or_a_changed_byte_opens_nothing() -> None:
    sealed = seal(Person("Ada", "ada@example.org"), ADA, KEY, bytes(12))
    raw = bytearray(base64.b64decode(sealed))
    assert b"Ada" not in raw
    with pytest.raises(SealBroken):
        unseal(sealed, ADA, OTHER)
    with pytest.raises(SealBroken):
        unseal(sealed, Actor("git:ba9876543210"), KEY)
    for place in range(len(raw)):
        raw[place] ^= 1
        with pytest.raises(SealBroken):
            unseal(base64.b64encode(raw).decode(), ADA, KEY)
        raw[place] ^= 1


@pytest.mark.parametrize("text", ["", "é", "!", "AAAA", base64.b64encode(bytes(12)).decode()])
def test_what_was_never_sealed_is_refused_by_name(text: str) -> None:
    with pytest.raises(SealBroken, match=ADA):
        unseal(text, ADA, KEY)


def test_the_length_of_a_name_does_not_show() -> None:
    lengths = {
        len(seal(Person("A" * many, "a@b.example"), ADA, KEY, bytes(12))) for many in range(1, 25)
    }
    assert len(lengths) == 1


def test_a_pseudonym_is_the_same_for_one_address_whatever_its_case() -> None:
    assert git_actor(b" Ada@Example.org") == git_actor(b"ada@example.org")
