"""Alerts as receivers read them: CloudEvents 1.0, signed as Standard Webhooks; and Slack's form.

Pure. The id of an alert is the same however often it is sent, so that receivers can tell.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from projections.alerts import Alert, AlertKind

CLOUD_EVENTS = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX = "dev.trueup."
SLACK_TEXT = 400
"""Characters of an alert's own words: escaped they may be five times as many; 3000 are taken."""
_MIN_KEY = 16
_JOINER = "\N{WORD JOINER}"
_EMBLEMS = {
    AlertKind.DRIFT: ":warning:",
    AlertKind.FAILED: ":x:",
    AlertKind.HELD: ":hand:",
    AlertKind.CLUSTER_LOST: ":electric_plug:",
    AlertKind.RECOVERED: ":white_check_mark:",
}


class Origin(Struct, frozen=True):
    """Whose alerts these are: the log's id, the notification (`project/name`), the page's URL."""

    log_id: str
    notification: str
    external_url: str = ""


class SecretRefused(ValueError):
    """A file with signing secrets holds none that is good."""


def message_id(origin: Origin, position: int) -> str:
    """Return the id under which an alert is sent: by log, position and notification.

    Without full stops, which Standard Webhooks puts around an id; names have no `_` otherwise.
    """
    return f"{origin.log_id}:{position}:{origin.notification.replace('.', '_')}"


def cloud_event(origin: Origin, alert: Alert) -> bytes:
    """Return an alert as a CloudEvent in structured JSON."""
    data: dict[str, Any] = {
        "kind": alert.kind,
        "condition": alert.condition,
        "project": alert.project,
        "code": alert.code,
        "message": alert.message,
        "position": alert.position,
        "notification": origin.notification,
    }
    for name in ("application", "cluster", "repository", "commit", "correlation"):
        value = getattr(alert, name)
        if value:
            data[name] = value
    link = link_to(origin, alert)
    if link:
        data["url"] = link
    event = _envelope(origin, alert.position, str(alert.kind), alert.at, data)
    event["subject"] = f"{alert.project}/{alert.subject}"
    if alert.traceparent:
        event["traceparent"] = alert.traceparent
    return msgspec.json.encode(event)


def trial_event(origin: Origin, position: int, at: int) -> bytes:
    """Return the CloudEvent of a test that was asked for at a position."""
    data = {"kind": "test", "message": "a test of this notification", "position": position}
    data["notification"] = origin.notification
    return msgspec.json.encode(_envelope(origin, position, "test", at, data))


def _envelope(
    origin: Origin, position: int, kind: str, at: int, data: dict[str, Any]
) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": message_id(origin, position),
        "source": f"urn:uuid:{origin.log_id}",
        "type": TYPE_PREFIX + kind,
        "time": datetime.fromtimestamp(at / 1e6, UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": data,
    }


def slack_message(origin: Origin, alert: Alert) -> bytes:
    """Return an alert in the form of Slack's incoming webhooks: short, and nothing of it markup."""
    about = alert.subject if alert.project == "default" else f"{alert.project}/{alert.subject}"
    kind = "recovered" if alert.kind is AlertKind.RECOVERED else str(alert.kind).replace("-", " ")
    link = link_to(origin, alert)
    name = f"<{link}|{escaped(about)}>" if link else f"*{escaped(about)}*"
    told = escaped(_cut(" ".join(alert.message.split()), SLACK_TEXT))
    text = f"{_EMBLEMS[alert.kind]} {name} {kind}: {told}"
    return _slack(text, f"{about} {kind}: {alert.message}")


def slack_trial(origin: Origin) -> bytes:
    """Return a test message in Slack's form."""
    text = f"A test of Trueup's notification {escaped(origin.notification)}"
    return _slack(text, text)


def _slack(text: str, fallback: str) -> bytes:
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return msgspec.json.encode(
        {"text": escaped(_cut(fallback, SLACK_TEXT)), "blocks": [section], "unfurl_links": False}
    )


def escaped(text: str) -> str:
    """Return text that Slack shows as it is: no mention, no link, no formatting.

    `&`, `<` and `>` are Slack's own escapes; a word joiner keeps `*`, `_`, `~` and backticks from
    opening anything.
    """
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "*_~`":
        text = text.replace(mark, _JOINER + mark)
    return "".join(char if char.isprintable() or char == _JOINER else " " for char in text)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def link_to(origin: Origin, alert: Alert) -> str:
    """Return the address of the page about what an alert is about; "" without `external_url`."""
    if not origin.external_url:
        return ""
    project = quote(alert.project, safe="")
    if alert.application and alert.cluster:
        path = f"targets/{project}/{quote(alert.subject, safe='@')}"
    else:
        kind, _, name = alert.subject.partition("/")
        plural = {"repository": "repositories"}.get(kind, f"{kind}s")
        path = f"{plural}/{project}/{quote(name, safe='')}"
    return f"{origin.external_url.rstrip('/')}/{path}"


def signing_keys(text: str) -> list[bytes]:
    """Read the secrets of a file, one a line: `whsec_` and base64, or any other text as it is.

    Two lines while a secret is rotated. Raises `SecretRefused`.
    """
    keys = []
    for line in text.splitlines():
        word = line.strip()
        if not word:
            continue
        key = word.encode()
        if word.startswith("whsec_"):
            try:
                key = base64.b64decode(word.removeprefix("whsec_"), validate=True)
            except (binascii.Error, ValueError) as error:
                raise SecretRefused("what follows whsec_ is not base64") from error
        if len(key) < _MIN_KEY:
            raise SecretRefused(f"a secret has at least {_MIN_KEY} bytes")
        keys.append(key)
    if not keys:
        raise SecretRefused("it is empty")
    return keys


def signed_headers(
    keys: Sequence[bytes], identity: str, seconds: int, body: bytes
) -> Mapping[str, str]:
    """Return the headers of Standard Webhooks for a body sent at a time (Unix seconds)."""
    content = f"{identity}.{seconds}.".encode() + body
    signatures = [
        "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        for key in keys
    ]
    return {
        "webhook-id": identity,
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(signatures),
    }
