"""Which pods serve a Service, at which addresses and ports: pure functions shared by both endpoint controllers.

(kubernetes `staging/src/k8s.io/endpointslice/utils.go` and `util/controller_utils.go`.)
"""

from __future__ import annotations

from typing import Any

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.controllers import pods

Port = dict[str, Any]

HEADLESS_LABEL = "service.kubernetes.io/headless"


def selects(service: Object, labels: dict[str, str]) -> bool:
    """Whether a Service that has a selector chooses pods with these labels."""
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= labels.items()


def has_selector(service: Object) -> bool:
    """A Service without one has endpoints that somebody else keeps; an ExternalName has none."""
    return selects_pods(service) and service["spec"].get("type") != "ExternalName"


def selects_pods(service: Object) -> bool:
    """Whatever its type: Endpoints beside one that does not are somebody's, and mirrored."""
    return bool(service["spec"].get("selector"))


def is_headless(service: Object) -> bool:
    return bool(service["spec"].get("clusterIP") == "None")


def pod_addresses(pod: Object, family: str = "IPv4") -> list[str]:
    """The pod's addresses of one family."""
    status = pod.get("status") or {}
    listed = [one["ip"] for one in status.get("podIPs") or () if one.get("ip")]
    if not listed and status.get("podIP"):
        listed = [status["podIP"]]
    return [one for one in listed if (":" in one) == (family == "IPv6")]


def families(service: Object) -> list[str]:
    found: list[str] = service["spec"].get("ipFamilies") or []
    if found:
        return found
    return ["IPv6" if ":" in (service["spec"].get("clusterIP") or "") else "IPv4"]


def may_serve(pod: Object, *, terminating: bool) -> bool:
    """Pods that run, or will; `terminating` tells whether those on their way out count."""
    if pods.is_finished(pod) or (meta.is_deleting(pod) and not terminating):
        return False
    status = pod.get("status") or {}
    return bool(status.get("podIP") or status.get("podIPs"))


def endpoint_ports(service: Object, pod: Object) -> list[Port]:
    """The Service's ports as this pod serves them; a named target the pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = target_port(port, pod)
        if number is None:
            continue
        entry: Port = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def target_port(port: Port, pod: Object) -> int | None:
    target = port.get("targetPort")
    if target is None or target == 0 or target == "":
        return int(port["port"])
    if isinstance(target, int):
        return target
    sidecars = [one for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*pods.containers(pod), *sidecars]:
        for offered in container.get("ports") or ():
            same_protocol = offered.get("protocol", "TCP") == (port.get("protocol") or "TCP")
            if offered.get("name") == target and same_protocol:
                return int(offered["containerPort"])
    return None


def ports_key(ports: list[Port]) -> tuple[tuple[Any, ...], ...]:
    """Equal for equal sets of ports, in whatever order."""
    return tuple(
        sorted((p.get("name") or "", p.get("protocol") or "TCP", p.get("port"), p.get("appProtocol")) for p in ports)
    )


def pod_hostname(service: Object, pod: Object) -> str:
    """The pod's own DNS name below the Service, if it asks for one."""
    hostname: str = pod["spec"].get("hostname") or ""
    same = pod["spec"].get("subdomain") == meta.name(service) and meta.namespace(pod) == meta.namespace(service)
    return hostname if same else ""


def target_reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": meta.namespace(pod), "name": meta.name(pod), "uid": meta.uid(pod)}


def serve_alike(one: Object, other: Object) -> bool:
    """Whether two versions of a pod are the same to endpoints, so that nothing needs doing."""
    before, now = one.get("status") or {}, other.get("status") or {}
    if any(before.get(field) != now.get(field) for field in _SERVING_STATUS):
        return False
    spec, new_spec = one["spec"], other["spec"]
    if spec is not new_spec and any(spec.get(field) != new_spec.get(field) for field in _SERVING_SPEC):
        return False
    return (
        meta.labels(one) == meta.labels(other)
        and meta.is_deleting(one) == meta.is_deleting(other)
        and pods.is_ready(one) == pods.is_ready(other)
        and pods.is_finished(one) == pods.is_finished(other)
    )


_SERVING_STATUS = ("podIP", "podIPs")
_SERVING_SPEC = ("nodeName", "hostname", "subdomain")
