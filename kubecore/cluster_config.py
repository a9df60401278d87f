"""What a cluster can be told, with its defaults: those of `kubecore up`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

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

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "default_runtime": ("host", "oci", "cri", SIMULATED),
    "proxy_mode": get_args(ProxyMode),
    "network_mode": ("auto", *get_args(Mode)),
}
_NUMBERS = {
    **dict.fromkeys(("secure_port", "grpc_port", "insecure_port", "dns_port"), (0, 65535)),
    **dict.fromkeys(("nodes", "simulated_nodes"), (0, None)),
    "max_pods": (1, None),
}
_LEASE = "lease_seconds"
"""Of a KubeletConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What `kubecore up` can be told. Ports: 0 picks a free one, except `insecure_port`, where 0 means off.

    TypeError and ValueError tell of a field that is not what it should be.
    """

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
    """`netns`, `rootless`, `loopback`, or `auto`: the first of them that the kernel and the user's rights allow, and
    that goes with the rest of this (see `pod_network_choice`)."""
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
    """Fields of the KubeletConfig of each node, as a KubeletConfiguration sets them. Of a simulated node
    `lease_seconds` counts, its nodeLeaseDurationSeconds."""
    scheduler: SchedulerConfig | None = None
    """Profiles and plugins; None for kube-scheduler's defaults."""
    leader_elect: bool = True
    """Scheduler and controller manager work only while they hold their leases; False where nobody runs others beside
    them (--leader-elect)."""
    node_monitor_grace_seconds: float = 50.0
    """Silence after which a node counts as lost (--node-monitor-grace-period): more than the quarter of
    `lease_seconds` (of `kubelet`, 40 by default) after which a node renews its lease."""

    durable: bool = True
    """Writes are synced to disk before they are acknowledged; False only where nothing needs to survive (tests)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_dir", Path(self.data_dir))
        self._check()

    def _check(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name, (least, most) in _NUMBERS.items():
            _check_number(name, getattr(self, name), least, most)
        for one in fields(self):
            value = getattr(self, one.name)
            # Each letter would be taken for a part of it.
            if isinstance(value, str) and str(one.type).startswith("tuple["):
                raise TypeError(f"{one.name} is a tuple, such as ({value!r},), not a text")
        if self.kubelet:
            _check_kubelet(self.kubelet)
        if (problem := lease_problem(self.lease_seconds, self.node_monitor_grace_seconds)) is not None:
            raise ValueError(f"node_monitor_grace_seconds {problem}")

    @classmethod
    def throwaway(cls, data_dir: Path, **fields: Any) -> Self:
        """Of a cluster for a test, say: at free ports, and nothing waits for the disk. `fields` are others of it."""
        values: dict[str, Any] = {"secure_port": 0, "grpc_port": 0, "durable": False, **fields}
        return cls(data_dir=data_dir, **values)

    @property
    def lease_seconds(self) -> int:
        """How long a node's lease says that it lasts."""
        from kubecore.kubelet.node.lease import LEASE_SECONDS

        return int(self.kubelet.get(_LEASE, LEASE_SECONDS))

    @property
    def real_nodes(self) -> int:
        """Nodes that run something."""
        return 0 if self.default_runtime == SIMULATED else self.nodes


def _check_number(name: str, value: object, least: int, most: int | None) -> None:
    if value is None and name == "dns_port":
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a number, not {value!r}")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} is {limits}, not {value}")


def lease_problem(lease_seconds: int, grace_seconds: float) -> str | None:
    """What is wrong with how long a node may be silent: one that lives must have renewed its lease before."""
    if lease_seconds / 4 < grace_seconds:
        return None
    renewed = f"nodes renew leases of {lease_seconds} s"
    return f"is more than the {lease_seconds / 4:g} s after which {renewed}, not {grace_seconds:g}"


def _check_kubelet(settings: Mapping[str, Any]) -> None:
    """Before the cluster is there, which a node that cannot be made would end."""
    from kubecore.kubelet.settings.kubelet_config import KubeletConfig

    unknown = sorted(settings.keys() - {one.name for one in fields(KubeletConfig)})
    if unknown:
        raise TypeError(f"kubelet: a KubeletConfig has no {', '.join(unknown)}")
    if _LEASE in settings:
        _check_number(f"kubelet: {_LEASE}", settings[_LEASE], 1, None)
