"""Objects every cluster starts with besides its RBAC policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubecore.apiserver.bootstrap.controller_roles import controller_role_bindings, controller_roles
from kubecore.apiserver.bootstrap.roles import cluster_role_bindings, cluster_roles, role_bindings, roles

JSON = dict[str, Any]

AUTHENTICATION_CONFIG = "extension-apiserver-authentication"
SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")

_SYSTEM_CLASSES = (
    (
        "system-node-critical",
        2000001000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2000000000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertised:
    """Where the API is reached: by its Service's address, and where it really listens. The Service is of the family of
    the first of the cluster's ranges."""

    service_ip: str
    service_cidrs: tuple[str, ...]
    service_port: int
    address: str
    port: int
    trust: Mapping[str, str]


def namespaces() -> list[JSON]:
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in SYSTEM_NAMESPACES]


def priority_classes() -> list[JSON]:
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, value, description in _SYSTEM_CLASSES
    ]


def runtime_classes() -> list[JSON]:
    """For the runtimes that every node has, or says why it has not."""
    return [
        {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name}
        for name in ("host", "oci")
    ]


def policy() -> list[tuple[str, JSON]]:
    """(group resource, object) of the RBAC policy."""
    group = "rbac.authorization.k8s.io"
    return [
        *((f"clusterroles.{group}", obj) for obj in [*cluster_roles(), *controller_roles()]),
        *((f"clusterrolebindings.{group}", obj) for obj in [*cluster_role_bindings(), *controller_role_bindings()]),
        *((f"roles.{group}", obj) for obj in roles()),
        *((f"rolebindings.{group}", obj) for obj in role_bindings()),
    ]


def authentication_config(trust: Mapping[str, str]) -> JSON:
    """What extension API servers need to trust us (upstream pkg/controlplane/controller/clusterauthenticationtrust)."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": AUTHENTICATION_CONFIG, "namespace": "kube-system"},
        "data": dict(trust),
    }


def kubernetes_cidr(advertised: Advertised, now: str) -> JSON:
    """The ranges of the command line (upstream pkg/controlplane/controller/defaultservicecidr)."""
    condition = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": list(advertised.service_cidrs)},
        "status": {"conditions": [condition]},
    }


def kubernetes_service(advertised: Advertised) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": advertised.service_ip,
            "clusterIPs": [advertised.service_ip],
            "ipFamilies": [_family(advertised.service_ip)],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "type": "ClusterIP",
            "ports": [
                {"name": "https", "port": advertised.service_port, "protocol": "TCP", "targetPort": advertised.port}
            ],
        },
    }


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def kubernetes_endpoints(advertised: Advertised) -> JSON:
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": advertised.address}],
                "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
            }
        ],
    }


def kubernetes_slice(advertised: Advertised) -> JSON:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": _family(advertised.address),
        "endpoints": [{"addresses": [advertised.address], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": advertised.port, "protocol": "TCP"}],
    }
