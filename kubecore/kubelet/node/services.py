"""What the workers of a node share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.clock import Clock
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.host_ports import HostPorts
from kubecore.kubelet.pods.admission import PodAdmission
from kubecore.kubelet.pods.adoption import LeftPods
from kubecore.kubelet.pods.fields import NodeFacts
from kubecore.kubelet.pods.image_pulling import ImagePuller
from kubecore.kubelet.pods.memory_decrease import Ask
from kubecore.kubelet.pods.name_files import Naming
from kubecore.kubelet.pods.objects import ReferencedObjects
from kubecore.kubelet.pods.pod_cgroups import PodCgroups
from kubecore.kubelet.runtime.interface import Runtime
from kubecore.kubelet.serving.kubelet_metrics import KubeletMetrics
from kubecore.kubelet.volumes.manager import VolumeManager
from kubecore.kubelet.volumes.tokens import TokenManager
from kubecore.pod_namespaces import PodNamespaces

Object = dict[str, Any]


class ChosenRuntime(NamedTuple):
    """`handler`: by which name it was asked for."""

    runtime: Runtime
    handler: str


@dataclass
class NodeServices:
    """`runtime_for(pod)` raises RuntimeFailure when no runtime serves the pod. `services()` and `slices()` are what the
    informers hold."""

    client: Client
    clock: Clock
    recorder: EventRecorder
    root: Path
    facts: NodeFacts
    memory_capacity: int
    naming: Naming
    book: LogBook
    objects: ReferencedObjects
    volumes: VolumeManager
    tokens: TokenManager
    admission: PodAdmission
    cgroups: PodCgroups
    puller: ImagePuller
    host_ports: HostPorts
    metrics: KubeletMetrics
    longest_back_off: timedelta
    seccomp_default: bool
    """Containers that ask for no profile have the runtime's."""
    single_process_oom_kill: bool
    """For want of memory one process of a container is killed, and not all."""
    left: LeftPods
    """What a killed kubelet has left running."""
    namespaces: PodNamespaces | None
    """Who is told of pods' network namespaces."""
    runtime_for: Callable[[Object], Awaitable[ChosenRuntime]]
    memory_use: Ask
    warn_of_node: Callable[[str, str], None]
    """An event of the node: reason and message."""
    services: Callable[[], list[Object]]
    slices: Callable[[], list[Object]]

    def pod_directory(self, uid: str) -> Path:
        return self.root / "pods" / uid
