"""What a command cannot do, in words for the person who asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class CliError(Exception):
    """Ends a command. `lines` are further findings, `hint` what to do about it.

    Where a server refused, `status` is that of HTTP, `code` and `problem` are what it said.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        lines: Iterable[str] = (),
        exit_code: int = 2,
        code: str = "",
        status: int = 0,
        problem: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.hint, self.lines = message, hint, tuple(lines)
        self.exit_code, self.code, self.status = exit_code, code, status
        self.problem = problem or {}
