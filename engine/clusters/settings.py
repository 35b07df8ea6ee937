"""How clusters are reached and how long is waited: every number, with its unit. Pure."""

from __future__ import annotations

from msgspec import Struct

from engine.bounded import MIB


class ClusterSettings(Struct, frozen=True, kw_only=True):
    """Limits and habits of all clusters. Times are seconds, sizes are bytes.

    `kubeconfig_roots` are the folders below which a kubeconfig may lie; `exec_plugins` are the
    credential plugins that may be run, written as kubeconfigs write them (a bare name, or an
    absolute path); `allow_insecure_tls` lets a kubeconfig turn verification off, or name a server
    that speaks plain HTTP beyond this machine.
    """

    kubeconfig_roots: tuple[str, ...] = ()
    exec_plugins: tuple[str, ...] = ()
    allow_insecure_tls: bool = False

    requests: int = 16
    """Requests in flight to one cluster, watches not counted."""
    connect_timeout: float = 10.0
    request_timeout: float = 30.0
    exec_timeout: float = 30.0
    watch_timeout: float = 300.0
    """How long the server is asked to keep a watch open."""
    watch_idle: float = 150.0
    """A watch without a line for so long is opened again; a server sends bookmarks each minute."""
    probe_interval: float = 30.0
    probe_timeout: float = 10.0
    loss_grace: float = 10.0
    """How long a cluster may fail to answer before that is an event."""
    relist_interval: float = 3600.0
    doubt_interval: float = 30.0
    """How often an object that left the filter, and is still there, is looked at."""
    backoff_first: float = 0.5
    backoff_most: float = 60.0
    discovery_interval: float = 2.0
    """An unknown kind is looked up again after so long, at the soonest."""

    page: int = 500
    """Objects in one page of a list."""
    object_bytes: int = 8 * MIB
    page_bytes: int = 64 * MIB
    kept_bytes: int = 24 * MIB
    """Of kept forms in memory, for all clusters together: two thirds of it for those that are ready
    for comparisons (6 KB a ServiceAccount, 31 KB a Deployment), the rest for packed ones (0.5 and
    0.9 KB). The same object of the same application has the same form on each cluster."""
