"""Names of strangers on a page: nothing hidden, nothing turned around, nothing executed."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from engine.http.pages.harmless import harmless
from engine.http.pages.render import environment


def test_hidden_characters_are_shown() -> None:
    assert harmless("a\x1b[31mb\x00\x7f\x85") == "a␛[31mb␀␡[U+0085]"
    assert harmless("user\u202etxt.exe") == "user[U+202E]txt.exe"
    assert harmless("zero\u200bwidth\ufeff") == "zero[U+200B]width[U+FEFF]"
    assert harmless("two\nlines\tand a tab") == "two\nlines\tand a tab"
    assert harmless(7) == 7


@given(st.text(st.characters()))
def test_no_text_keeps_a_control_or_a_character_that_turns_text(text: str) -> None:
    shown = str(harmless(text))
    for char in shown:
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(char) not in (
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
        )


def test_templates_make_harmless_and_escape() -> None:
    template = environment().from_string('<a title="{{ name }}">{{ name }}</a>')
    assert template.render(name='"><b>\x1b\u202e') == (
        '<a title="&#34;&gt;&lt;b&gt;␛[U+202E]">&#34;&gt;&lt;b&gt;␛[U+202E]</a>'
    )
