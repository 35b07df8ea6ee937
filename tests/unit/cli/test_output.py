"""How lines for people are cut for a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.cli.output import wrapped


@given(st.text(alphabet="ab  \u00e9", max_size=120), st.integers(0, 6), st.integers(30, 100))
def test_nothing_is_lost_and_every_line_fits(text: str, indent: int, width: int) -> None:
    line = " " * indent + text.strip()
    parts = list(wrapped(line, width))
    assert "".join(line.split()) == "".join("".join(parts).split())
    longest = max((len(word) for word in line.split()), default=0)
    assert all(len(part) <= max(width, longest + indent + 6) for part in parts)
    assert all(part.startswith(" " * (indent + 6)) for part in parts[1:])


def test_styles_take_no_room_and_a_line_that_fits_is_left_as_it_is() -> None:
    line = "\x1b[2m2026-11-25\x1b[0m \x1b[1mshop@prod\x1b[0m: synced"
    assert list(wrapped(line, 28)) == [line]
    assert len(list(wrapped(line, 27))) == 2
