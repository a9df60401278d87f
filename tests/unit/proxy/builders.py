"""Services and EndpointSlices as the API shows them, and addresses that no other test process uses."""

from __future__ import annotations

import os
from typing import Any

from kubecore.api.endpoint_choice import Endpoint
from kubecore.client.client import Object
from kubecore.proxy.virtual_servers import VirtualServer

_PROCESS = os.getpid()


def vip(number: int = 1) -> str:
    """A loopback address of this process's own."""
    return f"127.{128 + _PROCESS % 64}.{_PROCESS // 64 % 250}.{number}"


def virtual_server(*endpoints: Endpoint, **fields: Any) -> VirtualServer:
    """At 10.96.0.1:80 unless `fields` say otherwise."""
    given: dict[str, Any] = {
        "protocol": "TCP",
        "address": "10.96.0.1",
        "port": 80,
        "purpose": "ClusterIP",
        "scheduler": "rr",
        "affinity_seconds": None,
        "anywhere": bool(endpoints),
    }
    return VirtualServer(endpoints=endpoints, **{**given, **fields})


def port(number: int = 8080, *, name: str = "", node_port: int = 0, **fields: Any) -> Object:
    made = {"protocol": "TCP", "port": number, "targetPort": number, **fields}
    if name:
        made["name"] = name
    if node_port:
        made["nodePort"] = node_port
    return made


def service(
    name: str = "web",
    *ports: Object,
    ips: list[str] | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    ingress: list[Object] | None = None,
    **spec: Any,
) -> Object:
    """A Service with one port, 8080, unless there are `ports`."""
    ips = ["10.96.0.10"] if ips is None else ips
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": labels or {},
            "annotations": annotations or {},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ips[0] if ips else "",
            "clusterIPs": ips,
            "ports": list(ports) or [port()],
            **spec,
        },
        "status": {"loadBalancer": {"ingress": ingress} if ingress else {}},
    }


def endpoint(
    address: str,
    *,
    node: str = "",
    ready: bool | None = None,
    serving: bool | None = None,
    terminating: bool | None = None,
    for_zones: str = "",
    for_nodes: str = "",
) -> Object:
    conditions = {"ready": ready, "serving": serving, "terminating": terminating}
    made: Object = {
        "addresses": [address],
        "conditions": {name: value for name, value in conditions.items() if value is not None},
    }
    if node:
        made["nodeName"] = node
    hints = {"forZones": for_zones, "forNodes": for_nodes}
    if any(hints.values()):
        made["hints"] = {kind: [{"name": name} for name in names.split()] for kind, names in hints.items() if names}
    return made


def endpoint_slice(
    *endpoints: Object,
    service: str = "web",
    name: str = "",
    ports: list[Object] | None = None,
    family: str = "IPv4",
    labels: dict[str, str] | None = None,
) -> Object:
    """A slice of a Service, whose pods listen on port 80 unless there are `ports`."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name or f"{service}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service, **(labels or {})},
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [{"name": "", "protocol": "TCP", "port": 80}] if ports is None else ports,
    }
