"""Every stable code in the code base: found in its syntax, where codes are given names to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("engine", "events", "projections")
CALLS: dict[str, tuple[int, ...]] = {
    "AccessRefused": (0,),
    "AddressRefused": (0,),
    "Delay": (0,),
    "EmbeddedPostgresError": (0,),
    "Held": (1,),
    "JsonRefused": (0,),
    "KindUnknown": (0,),
    "KindUnreadable": (2,),
    "ObjectRefused": (0,),
    "Overrun": (0,),
    "ReconcileHeld": (0,),
    "Refusal": (1,),
    "RenderRefused": (0,),
    "SchemaRefused": (0,),
    "Sent": (1,),
    "SourceError": (0,),
    "SourceFailed": (0,),
    "Unreachable": (0,),
    "YamlRefused": (0,),
    "ClusterLost": (0,),
    "ApiFailure": (0,),
    "_Trouble": (0,),
    "_refuse": (0,),
    "_refused": (1, 2),
    "_text": (2,),
    "_unreadable": (0,),
    "conflict": (0,),
}
"""Where a call takes a code: the places of its arguments."""
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def used() -> dict[str, set[str]]:
    """Return each code with the files that give it."""
    found: dict[str, set[str]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "simulator" in path.parts:
                continue
            for code in _codes(ast.parse(path.read_text())):
                if _CODE.fullmatch(code):
                    found.setdefault(code, set()).add(path.relative_to(ROOT).as_posix())
    return found


def _codes(tree: ast.Module) -> Iterator[str]:
    named = {
        ast.unparse(statement.targets[0]): statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
            # How a target stands: the state, the code, the reason.
            state, code = (*node.value.elts, None, None)[:2]
            if state and code and ast.unparse(state).startswith("SyncState."):
                yield from _texts(code)
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            for place in CALLS.get(name, ()):
                if place < len(node.args):
                    given = node.args[place]
                    yield from _texts(named.get(ast.unparse(given), given))
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from _texts(keyword.value)
        elif isinstance(node, ast.ClassDef):
            for statement in node.body:
                if (
                    isinstance(statement, ast.Assign)
                    and ast.unparse(statement.targets[0]) == "code"
                ):
                    yield from _texts(statement.value)


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may come to, as far as it says them itself."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def exit_codes() -> set[int]:
    """Return the exit codes that commands end with."""
    found = set()
    for path in (ROOT / "engine" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "exit_code":
                found |= _numbers(node.value)
            elif isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and _gives_int(node):
                returned = (each for each in ast.walk(node) if isinstance(each, ast.Return))
                for each in returned:
                    found |= _numbers(each.value)
    return found


def _gives_int(node: ast.AsyncFunctionDef | ast.FunctionDef) -> bool:
    return node.returns is not None and ast.unparse(node.returns) == "int"


def _numbers(node: ast.expr | None) -> set[int]:
    if isinstance(node, ast.IfExp):
        return _numbers(node.body) | _numbers(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and type(node.value) is int else set()
