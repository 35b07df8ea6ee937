"""When in a sync an object has its turn: its wave, or that it is a hook. Pure.

Read from annotations: ours, Argo CD's, and Helm's where they mean the same. Ours win over Argo
CD's, and these over Helm's. `docs/order.md` has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from engine.objects.identity import ObjectRefused

WAVE: Final = "trueup.dev/wave"
HOOK: Final = "trueup.dev/hook"
CLEANUP: Final = "trueup.dev/hook-delete-policy"
_ARGO_WAVE = "argocd.argoproj.io/sync-wave"
_ARGO_HOOK = "argocd.argoproj.io/hook"
_ARGO_CLEANUP = "argocd.argoproj.io/hook-delete-policy"
_HELM_HOOK, _HELM_WEIGHT = "helm.sh/hook", "helm.sh/hook-weight"
_HELM_CLEANUP = "helm.sh/hook-delete-policy"

PRE_SYNC, SYNC, POST_SYNC, SYNC_FAIL = "pre-sync", "sync", "post-sync", "sync-fail"
SKIP: Final = "skip"
"""The hook of what is for another tool: it is never applied."""
PRE_INSTALL, PRE_UPGRADE = "pre-install", "pre-upgrade"
POST_INSTALL, POST_UPGRADE = "post-install", "post-upgrade"
SUCCEEDED, FAILED, BEFORE = "hook-succeeded", "hook-failed", "before-hook-creation"

_OURS = {word: word for word in (PRE_SYNC, SYNC, POST_SYNC, SYNC_FAIL, SKIP)}
_ARGO = {
    "PreSync": PRE_SYNC,
    "Sync": SYNC,
    "PostSync": POST_SYNC,
    "SyncFail": SYNC_FAIL,
    "Skip": SKIP,
    "PreDelete": SKIP,
    "PostDelete": SKIP,
}
_HELM = {
    **{word: word for word in (PRE_INSTALL, PRE_UPGRADE, POST_INSTALL, POST_UPGRADE)},
    # There is no such moment here: deletions and rollbacks have no hooks, tests are a person's.
    **dict.fromkeys(
        (
            "pre-delete",
            "post-delete",
            "pre-rollback",
            "post-rollback",
            "test",
            "test-success",
            "test-failure",
        ),
        SKIP,
    ),
    # Helm 2's way to say that an object comes first, which definitions do here.
    "crd-install": "",
}
_CLEANUPS = {
    BEFORE: BEFORE,
    SUCCEEDED: SUCCEEDED,
    FAILED: FAILED,
    "BeforeHookCreation": BEFORE,
    "HookSucceeded": SUCCEEDED,
    "HookFailed": FAILED,
}
_MOST = 1_000_000
"""How far from 0 a wave may be."""


class Staging(Struct, frozen=True):
    """`hooks` has the phases of a hook, () for what is none; `cleanup` when its object goes."""

    wave: int = 0
    hooks: tuple[str, ...] = ()
    cleanup: tuple[str, ...] = ()


def staging_of(obj: Mapping[str, Any]) -> Staging:
    """Read an object's annotations. Raises `ObjectRefused("bad-wave")` or `("bad-hook")`."""
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if not isinstance(annotations, Mapping):
        return Staging()
    hooks, is_helm = _hooks(annotations)
    if hooks is None:
        return Staging(_wave(annotations, (WAVE, _ARGO_WAVE)))
    waves = (WAVE, _ARGO_WAVE, _HELM_WEIGHT) if is_helm else (WAVE, _ARGO_WAVE)
    return Staging(_wave(annotations, waves), hooks, _cleanup(annotations))


def _hooks(annotations: Mapping[str, Any]) -> tuple[tuple[str, ...] | None, bool]:
    """Return the phases of a hook (None for no hook), and whether Helm's annotation names them."""
    for name, known in ((HOOK, _OURS), (_ARGO_HOOK, _ARGO), (_HELM_HOOK, _HELM)):
        if not annotations.get(name):
            continue
        found = {known[word] for word in _words(annotations, name, known)} - {""}
        if len(found) > 1:
            found.discard(SKIP)
        return tuple(sorted(found)) or None, name == _HELM_HOOK
    return None, False


def _cleanup(annotations: Mapping[str, Any]) -> tuple[str, ...]:
    for name in (CLEANUP, _ARGO_CLEANUP, _HELM_CLEANUP):
        if annotations.get(name):
            words = _words(annotations, name, _CLEANUPS)
            return tuple(sorted({_CLEANUPS[word] for word in words}))
    return (BEFORE,)


def _words(annotations: Mapping[str, Any], name: str, known: Mapping[str, str]) -> list[str]:
    words = [word.strip() for word in str(annotations[name]).split(",") if word.strip()]
    strange = next((word for word in words if word not in known), None)
    if strange is not None:
        raise ObjectRefused(
            "bad-hook",
            f"The annotation {name} has {strange[:40]!r}, which is none of: {', '.join(known)}.",
        )
    return words


def _wave(annotations: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        text = annotations.get(name)
        if not text:
            continue
        digits = str(text).strip()
        if not digits.removeprefix("-").removeprefix("+").isascii() or len(digits) > 8:
            raise _bad_wave(name, digits)
        try:
            wave = int(digits)
        except ValueError:
            raise _bad_wave(name, digits) from None
        if abs(wave) > _MOST:
            raise _bad_wave(name, digits)
        return wave
    return 0


def _bad_wave(name: str, text: str) -> ObjectRefused:
    return ObjectRefused(
        "bad-wave", f"The annotation {name} is {text[:40]!r}: a whole number, -{_MOST} to {_MOST}."
    )
