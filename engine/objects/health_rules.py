"""Health by an operator's own rules, in CEL (the Common Expression Language). Pure.

A rule's expressions see the object as `object`, whole, with its status. They are tried in
this order: progressing, degraded, suspended, healthy; the first that is true decides. CEL has no
loops but its macros, which go over a list of the object: what an evaluation costs is bounded by
the expression's length, how deep its macros are nested, the longest list and the longest text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from engine.objects.health import Verdict, health_of
from engine.resources.expression import Expression
from engine.resources.model import HealthRule
from events.vocabulary import Health, ObjectRef

MOST_STEPS: Final = 30_000
"""How often the innermost part of a macro may be evaluated: about 10 ms."""
_TEXT = 4096
"""Characters that are searched through in the time of a step."""
_NO_RULE: Final = "no rule says yet that it is healthy"


class _Compiled(Struct, frozen=True):
    """A kind's rule, with what is evaluated for each health."""

    verdicts: tuple[tuple[Health, Expression], ...]
    message: Expression | None
    needs_healthy: bool


class HealthRules:
    """Health of objects: by a rule of their kind where there is one, else as kstatus has it."""

    def __init__(self, rules: Iterable[HealthRule] = ()) -> None:
        self._by_kind = {(rule.group, rule.kind): _compiled(rule) for rule in rules}

    def is_about(self, ref: ObjectRef) -> bool:
        """Whether there is a rule for an object's kind."""
        return (ref.group, ref.kind) in self._by_kind

    def of(self, live: Mapping[str, Any]) -> Verdict:
        """Return the health of a live object (redacted, with its status), and why."""
        if not self._by_kind:
            return health_of(live)
        group = str(live.get("apiVersion", "")).rpartition("/")[0]
        compiled = self._by_kind.get((group, str(live.get("kind", ""))))
        if compiled is None:
            return health_of(live)
        return health_of(live, lambda it: _judge(compiled, it))


BUILT_IN: Final = HealthRules()
"""No rules but those that are built in."""


def _compiled(rule: HealthRule) -> _Compiled:
    said = (
        (Health.PROGRESSING, rule.progressing),
        (Health.DEGRADED, rule.degraded),
        (Health.SUSPENDED, rule.suspended),
        (Health.HEALTHY, rule.healthy),
    )
    return _Compiled(
        verdicts=tuple((health, Expression(text)) for health, text in said if text),
        message=Expression(rule.message) if rule.message else None,
        needs_healthy=bool(rule.healthy),
    )


def _judge(rule: _Compiled, live: Mapping[str, Any]) -> Verdict:
    size = _size(live)
    try:
        for health, expression in rule.verdicts:
            if _evaluated(expression, live, size, bool):
                return health, _message(rule, live, size)
    except ValueError as error:
        return Health.UNKNOWN, f"a health rule of its kind cannot be evaluated: {error}"
    if rule.needs_healthy:
        return Health.PROGRESSING, _message(rule, live, size) or _NO_RULE
    return Health.HEALTHY, _message(rule, live, size)


def _message(rule: _Compiled, live: Mapping[str, Any], size: _Size) -> str:
    if rule.message is None:
        return ""
    try:
        return str(_evaluated(rule.message, live, size, str))
    except ValueError as error:
        return f"(its message cannot be evaluated: {error})"


def _evaluated(expression: Expression, live: Mapping[str, Any], size: _Size, kind: type) -> Any:
    # Lists are written out in an expression, too, and joined by it.
    text = expression.text
    longest = max(size.list, text.count(",") + 1) * (text.count("+") + 1)
    steps = longest**expression.nesting
    if expression.nesting and steps * (size.text // _TEXT + 1) > MOST_STEPS:
        of_text = f", with texts of {size.text} characters," if steps <= MOST_STEPS else ""
        raise ValueError(f"a list of {longest} items{of_text} is too long for {text[:60]!r}")
    value = expression.value({"object": live})
    if not isinstance(value, kind):
        raise ValueError(f"{expression.text[:60]!r} gives a {type(value).__name__}")
    return value


class _Size(Struct, frozen=True):
    """The most items that a list or mapping of an object has, and the characters of a text."""

    list: int
    text: int


def _size(value: Any) -> _Size:
    items, text, waiting = 1, 0, [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, str):
            text = max(text, len(found))
        elif isinstance(found, Mapping):
            items = max(items, len(found))
            waiting.extend(found.values())
        elif isinstance(found, list):
            items = max(items, len(found))
            waiting.extend(found)
    return _Size(items, text)
