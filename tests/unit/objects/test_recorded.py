"""What a real API server answered, and what is made of it: each way of tampering, by name."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.objects.foreign import foreign
from engine.objects.identity import ref_of
from engine.objects.kept import Kept, compare_with, differences, extract, freeze
from engine.objects.mutated import mutated
from engine.objects.typed import same_value

APP = '.spec.template.spec.containers[name="app"]'
TMP = '.spec.template.spec.volumes[name="tmp"]'
BY_INTRUDER = ("intruder", "Update", "")

# kind -> scenario -> (differences: kind, path, author; foreign: path, manager)
SCENARIOS: dict[str, dict[str, tuple[list[tuple[Any, ...]], list[tuple[str, str]]]]] = {
    "deployment": {
        "wait for controllers": ([], []),
        "image": ([("changed", f"{APP}.image", *BY_INTRUDER)], []),
        "scale": ([("changed", ".spec.replicas", "kubectl", "Update", "scale")], []),
        "label added": ([], [(".metadata.labels.foo", "kubectl-label")]),
        "our label removed": ([("removed", ".metadata.labels.trueup.dev/owner", "", "", "")], []),
        "env reordered": ([("reordered", f"{APP}.env", "", "", "")], []),
        "env duplicate": ([("changed", f'{APP}.env[name="A"]', *BY_INTRUDER)], []),
        "env added": ([], [(f'{APP}.env[name="Z"]', "intruder")]),
        "container removed": (
            [("removed", '.spec.template.spec.containers[name="side"]', "", "", "")],
            [],
        ),
        "port changed": (
            [("removed", f'{APP}.ports[containerPort=80,protocol="TCP"]', "", "", "")],
            [(f'{APP}.ports[containerPort=8080,protocol="TCP"]', "intruder")],
        ),
        "emptyDir sized": ([], [(f"{TMP}.emptyDir.sizeLimit", "intruder")]),
        "emptyDir replaced": (
            [("removed", f"{TMP}.emptyDir", "", "", "")],
            [(f"{TMP}.hostPath", "intruder")],
        ),
        "hostNetwork switched on": (
            [("changed", ".spec.template.spec.hostNetwork", *BY_INTRUDER)],
            [],
        ),
        "strategy default changed": ([], [(".spec.strategy.type", "intruder")]),
        "other forces replicas": ([("changed", ".spec.replicas", "other", "Apply", "")], []),
        "forged apply as trueup adds": ([], [(".spec.paused", "trueup")]),
        "forged apply as trueup changes": ([("changed", ".spec.replicas", "", "", "")], []),
        "managedFields cleared": ([("ownership-lost", "", "", "", "")], []),
        "changed and changed back": ([("ownership-lost", ".spec.replicas", *BY_INTRUDER)], []),
        "replace": (
            [
                ("changed", ".spec.replicas", "kubectl-replace", "Update", ""),
                ("removed", f'{APP}.env[name="A"]', "", "", ""),
            ],
            [],
        ),
    },
    "network_policy": {
        "netpol selector atomic": ([("changed", ".spec.podSelector", *BY_INTRUDER)], []),
        "netpol egress": ([("changed", ".spec.egress", *BY_INTRUDER)], []),
    },
    "secret": {
        "secret value": ([("changed", ".data.p", *BY_INTRUDER)], []),
        "secret removed": ([("removed", ".data.p", "", "", "")], []),
    },
    "service": {
        "svc selector": ([("changed", ".spec.selector", *BY_INTRUDER)], []),
        "svc port": ([], [('.spec.ports[port=80,protocol="TCP"].targetPort', "intruder")]),
    },
    "service_account": {
        "sa finalizer removed": (
            [("removed", '.metadata.finalizers[="ex.io/b"]', "", "", "")],
            [],
        ),
        "sa finalizer reordered": ([], []),
    },
    "cluster_role": {"aggregated rules": ([], [])},
}


def recorded(name: str) -> Any:
    return orjson.loads((Path(__file__).parent / "data" / f"{name}.json").read_bytes())


@pytest.fixture(params=sorted(SCENARIOS), scope="module")
def recording(request: pytest.FixtureRequest) -> tuple[str, Any]:
    return request.param, recorded(request.param)


@pytest.mark.parametrize(("name", "scenario"), [(k, s) for k, v in SCENARIOS.items() for s in v])
def test_a_recorded_change_is_named_with_its_author(name: str, scenario: str) -> None:
    record = recorded(name)
    live, ref = record["live"][scenario], ref_of(record["answer"])
    kept = freeze(record["answer"], sent=record["sent"])
    assert kept is not None
    found = [
        (d.kind.value, d.path, d.manager, d.operation, d.subresource)
        for d in differences(kept, live, ref)
    ]
    others = [(d.path, d.manager) for d in foreign(kept, live, ref)]
    assert (found, others) == SCENARIOS[name][scenario]
    drift = any(d.kind.is_drift for d in differences(kept, live, ref))
    assert drift != same_value(extract(kept, live), kept.values)


def test_every_recording_has_a_scenario(recording: tuple[str, Any]) -> None:
    name, record = recording
    assert set(record["live"]) == set(SCENARIOS[name])


def test_an_answer_is_no_difference_to_itself(recording: tuple[str, Any]) -> None:
    _, record = recording
    answer, ref = record["answer"], ref_of(record["answer"])
    for sent in (None, record["sent"]):
        kept = freeze(answer, sent=sent)
        assert kept is not None
        assert compare_with(kept, answer, ref) == ([], False)
        assert foreign(kept, answer, ref, ()) == []
        assert Kept.decode(kept.encode()) == kept
    assert mutated(record["sent"], answer, ref) == []


def test_before_and_after_are_told() -> None:
    record = recorded("deployment")
    ref, kept = ref_of(record["answer"]), freeze(record["answer"], sent=record["sent"])
    assert kept is not None
    told = {
        name: [(d.before, d.after) for d in differences(kept, live, ref)]
        for name, live in record["live"].items()
    }
    assert told["image"] == [("nginx:1.0", "evil")]
    assert told["scale"] == [(2, 5)]
    assert told["env reordered"] == [(["A", "B", "C"], ["C", "A", "B"])]
    assert told["container removed"] == [({"image": "side:1", "name": "side"}, None)]
    assert told["hostNetwork switched on"] == [(None, True)]
    assert told["env duplicate"][0][1] == [
        {"name": "A", "value": "1"},
        {"name": "A", "value": "evil"},
    ]


def test_a_change_that_is_still_ours_asks_for_a_second_look() -> None:
    record = recorded("deployment")
    ref, kept = ref_of(record["answer"]), freeze(record["answer"], sent=record["sent"])
    assert kept is not None
    forged = compare_with(kept, record["live"]["forged apply as trueup changes"], ref)
    assert forged[1]
    assert not compare_with(kept, record["live"]["image"], ref)[1]
    # Whoever made it, the server reads our apply like this now: then there is no difference.
    rebased = freeze(record["live"]["forged apply as trueup changes"])
    assert rebased is not None
    assert differences(rebased, record["live"]["forged apply as trueup changes"], ref) == []
