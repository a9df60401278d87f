"""The strategy of each resource: one module a resource, found by its group resource key when first asked for."""

from __future__ import annotations

import importlib

from kubecore.apiserver.registry.allocation.cluster_ips import ClusterIPs
from kubecore.apiserver.registry.allocation.node_ports import NodePorts
from kubecore.apiserver.registry.resources import plain
from kubecore.apiserver.registry.strategy import Strategy

# Group resource key -> module below this package, class in it. What is not here has no particularities.
_STRATEGIES: dict[str, tuple[str, str]] = {
    "configmaps": ("configmaps", "ConfigMapStrategy"),
    "daemonsets.apps": ("daemonsets", "DaemonSetStrategy"),
    "deployments.apps": ("deployments", "DeploymentStrategy"),
    "endpoints": ("endpoints", "EndpointsStrategy"),
    "endpointslices.discovery.k8s.io": ("endpointslices", "EndpointSliceStrategy"),
    "namespaces": ("namespaces", "NamespaceStrategy"),
    "nodes": ("nodes", "NodeStrategy"),
    "pods": ("pods", "PodStrategy"),
    "replicasets.apps": ("replicasets", "ReplicaSetStrategy"),
    "replicationcontrollers": ("replicationcontrollers", "ReplicationControllerStrategy"),
    "secrets": ("secrets", "SecretStrategy"),
    "serviceaccounts": ("serviceaccounts", "ServiceAccountStrategy"),
    "statefulsets.apps": ("statefulsets", "StatefulSetStrategy"),
}


class Strategies:
    """The strategies of one API server.

    `service_cidr` is the range cluster IPs come from, `node_ports` the one of node ports. Both are per server, so that
    several servers in one process do not take each other's.
    """

    def __init__(self, *, service_cidr: str = "10.96.0.0/16", node_ports: range = range(30000, 32768)) -> None:
        self._cluster_ips = ClusterIPs(service_cidr)
        self._node_ports = NodePorts(node_ports)
        self._made: dict[str, Strategy] = {}

    def strategy_for(self, key: str) -> Strategy:
        """The strategy of a group resource ("pods", "deployments.apps")."""
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._make(key)
        return found

    def _make(self, key: str) -> Strategy:
        if key == "services":
            from kubecore.apiserver.registry.resources.services import ServiceStrategy

            return ServiceStrategy(self._cluster_ips, self._node_ports)
        if key.endswith(".rbac.authorization.k8s.io"):
            from kubecore.apiserver.registry.resources import rbac

            return rbac.strategy(key.partition(".")[0])
        module, name = _STRATEGIES.get(key, ("", ""))
        if not module:
            return plain.strategy(key)
        strategy: Strategy = getattr(importlib.import_module(f"{__name__}.{module}"), name)()
        return strategy
