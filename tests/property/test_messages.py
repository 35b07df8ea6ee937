"""Alerts as receivers read them, whatever strangers wrote into them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.notify.message import (
    Origin,
    cloud_event,
    escaped,
    message_id,
    signed_headers,
    slack_message,
)
from engine.resources.model import NAME_PATTERN
from projections.alerts import Alert, AlertKind

names = st.from_regex(NAME_PATTERN, fullmatch=True)
texts = st.text(max_size=200)
LOG = "0190c5f0-0000-7000-8000-000000000000"


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    return Alert(
        kind=draw(st.sampled_from(AlertKind)),
        condition="drift",
        position=draw(st.integers(1, 2**62)),
        at=draw(st.integers(0, 4_000_000_000_000_000)),
        about="target/default/shop@prod",
        project=draw(names),
        code=draw(texts),
        message=draw(texts),
        application=draw(names),
        cluster=draw(st.one_of(st.just(""), names)),
        correlation=draw(texts),
    )


@given(alerts(), names, st.sampled_from(["", "https://trueup.example.org"]))
def test_a_cloud_event_has_what_the_specification_asks_for(
    alert: Alert, name: str, url: str
) -> None:
    event = msgspec.json.decode(cloud_event(Origin(LOG, f"default/{name}", url), alert))
    for attribute in ("specversion", "id", "source", "type"):
        assert event[attribute]
    assert all(re.fullmatch("[a-z0-9]{1,20}", key) for key in event)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["time"])
    assert event["data"]["message"] == alert.message
    assert "." not in event["id"]


@given(st.tuples(names, names), st.tuples(names, names), st.integers(1, 9), st.integers(1, 9))
def test_ids_differ_where_what_they_name_does(
    one: tuple[str, str], other: tuple[str, str], first: int, second: int
) -> None:
    ids = {
        message_id(Origin(LOG, "/".join(name)), position)
        for name, position in ((one, first), (other, second))
    }
    assert len(ids) == len({(one, first), (other, second)})


@given(texts)
def test_escaped_text_opens_nothing(text: str) -> None:
    shown = escaped(text)
    assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", shown)
    assert not re.search(r"(?<!\u2060)[*_~`]", shown)
    assert all(char.isprintable() or char == "\N{WORD JOINER}" for char in shown)


@given(alerts())
def test_slack_gets_one_link_at_most_and_no_mention(alert: Alert) -> None:
    body = slack_message(Origin(LOG, "default/ops", "https://trueup.example.org"), alert)
    text = msgspec.json.decode(body)["blocks"][0]["text"]["text"]
    assert text.count("<") == text.count(">") == 1
    assert "<https://trueup.example.org/" in text
    assert "<!" not in text
    assert "<@" not in text


def test_slack_is_never_given_more_than_it_takes() -> None:
    name = "a" * 63
    alert = Alert(AlertKind.FAILED, "x", 1, 1, "x", name, "x", "&" * 9999, name, name)
    body = slack_message(Origin(LOG, "default/ops", "https://" + "e" * 250), alert)
    assert len(msgspec.json.decode(body)["blocks"][0]["text"]["text"]) <= 3000


@given(st.binary(min_size=16, max_size=64), st.binary(max_size=200), st.integers(0, 2**40))
def test_a_signature_covers_id_time_and_body(key: bytes, body: bytes, seconds: int) -> None:
    headers = signed_headers([b"another key, of before", key], "an-id", seconds, body)
    signed = b"an-id." + str(seconds).encode() + b"." + body
    wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"].split()[1] == f"v1,{wanted}"
