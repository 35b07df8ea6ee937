"""Faults that a test switches on, and the record of what clients did.

Reached in Python as `cluster.control`, and over HTTP under `/c/<name>/_sim/`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec

from engine.simulator import errors
from engine.simulator.requests import Target

Action = Literal["forbid", "fail", "hang", "delay", "cut"]


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """Requests that match are refused, failed, held, slowed or cut off.

    Empty `verbs`, `resource`, `namespace` or `name` match all. `resource` is a plural, with or
    without its group (`deployments`, `deployments.apps`). `times` is how many requests it takes,
    0 for all. `seconds` is how long `delay` waits; `hang` waits for the client to give up. `after`
    lets the request have its effect first and then spoils the answer (for `fail` and `cut`).
    """

    action: Action
    verbs: list[str] = []
    resource: str = ""
    namespace: str = ""
    name: str = ""
    code: int = 500
    times: int = 0
    seconds: float = 0.0
    after: bool = False
    retry_after: int = 0

    def matches(self, target: Target) -> bool:
        """Whether a request meets this fault."""
        if self.verbs and target.verb not in self.verbs:
            return False
        qualified = f"{target.plural}.{target.group}" if target.group else target.plural
        if self.resource and self.resource not in (target.plural, qualified):
            return False
        if self.namespace and self.namespace != target.one_namespace:
            return False
        return not self.name or self.name == target.name


@dataclass(frozen=True, slots=True)
class Write:
    """One write that was answered: `changed` tells whether anything was stored.

    `at` is Unix time in seconds, `version` the cluster's resource version after the write,
    `form` how a patch was sent ("apply", "merge", "json", "strategic").
    """

    at: float
    verb: str
    path: str
    resource: str
    namespace: str
    name: str
    subresource: str
    form: str
    manager: str
    code: int
    changed: bool
    dry_run: bool
    version: int


@dataclass(eq=False)
class Control:
    """Faults, pace and records of one cluster.

    `pace` limits the applies a second (0 for no limit), `latency` is added to every request in
    seconds. `writes` holds the newest million writes, `requests` counts by verb and resource.
    """

    faults: dict[int, Fault] = field(default_factory=dict)
    pace: float = 0.0
    latency: float = 0.0
    writes: deque[Write] = field(default_factory=lambda: deque(maxlen=1_000_000))
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    _count: int = 0
    _next_slot: float = 0.0

    def add(self, fault: Fault) -> int:
        """Switches a fault on; the number that is returned switches it off."""
        self._count += 1
        self.faults[self._count] = fault
        return self._count

    def clear(self, number: int | None = None) -> None:
        """Switches one fault off, or all of them, pace and latency too."""
        if number is None:
            self.faults.clear()
            self.pace = self.latency = 0.0
        else:
            self.faults.pop(number, None)

    def meet(self, target: Target, *, after: bool) -> Fault | None:
        """The fault that a request meets before or after its effect; uses it up once."""
        for number, fault in self.faults.items():
            if fault.after is after and fault.matches(target):
                if fault.times:
                    fault.times -= 1
                    if not fault.times:
                        del self.faults[number]
                return fault
        return None

    async def slow(self, *, apply: bool) -> None:
        """Waits for latency and, before an apply, for its turn in the pace."""
        if self.latency:
            await asyncio.sleep(self.latency)
        if apply and self.pace:
            now = time.monotonic()
            slot = max(now, self._next_slot)
            self._next_slot = slot + 1.0 / self.pace
            if slot > now:
                await asyncio.sleep(slot - now)

    def report(self) -> dict[str, Any]:
        """What is switched on and what has been counted."""
        return {
            "faults": {str(n): msgspec.to_builtins(f) for n, f in self.faults.items()},
            "pace": self.pace,
            "latency": self.latency,
            "requests": {f"{verb} {what}": n for (verb, what), n in sorted(self.requests.items())},
            "writes": len(self.writes),
            "changes": sum(write.changed for write in self.writes),
        }

    def written(self) -> list[dict[str, Any]]:
        """The writes, oldest first, as plain data."""
        return [asdict(write) for write in self.writes]


class CutError(Exception):
    """The connection is to be closed without an answer."""


async def suffer(fault: Fault, target: Target) -> None:
    """Does to a request what its fault says; returns when it may go on."""
    match fault.action:
        case "forbid":
            resource = target.served.resource if target.served else None
            raise errors.forbidden(
                resource, target.verb, target.plural, target.name, target.one_namespace
            )
        case "fail":
            raise _failure(fault)
        case "hang":
            await asyncio.get_running_loop().create_future()
        case "delay":
            await asyncio.sleep(fault.seconds)
        case "cut":
            raise CutError


_REASONS = {
    429: (
        "TooManyRequests",
        "the server has received too many requests and has asked us to try again later",
    ),
    500: ("InternalError", "Internal error occurred: a fault that the simulator was told to make"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


def _failure(fault: Fault) -> errors.ApiError:
    reason, message = _REASONS.get(fault.code, ("", f"a fault with status {fault.code}"))
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after else {}
    return errors.ApiError(fault.code, reason, message, headers=headers)
