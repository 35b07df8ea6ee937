"""Whether a caller may do something: all that no fault forbids."""

from __future__ import annotations

from typing import Any

import orjson

from engine.simulator import errors
from engine.simulator.admin import Control
from engine.simulator.requests import Target

PATH = "apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def review(body: bytes, control: Control) -> bytes:
    """Answers a SelfSubjectAccessReview; raises 400 for a body that is none."""
    try:
        document: dict[str, Any] = orjson.loads(body)
        asked = document["spec"]["resourceAttributes"]
        target = Target(
            verb=asked["verb"],
            group=asked.get("group", ""),
            version="v1",
            plural=asked["resource"],
            namespace=asked.get("namespace"),
            name=asked.get("name", ""),
            subresource="",
            served=None,
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        raise errors.ApiError(400, "BadRequest", "no SelfSubjectAccessReview") from None
    forbidden = any(
        fault.action == "forbid" and fault.matches(target) for fault in control.faults.values()
    )
    return orjson.dumps({**document, "status": {"allowed": not forbidden}})
