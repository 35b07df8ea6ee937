"""Bodies by digest: shown as they are kept, and erased on the record."""

from __future__ import annotations

import msgspec
import pytest

from engine.erasure import erase_redacted
from engine.tell import said
from events.catalog import BodyRedacted
from events.codec import fact_of
from events.event import blob
from events.vocabulary import Desired, ObjectRef
from tests.serving import Bench

pytestmark = pytest.mark.anyio
BODY = blob(b'{"password": "hunter2"}')
PATH = f"/v1/blobs/{BODY.digest}"


async def test_a_body_is_erased_once_and_whoever_asks_is_told_by_whom_and_why(api: Bench) -> None:
    await api.log.put([BODY])
    assert await api.call("GET", PATH, status=200) == {"password": "hunter2"}
    done = await api.call("POST", f"{PATH}/redact", {"reason": "a password"}, status=200)
    assert (done["changed"], done["size"]) == (True, len(BODY.body))
    gone = await api.call("GET", PATH, status=410)
    assert gone["code"] == "redacted"
    assert "a password" in gone["detail"]
    assert gone["position"] == done["position"]
    again = await api.call("POST", f"{PATH}/redact", {"reason": "once more"}, status=200)
    assert (again["changed"], again["position"]) == (False, done["position"])
    await api.log.put([BODY])
    await api.call("GET", PATH, status=410)
    (event,) = await api.log.read(0, types=["BodyRedacted"])  # type: ignore[arg-type]
    assert event.stream == f"body/default/{BODY.digest[7:]}"
    assert event.actor.startswith("user:")
    assert said(fact_of(event)) == "body erased"


async def test_what_is_not_there_or_is_no_digest_or_has_no_reason_is_refused(api: Bench) -> None:
    await api.log.put([BODY])
    await api.call("POST", f"{PATH}/redact", {"reason": " "}, status=400)
    await api.call("POST", f"{PATH}/redact", {}, status=400)
    await api.call("POST", "/v1/blobs/sha256:abc/redact", {"reason": "x"}, status=404)
    other = blob(b"other").digest
    await api.call("POST", f"/v1/blobs/{other}/redact", {"reason": "x"}, status=404)
    assert await api.log.read(0, types=["BodyRedacted"]) == []  # type: ignore[arg-type]


async def test_the_list_of_what_is_desired_holds_no_secret_and_is_kept(api: Bench) -> None:
    listed = [Desired(ObjectRef("v1", "ConfigMap", "", "a"), BODY.digest)]
    listing = blob(msgspec.json.encode(listed))
    await api.log.put([listing])
    path = f"/v1/blobs/{listing.digest}"
    problem = await api.call("POST", f"{path}/redact", {"reason": "x"}, status=409)
    assert problem["code"] == "listing"
    await api.call("GET", path, status=200)


async def test_a_start_does_what_a_killed_engine_had_only_said(api: Bench) -> None:
    await api.log.put([BODY])
    await api.tell(f"body/default/{BODY.digest[7:]}", BodyRedacted("a password"), actor="user:ada")
    assert BODY.digest in await api.log.blobs([BODY.digest])
    await erase_redacted(api.log)
    gone = await api.call("GET", PATH, status=410)
    assert "user:ada" in gone["detail"]
