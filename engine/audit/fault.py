"""What is wrong with an export, and where."""

from __future__ import annotations

from collections.abc import Sequence


class Fault(Exception):
    """An export does not prove what it says.

    `position` is the first that is not right; where only a range can be told, `until` is its last.
    0 where no position can be named: a file about the whole log. `told` is all but the file.
    """

    def __init__(self, what: str, position: int = 0, until: int = 0, file: str = "") -> None:
        if position and until > position:
            place = f"positions {position} to {until}: "
        else:
            place = f"position {position}: " if position else ""
        self.told = f"{place}{what}"
        super().__init__(f"{self.told}{f' ({file})' if file else ''}")
        self.what, self.position, self.file = what, position, file
        self.until = max(position, until)

    def __reduce__(self) -> tuple[type[Fault], tuple[str, int, int, str]]:
        """Come out of another process as it was raised there."""
        return Fault, (self.what, self.position, self.until, self.file)


def first_difference(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int:
    """Return where two rows differ first: the length of the shorter, if nowhere before."""
    for number, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return number
    return min(len(ours), len(theirs))
