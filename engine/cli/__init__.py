"""The command line: one module a command group, each a client of the HTTP API.

Only `run` and `demo` start an engine; everything else knows no more than the API tells it.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    from engine.cli.program import run

    sys.exit(run(sys.argv[1:]))
