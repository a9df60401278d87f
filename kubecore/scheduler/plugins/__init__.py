"""The plugins that come with the scheduler, those that other packages bring, and the default profile's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

from kubecore.scheduler.framework import Plugin
from kubecore.scheduler.handle import Handle
from kubecore.scheduler.plugins.default_binder import DefaultBinder
from kubecore.scheduler.plugins.default_preemption import DefaultPreemption
from kubecore.scheduler.plugins.dynamic_resources import DynamicResources
from kubecore.scheduler.plugins.image_locality import ImageLocality
from kubecore.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from kubecore.scheduler.plugins.node_affinity import NodeAffinity
from kubecore.scheduler.plugins.node_name import NodeName
from kubecore.scheduler.plugins.node_ports import NodePorts
from kubecore.scheduler.plugins.node_resources_balanced import NodeResourcesBalancedAllocation
from kubecore.scheduler.plugins.node_resources_fit import LEAST_ALLOCATED, NodeResourcesFit
from kubecore.scheduler.plugins.node_unschedulable import NodeUnschedulable
from kubecore.scheduler.plugins.node_volume_limits import NodeVolumeLimits
from kubecore.scheduler.plugins.pod_topology_spread import PodTopologySpread
from kubecore.scheduler.plugins.priority_sort import PrioritySort
from kubecore.scheduler.plugins.scheduling_gates import SchedulingGates
from kubecore.scheduler.plugins.taint_toleration import TaintToleration
from kubecore.scheduler.plugins.volume_binding import BIND_TIMEOUT_SECONDS, VolumeBinding
from kubecore.scheduler.plugins.volume_restrictions import VolumeRestrictions
from kubecore.scheduler.plugins.volume_zone import VolumeZone
from kubecore.scheduler.resource_scoring import CPU_AND_MEMORY, Weighted

Arguments = Mapping[str, Any]
"""A plugin's arguments as in a KubeSchedulerConfiguration; empty for its defaults."""

Factory = Callable[[Handle, Arguments], Plugin]

ENTRY_POINTS = "kubecore.scheduler.plugins"
"""The group under which other packages name their plugins: the plugin's name, and a `Factory`."""

BUILT_IN: Mapping[str, Factory] = {
    "SchedulingGates": lambda handle, given: SchedulingGates(),
    "PrioritySort": lambda handle, given: PrioritySort(),
    "NodeUnschedulable": lambda handle, given: NodeUnschedulable(),
    "NodeName": lambda handle, given: NodeName(),
    "TaintToleration": lambda handle, given: TaintToleration(),
    "NodeAffinity": lambda handle, given: NodeAffinity(given.get("addedAffinity")),
    "NodePorts": lambda handle, given: NodePorts(),
    "NodeResourcesFit": lambda handle, given: _node_resources_fit(given),
    "VolumeRestrictions": lambda handle, given: VolumeRestrictions(handle.informers),
    "NodeVolumeLimits": lambda handle, given: NodeVolumeLimits(handle.informers),
    "VolumeBinding": lambda handle, given: VolumeBinding(
        handle.informers, handle.client, bind_timeout=given.get("bindTimeoutSeconds", BIND_TIMEOUT_SECONDS)
    ),
    "VolumeZone": lambda handle, given: VolumeZone(handle.informers),
    "PodTopologySpread": lambda handle, given: PodTopologySpread(
        handle.informers,
        default_constraints=(given.get("defaultConstraints") or []) if given.get("defaultingType") == "List" else None,
    ),
    "InterPodAffinity": lambda handle, given: InterPodAffinity(
        handle.informers,
        hard_weight=given.get("hardPodAffinityWeight", 1),
        ignore_preferred_of_others=given.get("ignorePreferredTermsOfExistingPods", False),
    ),
    "DynamicResources": lambda handle, given: DynamicResources(),
    "DefaultPreemption": lambda handle, given: DefaultPreemption(
        handle,
        percentage=given.get("minCandidateNodesPercentage", 10),
        absolute=given.get("minCandidateNodesAbsolute", 100),
    ),
    "NodeResourcesBalancedAllocation": lambda handle, given: NodeResourcesBalancedAllocation(
        resources=_weighted(given.get("resources"))
    ),
    "ImageLocality": lambda handle, given: ImageLocality(),
    "DefaultBinder": lambda handle, given: DefaultBinder(handle.client),
}


def _node_resources_fit(given: Arguments) -> Plugin:
    strategy = given.get("scoringStrategy") or {}
    ratio = strategy.get("requestedToCapacityRatio") or {}
    return NodeResourcesFit(
        strategy=strategy.get("type", LEAST_ALLOCATED),
        resources=_weighted(strategy.get("resources")),
        shape=[(point["utilization"], point["score"]) for point in ratio.get("shape") or ()],
        ignored=given.get("ignoredResources") or (),
        ignored_groups=given.get("ignoredResourceGroups") or (),
    )


def _weighted(given: Sequence[Mapping[str, Any]] | None) -> Sequence[Weighted]:
    return [Weighted(one["name"], one.get("weight") or 1) for one in given or ()] or CPU_AND_MEMORY


DEFAULT: Mapping[str, int] = dict.fromkeys(BUILT_IN, 1) | {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "DynamicResources": 2,
}
"""In the order of kube-scheduler's default profile, each at all points that it implements, with its weight there."""


def installed(names: Iterable[str]) -> Mapping[str, Factory]:
    """The plugins that come with the scheduler and, where `names` has others, those of packages that are installed.
    Looking for these takes a while.
    """
    if all(name in BUILT_IN for name in names):
        return BUILT_IN
    others = {point.name: _loading(point.load) for point in entry_points(group=ENTRY_POINTS)}
    return {**others, **BUILT_IN}


def _loading(load: Callable[[], Factory]) -> Factory:
    return lambda handle, given: load()(handle, given)
