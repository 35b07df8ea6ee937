"""`python -m engine.cli`: the same as `trueup`."""

from __future__ import annotations

from engine.cli import main

main()
