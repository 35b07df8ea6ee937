"""Where a kind and an object live in the API's URL space. Pure."""

from __future__ import annotations

import re
from urllib.parse import quote

from engine.ports import KindInfo

_API_VERSION = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?v[a-z0-9]{1,62}")


def is_api_version(text: str) -> bool:
    """Whether a text has the form of an apiVersion; what has not never gets into a URL."""
    return _API_VERSION.fullmatch(text) is not None


def is_segment(text: str) -> bool:
    """Whether a text can be one step of a path; `..` would climb out of the collection."""
    return bool(text) and text not in (".", "..") and "/" not in text and "%" not in text


def group_path(api_version: str) -> str:
    """Return the path of a group and version: `/api/v1`, `/apis/apps/v1`."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def collection_path(info: KindInfo, namespace: str = "") -> str:
    """Return the path of all objects of a kind, or of those in one namespace."""
    base = group_path(info.api_version)
    if info.namespaced and namespace:
        return f"{base}/namespaces/{quote(namespace, safe='')}/{info.plural}"
    return f"{base}/{info.plural}"


def object_path(info: KindInfo, namespace: str, name: str) -> str:
    """Return the path of one object; the namespace is left out where the kind has none.

    Names are checked by `is_segment` before they come here.
    """
    return f"{collection_path(info, namespace)}/{quote(name, safe=':')}"
