"""What an API server can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kubecore.apiserver.admission.options import AdmissionOptions
from kubecore.apiserver.aggregation.options import AggregationOptions
from kubecore.apiserver.audit.options import AuditOptions
from kubecore.apiserver.authentication.options import AuthenticationOptions
from kubecore.apiserver.authorization.options import AuthorizationOptions
from kubecore.apiserver.storage.encryption import EncryptionOptions
from kubecore.apiserver.storage.lmdb import LMDBConfig
from kubecore.apiserver.tracing.options import TracingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class APIServerConfig:
    """Port 0 picks a free one, except of `insecure_port`, where it means off; `grpc_port` None means no gRPC.
    `advertise_address` is where pods reach the server, by default the address it is bound to."""

    data_dir: Path
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    insecure_port: int = 0
    grpc_port: int | None = None
    authentication: AuthenticationOptions = field(default_factory=AuthenticationOptions)
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    authorization: AuthorizationOptions = field(default_factory=AuthorizationOptions)
    admission: AdmissionOptions = field(default_factory=AdmissionOptions)
    runtime_config: tuple[tuple[str, str], ...] = ()
    """Which API versions are served beside or instead of the stable ones, as `--runtime-config` says it."""
    aggregation: AggregationOptions = field(default_factory=AggregationOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)
    service_cidr: str = "10.96.0.0/16"
    """The range of cluster IPs, or one of each family, comma separated: the first one's family is the default."""
    service_port: int = 443
    """Of Service default/kubernetes."""
    node_ports: range = range(30000, 32768)
    is_anybodys_port: Callable[[int], bool] | None = None
    """Whether somebody else has a port of the nodes, in which case another one is picked."""
    cluster_domain: str = "cluster.local"
    advertise_address: str = ""
    service_address: str = ""
    """Where Service default/kubernetes leads, if not to the advertised address; the server listens there, too."""
    extra_sans: tuple[str, ...] = ()
    verify_kubelets: bool = False
    """Whether the cluster's own CA must have issued kubelets' serving certificates."""
    priority_and_fairness: bool = True
    """Without it the two bounds that follow hold for requests that read and for others; with it their sum is how many
    seats there are for both."""
    max_requests_inflight: int = 400
    max_mutating_requests_inflight: int = 200
    min_request_timeout: float = 1800.0
    """Seconds; a watch without timeoutSeconds lasts between this and twice this."""
    storage: LMDBConfig = field(default_factory=LMDBConfig)
    encryption: EncryptionOptions = field(default_factory=EncryptionOptions)
    tracing: TracingOptions | None = None
    """Where traces of requests go; None: nowhere."""
