"""The command line: one module a command group, each a client of the HTTP API.

Nothing here decides or does what the server should: it asks the server, and shows the answer.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run `trueup`."""
    from engine.cli.app import app

    app(sys.argv[1:])
