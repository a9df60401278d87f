"""What a pod may learn about itself: fieldRef and resourceFieldRef of the downward API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kubecore.api import amounts, meta, pod_resources, quantity
from kubecore.api.quoting import quoted

Object = dict[str, Any]

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.*)'\]")
_NANO = 10**9
# Of which a container has what there is where it is not limited.
_ALLOCATED = ("cpu", "memory", "ephemeral-storage")


class FieldError(Exception):
    """The reference names nothing a pod can be told; the text is for events."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What pods may be told about their node. `allocatable`: quantities by resource name."""

    name: str
    host_ips: tuple[str, ...]
    allocatable: Mapping[str, str]


def field_value(pod: Object, path: str, *, node: NodeFacts, pod_ips: tuple[str, ...]) -> str:
    """The text of a fieldRef. Raises FieldError for a path that is not supported."""
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        held = meta.labels(pod) if subscript[1] == "labels" else meta.annotations(pod)
        return held.get(subscript[2], "")
    simple: dict[str, str] = {
        "metadata.name": meta.name(pod),
        "metadata.namespace": meta.namespace(pod),
        "metadata.uid": meta.uid(pod),
        "spec.nodeName": node.name,
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": node.host_ips[0] if node.host_ips else "",
        "status.hostIPs": ",".join(node.host_ips),
        "status.podIP": pod_ips[0] if pod_ips else "",
        "status.podIPs": ",".join(pod_ips),
    }
    if path in simple:
        return simple[path]
    if path == "metadata.labels":
        return _format_map(meta.labels(pod))
    if path == "metadata.annotations":
        return _format_map(meta.annotations(pod))
    raise FieldError(f"unsupported fieldPath: {path}")


def _format_map(values: Mapping[str, str]) -> str:
    """One `key="value"` a line, sorted, the value quoted as Go quotes."""
    return "\n".join(f"{key}={quoted(values[key])}" for key in sorted(values))


def resource_value(pod: Object, selector: Object, *, default_container: str, node: NodeFacts) -> str:
    """The text of a resourceFieldRef: an integer in units of its divisor, rounded up.

    A limit that is not set is the pod's, or what the node can allocate (upstream `pkg/kubelet/kubelet_resources.go`).
    """
    name = selector.get("containerName") or default_container
    spec = pod["spec"]
    found = [one for one in [*spec["containers"], *spec.get("initContainers", [])] if one["name"] == name]
    if not found:
        raise FieldError(f"container {name} not found")
    kind, _, resource = selector["resource"].partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise FieldError(f"unsupported container resource : {selector['resource']}")
    value = (found[0].get("resources", {}).get(kind) or {}).get(resource, "0")
    if kind == "limits" and resource in _ALLOCATED and not quantity.nano(value):
        value = _pods_own_limit(spec, resource) or node.allocatable.get(resource, "0")
    divisor = quantity.nano(selector.get("divisor") or "0") or _NANO
    return str(-(-quantity.nano(value) // divisor))


def _pods_own_limit(spec: Object, resource: str) -> str:
    """None is ""."""
    own = pod_resources.of_the_pod_itself(spec, pod_resources.LIMITS).get(resource, amounts.ZERO)
    return str(own) if own.nano else ""
