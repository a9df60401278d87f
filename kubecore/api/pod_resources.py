"""What a pod as a whole requests and is limited to (upstream `k8s.io/component-helpers/resource/helpers.go`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubecore.api import amounts, meta
from kubecore.api.amounts import Amounts

Object = dict[str, Any]
OfContainer = Callable[[Object], Amounts]

REQUESTS, LIMITS = "requests", "limits"


def requests(pod: Object) -> Amounts:
    """Spec, or what the node has given its containers where that is more, and the overhead."""
    spec = pod.get("spec") or {}
    found = of_containers(spec, _effective(pod, REQUESTS))
    found.update(of_the_pod_itself(spec, REQUESTS))
    amounts.accumulate(found, amounts.parse(spec.get("overhead")))
    return found


def limits(pod: Object) -> Amounts:
    """As `requests`; the overhead counts where there is a limit."""
    spec = pod.get("spec") or {}
    found = of_containers(spec, _effective(pod, LIMITS))
    found.update(of_the_pod_itself(spec, LIMITS))
    overhead = {
        name: more for name, more in amounts.parse(spec.get("overhead")).items() if name in found and found[name].nano
    }
    amounts.accumulate(found, overhead)
    return found


def of_containers(spec: Object, of: OfContainer) -> Amounts:
    """Sum of containers and sidecars, or what the init containers need at their worst (KEP-753)."""
    total: Amounts = {}
    sidecars: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("containers") or ():
        amounts.accumulate(total, of(container))
    for container in spec.get("initContainers") or ():
        asked = of(container)
        if container.get("restartPolicy") == "Always":
            amounts.accumulate(total, asked)
            amounts.accumulate(sidecars, asked)
            asked = sidecars
        else:
            asked = amounts.add(asked, sidecars)
        amounts.raise_to(peak, asked)
    amounts.raise_to(total, peak)
    return total


def of_container(kind: str) -> OfContainer:
    """What a container's spec says."""
    return lambda container: amounts.parse((container.get("resources") or {}).get(kind))


def of_the_pod_itself(spec: Object, kind: str) -> Amounts:
    """What `spec.resources` says, which stands in for what its containers say."""
    given = amounts.parse((spec.get("resources") or {}).get(kind))
    return {name: amount for name, amount in given.items() if is_of_pods(name)}


def is_of_pods(name: str) -> bool:
    """A pod as a whole may ask for it."""
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def speaks_for_itself(spec: Object) -> bool:
    """The pod as a whole asks for something."""
    own = spec.get("resources") or {}
    return any(is_of_pods(name) for kind in (REQUESTS, LIMITS) for name in own.get(kind) or ())


def _effective(pod: Object, kind: str) -> OfContainer:
    """Spec and what the kubelet says is allocated and in force; a resize that cannot be does not count."""
    status = pod.get("status") or {}
    known = {
        one.get("name"): one
        for name in ("containerStatuses", "initContainerStatuses")
        for one in status.get(name) or ()
        if one.get("resources") is not None
    }
    of_spec = of_container(kind)
    if not known:
        return of_spec
    resize = meta.condition(pod, "PodResizePending")
    infeasible = resize is not None and resize.get("reason") == "Infeasible"
    spec = pod.get("spec") or {}
    ordinary = {one["name"] for one in spec.get("initContainers") or () if one.get("restartPolicy") != "Always"}

    def effective(container: Object) -> Amounts:
        found = known.get(container["name"])
        if found is None or container["name"] in ordinary:
            return of_spec(container)
        total: Amounts = {} if infeasible else of_spec(container)
        amounts.raise_to(total, amounts.parse(found["resources"].get(kind)))
        if kind == REQUESTS:
            amounts.raise_to(total, amounts.parse(found.get("allocatedResources")))
        return total

    return effective
