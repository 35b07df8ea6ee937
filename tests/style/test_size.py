"""One idea a module, about 400 lines; about 60 lines a function; what is over has its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parents[2]
ROOMS = ("engine", "events", "projections")
MODULE, FUNCTION = 440, 70
"""A tenth more than what to aim for: nobody shall split a module for a line."""

MODULES = {
    "engine/compose.py": "the one place that constructs: what it builds is listed in order",
    "engine/http/operations.py": "a table of the API's operations",
    "engine/http/shapes.py": "a table of the API's shapes",
    "engine/resources/model.py": "a table of the fields that can be declared",
    "engine/settings.py": "a table of the settings, and their one reader",
    "engine/simulator/controllers.py": "one controller a kind, as kube-controller-manager has them",
    "engine/simulator/operations.py": "the API server's verbs, which share their checks",
    "engine/simulator/server.py": "routes of the Kubernetes API",
    "events/catalog.py": "a table of the event types",
}
FUNCTIONS = {
    "engine/clusters/cluster.py:__init__": "puts a cluster's parts together",
    "engine/compose.py:_term": "the order of start and stop, to be read in one piece",
    "engine/http/operations.py:_engine": "a table",
    "engine/http/operations.py:_resources": "a table",
    "engine/http/operations.py:_steering": "a table",
    "engine/http/operations.py:_targets": "a table",
    "projections/targets.py:_fold": "a case for each fact",
}


def files() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((TOP / room).rglob("*.py")):
            yield str(path.relative_to(TOP)), path.read_text()


def test_modules_are_short_or_say_why_not() -> None:
    over = {name for name, text in files() if text.count("\n") > MODULE}
    assert over <= MODULES.keys(), "split these, or give the reason"


def test_functions_are_short_or_say_why_not() -> None:
    over = set()
    for name, text in files():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if (node.end_lineno or node.lineno) - node.lineno > FUNCTION:
                over.add(f"{name}:{node.name}")
    assert over <= FUNCTIONS.keys(), "split these, or give the reason"


def test_reasons_are_about_what_is_there() -> None:
    names = dict(files())
    assert names.keys() >= MODULES.keys()
    for place in FUNCTIONS:
        name, _, function = place.partition(":")
        assert f"def {function}(" in names[name], place
