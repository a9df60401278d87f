"""Ingresses and what they refer to, as the API shows them."""

from __future__ import annotations

from typing import Any

from kubecore.client.client import Object
from kubecore.ingress import classes


def backend(service: str = "web", port: int | str = 80) -> Object:
    return {"service": {"name": service, "port": {"number" if isinstance(port, int) else "name": port}}}


def path(text: str = "/", service: str = "web", *, kind: str = "Prefix", port: int | str = 80) -> Object:
    return {"path": text, "pathType": kind, "backend": backend(service, port)}


def rule(host: str = "foo.com", *paths: Object) -> Object:
    made: Object = {"http": {"paths": list(paths) or [path()]}}
    return {"host": host, **made} if host else made


def ingress(
    name: str = "web",
    *rules: Object,
    created: str = "2026-01-01T00:00:00Z",
    class_name: str | None = "kubecore",
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Object:
    """One rule for all paths of foo.com, unless there are `rules` or a default backend."""
    if rules or "defaultBackend" not in spec:
        spec["rules"] = list(rules) or [rule()]
    if class_name is not None:
        spec["ingressClassName"] = class_name
    metadata = {"name": name, "namespace": "default", "creationTimestamp": created, "annotations": annotations or {}}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def ingress_class(name: str = "kubecore", *, default: bool = True, controller: str = classes.CONTROLLER) -> Object:
    made = classes.own_class(default=default)
    made["metadata"]["name"] = name
    made["spec"]["controller"] = controller
    return made


def service(name: str = "web", *ports: Object, annotations: dict[str, str] | None = None, **spec: Any) -> Object:
    """One with port 80, whose pods listen on 8080."""
    made = {"type": "ClusterIP", "ports": list(ports) or [{"port": 80, "targetPort": 8080}], **spec}
    metadata = {"name": name, "namespace": "default", "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": made}


def endpoint_slice(
    *addresses: str, service: str = "web", port: int = 8080, name: str = "", **condition: bool
) -> Object:
    """`condition` of all its endpoints; `name` of its port."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-{'-'.join(addresses).replace('.', '-')}{name}",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": condition} for address in addresses],
        "ports": [{"name": name, "protocol": "TCP", "port": port}],
    }
