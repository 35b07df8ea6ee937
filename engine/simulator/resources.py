"""What the simulated API serves: one entry a resource, built-in or custom."""

from __future__ import annotations

from dataclasses import dataclass

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of one API version.

    `generation` says when `metadata.generation` counts: "spec" on a change of anything outside
    metadata and status, "" never.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool
    singular: str = ""
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    generation: str = ""
    custom: bool = False

    @property
    def api_version(self) -> str:
        """The apiVersion that objects of this resource carry: `v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The resource as messages name it: `pods` or `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """The kind as messages name it: `Pod` or `Deployment.apps`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def key(self) -> tuple[str, str]:
        """Group and plural: what the store keys tables of objects by."""
        return (self.group, self.plural)


# group/version | kind | plural | n(amespaced) or c(luster) | short names | flags
# flags: s status, r scale, g generation counts, a in category "all"
_TABLE = """
v1 ConfigMap configmaps n cm
v1 Endpoints endpoints n ep
v1 Event events n ev
v1 LimitRange limitranges n limits
v1 Namespace namespaces c ns s
v1 Node nodes c no s
v1 PersistentVolumeClaim persistentvolumeclaims n pvc s
v1 PersistentVolume persistentvolumes c pv s
v1 Pod pods n po sga
v1 PodTemplate podtemplates n - g
v1 ReplicationController replicationcontrollers n rc srga
v1 ResourceQuota resourcequotas n quota s
v1 Secret secrets n -
v1 ServiceAccount serviceaccounts n sa
v1 Service services n svc sa
apps/v1 ControllerRevision controllerrevisions n -
apps/v1 DaemonSet daemonsets n ds sga
apps/v1 Deployment deployments n deploy srga
apps/v1 ReplicaSet replicasets n rs srga
apps/v1 StatefulSet statefulsets n sts srga
batch/v1 CronJob cronjobs n cj sga
batch/v1 Job jobs n - sga
autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers n hpa sga
policy/v1 PodDisruptionBudget poddisruptionbudgets n pdb sg
networking.k8s.io/v1 Ingress ingresses n ing sg
networking.k8s.io/v1 IngressClass ingressclasses c - g
networking.k8s.io/v1 NetworkPolicy networkpolicies n netpol g
rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings c -
rbac.authorization.k8s.io/v1 ClusterRole clusterroles c -
rbac.authorization.k8s.io/v1 RoleBinding rolebindings n -
rbac.authorization.k8s.io/v1 Role roles n -
storage.k8s.io/v1 CSIDriver csidrivers c -
storage.k8s.io/v1 StorageClass storageclasses c sc
scheduling.k8s.io/v1 PriorityClass priorityclasses c pc g
node.k8s.io/v1 RuntimeClass runtimeclasses c -
coordination.k8s.io/v1 Lease leases n -
discovery.k8s.io/v1 EndpointSlice endpointslices n - g
certificates.k8s.io/v1 CertificateSigningRequest certificatesigningrequests c csr s
admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations c - g
admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations c - g
apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions c crd,crds sg
apiregistration.k8s.io/v1 APIService apiservices c - s
"""


def _row(line: str) -> Resource:
    api_version, kind, plural, scope, short, *rest = line.split()
    group, _, version = api_version.rpartition("/")
    flags = rest[0] if rest else ""
    return Resource(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        namespaced=scope == "n",
        singular=kind.lower(),
        short=() if short == "-" else tuple(short.split(",")),
        categories=("all",) if "a" in flags else (),
        subresources=(("status",) if "s" in flags else ()) + (("scale",) if "r" in flags else ()),
        generation="spec" if "g" in flags else "",
    )


BUILTIN: tuple[Resource, ...] = tuple(_row(line) for line in _TABLE.strip().splitlines())
