"""The commands of `trueup`."""

from __future__ import annotations

from cyclopts import App

from engine.cli.demo import demo
from engine.cli.run import run
from engine.cli.simulate import simulate

app = App(
    name="trueup",
    help="An event-sourced GitOps engine: from commit to corrected cluster, on the record.",
)
app.command(run)
app.command(demo)
app.command(simulate)
