"""What a cluster can be told, with its defaults: those of `kubecore up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.aggregation.options import AggregationOptions
from kubecore.apiserver.audit.options import AuditOptions
from kubecore.apiserver.authentication.options import AuthenticationOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions
from kubecore.apiserver.storage.encryption import EncryptionOptions
from kubecore.apiserver.tracing.options import TracingOptions
from kubecore.cluster_networks import Mode
from kubecore.ingress.options import IngressConfig

if TYPE_CHECKING:
    from kubecore.dns.responder import DnsConfig
    from kubecore.kubelet.settings.kubelet_config import CriConfig
    from kubecore.scheduler.scheduler import SchedulerConfig

ProxyMode = Literal["userspace", "nftables", "ipvs"]

SIMULATED = "simulated"
"""The runtime of nodes that run nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What `kubecore up` can be told. Ports: 0 picks a free one, except `insecure_port`, where 0 means off."""

    data_dir: Path = field(default_factory=lambda: Path.home() / ".kubecore")
    """A path in a str will do."""
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    grpc_port: int = 6444
    insecure_port: int = 0
    nodes: int = 1
    max_pods: int = 110
    """On each of them."""
    simulated_nodes: int = 0
    """Nodes without a machine, whose pods run nothing (see `kubelet/simulated`)."""
    default_runtime: str = "host"
    cri: CriConfig | None = None
    """Where the container runtime of runtime `cri` listens; None where nothing runs by it."""
    proxy_mode: ProxyMode = "userspace"
    ipvs_scheduler: str = "rr"
    load_balancer_ranges: tuple[str, ...] = ()
    """What Services of type LoadBalancer get addresses from; none: a range that only this host knows."""
    authentication: AuthenticationOptions = field(default_factory=AuthenticationOptions)
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    authorization: AuthorizationOptions = field(default_factory=AuthorizationOptions)
    encryption: EncryptionOptions = field(default_factory=EncryptionOptions)
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)
    aggregation: AggregationOptions = field(default_factory=AggregationOptions)
    tracing: TracingOptions | None = None
    """Where traces of the API server's requests go; None: nowhere."""
    runtime_config: tuple[tuple[str, str], ...] = ()
    dns_port: int | None = None
    """DNS answers at this port of `bind_address` too (never on all interfaces); None: only where pods ask it."""
    dns: DnsConfig | None = None
    """How DNS answers; None for the host's resolvers beyond the cluster."""
    network_mode: Mode | Literal["auto"] = "auto"
    """`netns`, `rootless`, `loopback`, or `auto`: network namespaces for pods where the kernel and the user's rights
    allow."""
    service_cidrs: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    """Of Services and pods: one range, or one of each family, the cluster's own first; none: ranges that are free."""
    ip_families: tuple[str, ...] = ()
    """Of ranges that are chosen: IPv4, IPv6 or both, the cluster's own first; none: IPv4."""
    ingress: IngressConfig | None = field(default_factory=IngressConfig)
    """None: Ingresses are left to somebody else."""
    lonely_pod_seconds: float | None = None
    """For so long pods outlive this process, if it is killed, until another one takes them over; None: they do not."""
    kubelet: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the KubeletConfig of each node, as a KubeletConfiguration sets them."""
    scheduler: SchedulerConfig | None = None
    """Profiles and plugins; None for kube-scheduler's defaults."""

    durable: bool = True
    """Writes are synced to disk before they are acknowledged; False only where nothing needs to survive (tests)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir))

    @classmethod
    def throwaway(cls, data_dir: Path, **fields: Any) -> Self:
        """Of a cluster for a test, say: at free ports, and nothing waits for the disk. `fields` are others of it."""
        values: dict[str, Any] = {"secure_port": 0, "grpc_port": 0, "durable": False, **fields}
        return cls(data_dir=data_dir, **values)

    @property
    def real_nodes(self) -> int:
        """Nodes that run something."""
        return 0 if self.default_runtime == SIMULATED else self.nodes
