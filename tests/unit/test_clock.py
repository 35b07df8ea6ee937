"""The ids that events carry."""

from __future__ import annotations

import uuid

from engine.process.clock import SystemClock


def test_event_ids_are_version_7_uuids_and_all_different() -> None:
    clock = SystemClock()
    ids = [clock.event_id() for _ in range(1000)]
    parsed = [uuid.UUID(i) for i in ids]
    assert {u.version for u in parsed} == {7}
    assert {u.variant for u in parsed} == {uuid.RFC_4122}
    assert len(set(ids)) == 1000
    millis = [u.int >> 80 for u in parsed]
    assert millis == sorted(millis)
    assert abs(millis[0] * 1000 - clock.now()) < 60_000_000
