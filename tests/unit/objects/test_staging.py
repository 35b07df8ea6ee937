"""Which annotations say when an object has its turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.objects.identity import ObjectRefused
from engine.objects.staging import Staging, staging_of

ARGO, HELM, OURS = "argocd.argoproj.io/", "helm.sh/", "trueup.dev/"
DEFAULT = ("before-hook-creation",)


def staged(**annotations: str) -> Staging:
    return staging_of({"metadata": {"annotations": annotations}})


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, Staging()),
        ({OURS + "wave": "3", ARGO + "sync-wave": "1"}, Staging(3)),
        ({ARGO + "sync-wave": "-1"}, Staging(-1)),
        ({HELM + "hook-weight": "5"}, Staging()),
        ({OURS + "hook": "pre-sync, post-sync"}, Staging(0, ("post-sync", "pre-sync"), DEFAULT)),
        (
            {ARGO + "hook": "PreSync", ARGO + "hook-delete-policy": "HookSucceeded,HookFailed"},
            Staging(0, ("pre-sync",), ("hook-failed", "hook-succeeded")),
        ),
        (
            {HELM + "hook": "pre-install,pre-upgrade", HELM + "hook-weight": "-5"},
            Staging(-5, ("pre-install", "pre-upgrade"), DEFAULT),
        ),
        ({HELM + "hook": "pre-install,pre-delete"}, Staging(0, ("pre-install",), DEFAULT)),
        ({HELM + "hook": "test"}, Staging(0, ("skip",), DEFAULT)),
        ({HELM + "hook": "crd-install"}, Staging()),
        (
            {ARGO + "hook": "Sync", HELM + "hook": "pre-install", HELM + "hook-weight": "4"},
            Staging(0, ("sync",), DEFAULT),
        ),
        ({OURS + "hook": "skip", ARGO + "hook": "Sync"}, Staging(0, ("skip",), DEFAULT)),
    ],
)
def test_an_object_says_when_it_has_its_turn(
    annotations: dict[str, str], expected: Staging
) -> None:
    assert staged(**annotations) == expected


@pytest.mark.parametrize(
    ("annotations", "code", "said"),
    [
        ({OURS + "wave": "first"}, "bad-wave", "'first'"),
        ({ARGO + "sync-wave": "1.5"}, "bad-wave", "'1.5'"),
        ({ARGO + "sync-wave": "9" * 5000}, "bad-wave", "whole number"),
        ({OURS + "wave": "٣"}, "bad-wave", "whole number"),
        ({OURS + "hook": "PreSync"}, "bad-hook", "pre-sync"),
        ({ARGO + "hook": "Before"}, "bad-hook", "PreSync"),
        ({OURS + "hook": "sync", OURS + "hook-delete-policy": "soon"}, "bad-hook", "hook-failed"),
    ],
)
def test_what_is_no_turn_is_refused_and_what_could_be_is_named(
    annotations: dict[str, str], code: str, said: str
) -> None:
    with pytest.raises(ObjectRefused) as refused:
        staged(**annotations)
    assert refused.value.code == code
    assert said in refused.value.message


NAMES = ["wave", "hook", "sync-wave", "hook-weight", "hook-delete-policy"]


@given(
    st.dictionaries(
        st.builds("{}{}".format, st.sampled_from([ARGO, HELM, OURS]), st.sampled_from(NAMES)),
        st.text(max_size=12) | st.sampled_from(["PreSync", "pre-install", "sync", "1", "-2"]),
    )
)
def test_whatever_is_written_there_is_read_or_refused(annotations: dict[str, str]) -> None:
    try:
        found = staging_of({"metadata": {"annotations": annotations}})
    except ObjectRefused:
        return
    assert found.hooks == tuple(sorted(set(found.hooks)))
    assert bool(found.cleanup) is bool(found.hooks)
