"""What a node's agent is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecore.images.registries import Registries
from kubecore.kubelet.eviction import thresholds
from kubecore.kubelet.eviction.manager import EvictionConfig
from kubecore.kubelet.logs.writing import LogRotation
from kubecore.kubelet.networks import loopback_ranges
from kubecore.kubelet.networks.host_ports import ClientAddresses, Host
from kubecore.kubelet.node.image_gc import ImageGcConfig
from kubecore.kubelet.node.images import MOST
from kubecore.kubelet.node.lease import LEASE_SECONDS
from kubecore.kubelet.node.shutdown import ShutdownConfig
from kubecore.kubelet.pods.pull_records import Verification
from kubecore.kubelet.runtime.cri.connection import DEFAULT_ENDPOINT
from kubecore.kubelet.runtime.interface import Runtime
from kubecore.kubelet.runtime.stopping import SHUTDOWN_GRACE_SECONDS
from kubecore.node_network import NodeNetwork
from kubecore.pod_namespaces import PodNamespaces


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """Containers run under a process that outlives a killed kubelet (`kubelet/keeper`). `lonely_seconds`: for how long,
    when no other kubelet comes; None: for ever."""

    lonely_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CriConfig:
    """A container runtime outside of kubecore. `endpoint`, `image_endpoint`: its sockets, `unix:///path`, the second
    "" for the same. `cni`: the folder of a CNI configuration and plugin for it, which several nodes may share; None for
    one within the node's own."""

    endpoint: str = DEFAULT_ENDPOINT
    image_endpoint: str = ""
    cni: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletConfig:
    """One node.

    `root_dir` holds pods' files and logs. `pod_cidrs` are the ranges of pods' addresses, one of each family the pods
    have, within the cluster's at the same place of `cluster_cidrs`; without one it follows from `node_index` and, in
    loopback mode, where it is of IPv4 only, from `cluster_id`, any text that tells clusters of one machine apart.
    `bridge` is the cluster's (`network.bridge_name`), needed where pods have namespaces. Empty `cluster_dns` means that
    there is no DNS pods could ask: Services are then named in their hosts files. Without a server certificate the
    kubelet makes one itself; without `client_ca` its server refuses everybody.
    """

    node_name: str
    node_index: int = 0
    root_dir: Path
    default_runtime: str = "oci"
    network_mode: str = "loopback"
    node_network: NodeNetwork | None = None
    """Where pods have their namespaces, in rootless mode."""
    pod_cidrs: tuple[str, ...] = ()
    cluster_cidrs: tuple[str, ...] = ("10.244.0.0/16",)
    bridge: str = "kc-bridge"
    pods_through_node: bool = False
    """On a bridge: pods reach each other by way of the node (see `BridgeNetwork`)."""
    pod_namespaces: PodNamespaces | None = None
    """Who is told of pods' network namespaces."""
    client_addresses: ClientAddresses | None = None
    """By what pods see the clients of their host ports as they are; None: they see the node."""
    host: Host | None = None
    """Whose ports lead to pods; None for this machine."""
    no_ipv6: str = ""
    """Why there is no IPv6, where it was asked for: told in an event of the node."""
    cluster_id: str = ""
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    port: int = 0
    server_certificate: Path | None = None
    server_key: Path | None = None
    server_tls_bootstrap: bool = False
    """Its certificate is to be one that the cluster signs (`requested_certificates.py`)."""
    client_ca: Path | None = None
    cgroups: bool = True
    """Whether limits are to be enforced, where the kernel and the user's rights allow it."""
    pod_max_pids: int | None = None
    """Processes and threads of a pod, None for no limit."""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Names, or beginnings followed by `*`, that pods may set beside the safe ones."""
    eviction: EvictionConfig = field(default_factory=lambda: EvictionConfig(thresholds.parse(thresholds.DEFAULT_HARD)))
    max_pods: int = 110
    max_images: int = MOST
    """How many the Node's status names, -1 for all."""
    shutdown: ShutdownConfig = field(default_factory=ShutdownConfig)
    last_grace_seconds: float = SHUTDOWN_GRACE_SECONDS
    """What containers have between SIGTERM and SIGKILL when the kubelet's own end is theirs."""
    reserved: Mapping[str, int] = field(default_factory=dict)
    """What pods are not given of a resource, in billionths."""
    enforce_allocatable: bool = True
    """All pods together have no more than the rest."""
    taints: tuple[Mapping[str, Any], ...] = ()
    """Of the Node when it registers."""
    lease_seconds: int = LEASE_SECONDS
    longest_back_off_seconds: float = 300.0
    """Before a container that crashes is started again."""
    seccomp_default: bool = False
    """Containers that ask for no profile have `RuntimeDefault` instead of none."""
    single_process_oom_kill: bool = False
    """Of a container that has more memory than it may one process is killed, and not all of them. With cgroups of
    version 1 that is so in any case."""
    image_gc: ImageGcConfig = field(default_factory=ImageGcConfig)
    image_verification: Verification = field(default_factory=Verification)
    """Whether pods must have the credentials of images that are there already."""
    log_rotation: LogRotation = field(default_factory=LogRotation)
    pod_manifest_path: Path | None = None
    """A folder of static pods' files, or one such file."""
    image_store: Path | None = None
    """Where images are, which several nodes may share; by default within `root_dir`."""
    registries: Registries = field(default_factory=Registries)
    keeper: KeeperConfig | None = None
    """None: containers are the kubelet's own children and end with it, however it ends."""
    cri: CriConfig | None = None
    """The runtime `cri`; None for none."""
    oci_runtime: str = ""
    """The program, such as runc, that runs the containers of runtime `oci`; "" for kubecore's own launcher."""
    oci_handlers: Mapping[str, str] = field(default_factory=dict)
    """Further such programs, by the handlers of RuntimeClasses."""
    runtimes: tuple[Runtime, ...] = field(default=())
    """Further runtimes beside `host`; one with its name takes its place."""

    @property
    def own_pod_cidrs(self) -> tuple[str, ...]:
        """Those that are given, or follow from its place in the cluster."""
        if self.network_mode != "loopback":
            return self.pod_cidrs or (f"10.244.{self.node_index}.0/24",)
        services = loopback_ranges.services_of(loopback_ranges.first_slot(self.cluster_id))
        return self.pod_cidrs[:1] or (loopback_ranges.pods_of(services, self.node_index),)
