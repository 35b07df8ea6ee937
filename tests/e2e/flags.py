"""The command lines of a control plane: close to what kubeadm runs, on loopback."""

from dataclasses import dataclass
from pathlib import Path

from tests.e2e.pki import ISSUER, KeyPair


@dataclass(frozen=True)
class Layout:
    """Where the parts of one control plane find their files and each other."""

    data: Path
    """etcd's folder."""
    audit_policy: Path
    audit_log: Path
    tokens: Path
    controller_manager_kubeconfig: Path
    authority: KeyPair
    server: KeyPair
    """What every part serves with; etcd's clients and members log in with it too."""
    front_proxy: KeyPair
    service_accounts: KeyPair
    etcd_port: int
    etcd_peer_port: int
    apiserver_port: int
    controller_manager_port: int


def etcd_flags(layout: Layout) -> list[str]:
    """Return etcd's flags: one member, TLS, and no fsync."""
    client = f"https://127.0.0.1:{layout.etcd_port}"
    peer = f"https://127.0.0.1:{layout.etcd_peer_port}"
    return [
        "--name=e2e",
        f"--data-dir={layout.data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=e2e={peer}",
        "--socket-reuse-port",
        f"--cert-file={layout.server.certificate}",
        f"--key-file={layout.server.key}",
        "--client-cert-auth",
        f"--trusted-ca-file={layout.authority.certificate}",
        f"--peer-cert-file={layout.server.certificate}",
        f"--peer-key-file={layout.server.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={layout.authority.certificate}",
        # A lone member elects itself; the default has it wait a second first.
        "--heartbeat-interval=20",
        "--election-timeout=100",
        # A killed process loses nothing by it (only a machine would), and it starts in a third
        # of the time.
        "--unsafe-no-fsync",
        f"--quota-backend-bytes={4 << 30}",
    ]


def apiserver_flags(layout: Layout) -> list[str]:
    """Return kube-apiserver's flags; features, API groups and admission are its defaults."""
    return [
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.apiserver_port}",
        "--permit-port-sharing",
        # Without it SIGTERM waits a minute for clients to end their watches.
        "--shutdown-watch-termination-grace-period=2s",
        # A loopback address is refused as the endpoint of the service `kubernetes`.
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged",
        "--authorization-mode=Node,RBAC",
        f"--etcd-servers=https://127.0.0.1:{layout.etcd_port}",
        f"--etcd-cafile={layout.authority.certificate}",
        f"--etcd-certfile={layout.server.certificate}",
        f"--etcd-keyfile={layout.server.key}",
        f"--tls-cert-file={layout.server.certificate}",
        f"--tls-private-key-file={layout.server.key}",
        f"--client-ca-file={layout.authority.certificate}",
        f"--token-auth-file={layout.tokens}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={layout.service_accounts.certificate}",
        f"--service-account-signing-key-file={layout.service_accounts.key}",
        f"--requestheader-client-ca-file={layout.authority.certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={layout.front_proxy.certificate}",
        f"--proxy-client-key-file={layout.front_proxy.key}",
        f"--audit-policy-file={layout.audit_policy}",
        f"--audit-log-path={layout.audit_log}",
        # Each request is booked before its handler returns, and no part of the log is rotated
        # away under a reader.
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=4096",
    ]


def controller_manager_flags(layout: Layout) -> list[str]:
    """Return kube-controller-manager's flags: every default controller, as its own account."""
    return [
        f"--kubeconfig={layout.controller_manager_kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={layout.controller_manager_port}",
        "--permit-port-sharing",
        f"--tls-cert-file={layout.server.certificate}",
        f"--tls-private-key-file={layout.server.key}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={layout.service_accounts.key}",
        f"--root-ca-file={layout.authority.certificate}",
        f"--cluster-signing-cert-file={layout.authority.certificate}",
        f"--cluster-signing-key-file={layout.authority.key}",
        # The default of 20 requests a second would make thousands of objects a test of patience.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
    ]
