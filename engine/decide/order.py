"""In which order the actions of a plan are done. Pure.

Namespaces first, then CustomResourceDefinitions, then what others refer to, then workloads, then
the rest; deletions come last, in the reverse order.
"""

from __future__ import annotations

from events.vocabulary import Action, ObjectRef, Verb

NAMESPACES, DEFINITIONS = 0, 1
_BY_KIND = {
    ("", "Namespace"): NAMESPACES,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): DEFINITIONS,
    ("", "ResourceQuota"): 2,
    ("", "LimitRange"): 2,
    ("policy", "PodDisruptionBudget"): 2,
    ("scheduling.k8s.io", "PriorityClass"): 2,
    ("storage.k8s.io", "StorageClass"): 2,
    ("", "ServiceAccount"): 2,
    ("", "Secret"): 2,
    ("", "ConfigMap"): 2,
    ("", "PersistentVolume"): 2,
    ("", "PersistentVolumeClaim"): 2,
    ("rbac.authorization.k8s.io", "ClusterRole"): 2,
    ("rbac.authorization.k8s.io", "Role"): 2,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): 3,
    ("rbac.authorization.k8s.io", "RoleBinding"): 3,
    ("", "Service"): 3,
    ("apiregistration.k8s.io", "APIService"): 6,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): 7,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): 7,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): 7,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): 7,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"): 7,
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"): 7,
}
_BUILT_IN = 4
_CUSTOM = 5
_DELETIONS = 10

PROTECTED = frozenset(
    {
        ("", "Namespace"),
        ("", "PersistentVolumeClaim"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    }
)
"""(group, kind) of what is never deleted because it is no longer declared: what hangs on them."""


_COMPLETING = frozenset({("batch", "Job"), ("", "Pod")})


def runs_to_completion(ref: ObjectRef) -> bool:
    """Whether an object runs once: a hook of this kind is another object at each sync."""
    return (ref.group, ref.kind) in _COMPLETING


def wave_of(ref: ObjectRef, verb: Verb) -> int:
    """Return an action's place: lower waves are done, whole, before higher ones."""
    wave = _BY_KIND.get((ref.group, ref.kind))
    if wave is None:
        built_in = "." not in ref.group or ref.group.endswith(".k8s.io")
        wave = _BUILT_IN if built_in else _CUSTOM
    return wave if verb is not Verb.DELETE else _DELETIONS + _DELETIONS - wave


def in_order(actions: list[Action]) -> tuple[Action, ...]:
    """Sort actions by wave, then by reference, so that a plan is the same for the same facts."""
    return tuple(sorted(actions, key=lambda action: (action.wave, action.ref, action.verb)))


def is_protected(ref: ObjectRef) -> bool:
    """Whether an object is of a kind that is never pruned."""
    return (ref.group, ref.kind) in PROTECTED
