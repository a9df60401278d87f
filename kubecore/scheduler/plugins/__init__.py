"""The plugins of the default profile, in the order they run."""

from __future__ import annotations

from kubecore.client.client import Client
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.framework import Plugin
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.plugins.scheduling_gates import SchedulingGates
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.plugins.volume_binding import VolumeBinding


def default_plugins(informers: InformerFactory, client: Client | None = None) -> list[Plugin]:
    """As kube-scheduler's default profile orders them. They write as `client`, else as the informers' own."""
    return [
        SchedulingGates(),
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        VolumeBinding(informers, client),
        PodTopologySpread(informers),
        NodeResourcesBalancedAllocation(),
    ]
