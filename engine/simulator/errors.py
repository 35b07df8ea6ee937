"""Refusals in the words and the shape of a real API server. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from engine.simulator.resources import Resource

Cause = dict[str, str]


class ApiError(Exception):
    """A refusal: an HTTP status code and the Status object that explains it."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    @property
    def status(self) -> dict[str, Any]:
        """The Status object."""
        out: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            out["reason"] = self.reason
        if self.details:
            out["details"] = self.details
        out["code"] = self.code
        return out


def _details(resource: Resource, name: str) -> dict[str, Any]:
    out = {"name": name, "group": resource.group, "kind": resource.plural}
    return {k: v for k, v in out.items() if v}


def not_found(resource: Resource, name: str) -> ApiError:
    """404: no such object."""
    message = f'{resource.qualified} "{name}" not found'
    return ApiError(404, "NotFound", message, details=_details(resource, name))


def no_such_path() -> ApiError:
    """404: nothing is served there."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409: the name is taken."""
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, details=_details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409: the object is not what the client thought."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details=_details(resource, name))


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def unmet(resource: Resource, name: str, what: str, wanted: Any, there: str) -> ApiError:
    """409: a delete whose precondition does not hold."""
    how = "deleted and then recreated" if what == "UID" else "modified"
    message = (
        f'Operation cannot be fulfilled on {resource.kind} "{name}": the {what} in the '
        f"precondition ({wanted}) does not match the {what} in record ({there}). The object might "
        f"have been {how}"
    )
    return ApiError(409, "Conflict", message, details={"name": name, "kind": resource.kind})


def field_conflict(message: str, causes: list[Cause]) -> ApiError:
    """409: an apply without force meets fields of others."""
    return ApiError(409, "Conflict", message, details={"causes": causes})


def cause(path: str, reason: str, message: str) -> Cause:
    """One reason why an object is invalid."""
    return {"reason": reason, "message": message, "field": path}


def required(path: str, why: str = "") -> Cause:
    """A field that must be set."""
    text = "Required value"
    return cause(path, "FieldValueRequired", f"{text}: {why}" if why else text)


def invalid_value(path: str, value: Any, why: str) -> Cause:
    """A field whose value is refused."""
    shown = f'"{value}"' if isinstance(value, str) else _go_value(value)
    return cause(path, "FieldValueInvalid", f"Invalid value: {shown}: {why}")


def _go_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else orjson.dumps(value).decode()


def invalid(kind: str, group: str, name: str, causes: list[Cause]) -> ApiError:
    """422: the object may not be stored as it is."""
    texts = [f"{c['field']}: {c['message']}" for c in causes]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind}.{group}" if group else kind
    details: dict[str, Any] = {"name": name, "group": group, "kind": kind, "causes": causes}
    return ApiError(
        422,
        "Invalid",
        f'{qualified} "{name}" is invalid: {text}',
        details={k: v for k, v in details.items() if v},
    )


def bad_request(message: str) -> ApiError:
    """400: the request cannot be read."""
    return ApiError(400, "BadRequest", message)


def internal(message: str) -> ApiError:
    """500 without a reason, as a real server answers an apply that does not fit its schema."""
    return ApiError(500, "", message)


def unsupported_media_type(got: str, supported: tuple[str, ...]) -> ApiError:
    """415: a body in a form that is not read here."""
    return ApiError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format ({got or 'no content type'}) - "
        f"accepted media types include: {', '.join(supported)}",
    )


def forbidden(
    resource: Resource | None, verb: str, path: str, name: str, namespace: str
) -> ApiError:
    """403: the verb is not allowed on the resource."""
    user = "system:serviceaccount:simulator:client"
    if resource is None:
        return ApiError(
            403, "Forbidden", f'forbidden: User "{user}" cannot {verb} path "{path}"', details={}
        )
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    shown = f'{resource.qualified} "{name}"' if name else resource.qualified
    message = (
        f'{shown} is forbidden: User "{user}" cannot {verb} resource "{resource.plural}" '
        f'in API group "{resource.group}" {where}'
    )
    return ApiError(403, "Forbidden", message, details=_details(resource, name))


def expired(message: str) -> ApiError:
    """410: the resource version or continue token is older than what is kept."""
    return ApiError(410, "Expired", message)
