"""Differences written as YAML with signs."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.cli.unified import alike, hunks, steps

WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}


def difference(kind: str, path: str = "", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "ref": WEB, "path": path, **more}


def written(*differences: dict[str, Any]) -> list[str]:
    return [f"{'' if line.sign == '@' else line.sign}{line.text}" for line in hunks(differences)]


def test_a_hunk_has_the_way_to_each_field_once() -> None:
    image = '.spec.template.spec.containers[name="web"].image'
    assert written(
        difference("changed", ".spec.replicas", before=2, after=9, manager="kubectl"),
        difference("changed", image, before="web:1", after="web:2"),
        difference("foreign", ".metadata.labels.app.kubernetes.io/name", after="x", manager="eve"),
        difference("removed", '.spec.template.spec.containers[name="side"]', before={"name": "a"}),
        difference("ignored", ".spec.paused", before=None, after=True, manager="ada"),
    ) == [
        "@@ shop/Deployment/web @@",
        " spec:",
        "-  replicas: 2",
        "+  replicas: 9  # kubectl",
        "   template:",
        "     spec:",
        "       containers:",
        "         - name: web",
        "-          image: web:1",
        "+          image: web:2",
        "-        - name: a",
        "+  paused: true  # ignored, ada",
        " metadata:",
        "   labels:",
        "+    app.kubernetes.io/name: x  # nobody declared it, eve",
    ]


def test_a_whole_object_is_said_in_words() -> None:
    assert written(difference("missing"))[1] == "-the whole object is missing"
    assert written(difference("extra"))[1] == "+the whole object is no longer desired"


@given(
    st.lists(st.tuples(st.sampled_from(["changed", "removed", "foreign"]), st.text()), max_size=9)
)
def test_whatever_a_path_says_every_difference_is_shown(found: list[tuple[str, str]]) -> None:
    shown = written(*(difference(kind, path, before="was", after="is") for kind, path in found))
    assert bool(found) == bool(shown)


def test_a_path_is_split_where_its_names_end() -> None:
    assert steps('.spec.ports[port=80,protocol="TCP"].name') == [
        "spec",
        "ports",
        '[port=80,protocol="TCP"]',
        "name",
    ]
    assert steps(".metadata.annotations.a.b/c.d") == ["metadata", "annotations", "a.b/c.d"]
    assert steps('.data["a.b"]') == ["data", "a.b"]


def test_targets_that_differ_alike_are_one_group() -> None:
    def answer(target: str, after: int, time: str = "") -> dict[str, Any]:
        found = [difference("changed", ".spec.replicas", before=2, after=after, time=time)]
        return {
            "target": target, "same": False, "differences": found, "omitted": 0, "unknown": [],
        }  # fmt: skip

    groups = alike([answer("a@x", 3, "then"), answer("a@y", 4), answer("a@z", 3, "now")])
    assert [targets for targets, _ in groups] == [["a@x", "a@z"], ["a@y"]]
