"""Workloads after kube-scheduler's own performance tests (kubernetes test/integration/scheduler_perf), as many nodes
and pods as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
ZONE, HOSTNAME = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def pod(prefix: str, namespace: str, *, cpu: str = "100m", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    amounts = {"cpu": cpu, "memory": "500Mi"}
    container = {"name": "pause", "image": "registry.k8s.io/pause:3.10.1", "ports": [{"containerPort": 80}]}
    container["resources"] = {"limits": amounts, "requests": amounts}
    metadata = {"generateName": prefix, "namespace": namespace, "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], **spec}}


def plain(namespace: str) -> Object:
    return pod("pod-", namespace)


def spreading(namespace: str) -> Object:
    constraint = {"maxSkew": 5, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"color": "blue"}}
    return pod("spreading-pod-", namespace, labels={"color": "blue"}, topologySpreadConstraints=[constraint])


def to_zones(namespace: str) -> Object:
    term = {"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["zone1", "zone2"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return pod("node-affinity-", namespace, affinity={"nodeAffinity": required})


def _term(color: str, key: str) -> Object:
    term = {
        "labelSelector": {"matchLabels": {"color": color}},
        "topologyKey": key,
        "namespaces": ["sched-1", "sched-0"],
    }
    return {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def near(namespace: str) -> Object:
    return pod("affinity-pod-", namespace, labels={"color": "blue"}, affinity={"podAffinity": _term("blue", ZONE)})


def apart(namespace: str) -> Object:
    affinity = {"podAntiAffinity": _term("green", HOSTNAME)}
    return pod("anti-affinity-pod-", namespace, labels={"color": "green"}, affinity=affinity)


def unimportant(namespace: str) -> Object:
    return pod("pod-", namespace, cpu="900m", terminationGracePeriodSeconds=0)


def important(namespace: str) -> Object:
    """Three of the unimportant ones have to go for it."""
    return pod("pod-high-priority-", namespace, cpu="3000m", priorityClassName=HIGH_PRIORITY["metadata"]["name"])


HIGH_PRIORITY = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "high"},
    "value": 10,
}
"""There has to be one: API servers take no priority from a pod."""


@dataclass(frozen=True)
class Workload:
    """`first_pods` are scheduled before anything is measured, then `pods` are; all in 5,000 nodes of given zones."""

    first: Callable[[str], Object]
    then: Callable[[str], Object]
    first_pods: int
    pods: int
    zones: tuple[str, ...] = ()
    nodes: int = 5000


WORKLOADS = {
    "basic": Workload(plain, plain, 1000, 10_000),
    "topology spread": Workload(plain, spreading, 5000, 5000, ("moon-1", "moon-2", "moon-3")),
    "node affinity": Workload(plain, to_zones, 5000, 10_000, ("zone1",)),
    "pod affinity": Workload(near, near, 5000, 5000, ("zone1",)),
    "pod anti-affinity": Workload(apart, apart, 1000, 2000),
    "preemption": Workload(unimportant, important, 20_000, 5000),
}


def node_of(workload: Workload, number: int) -> Object:
    name = f"scheduler-perf-{number:04}"
    labels = {HOSTNAME: name}
    if workload.zones:
        labels[ZONE] = workload.zones[number % len(workload.zones)]
    amounts = {"pods": "110", "cpu": "4", "memory": "32Gi"}
    status = {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}
