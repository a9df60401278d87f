"""What scheduling needs to know of a pod, worked out once per version of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubecore.api import meta, quantity
from kubecore.client.client import Object

Resources = dict[str, int]
"""Amounts by resource name: cpu in thousandths, everything else in whole units (bytes)."""

# What a container that asks for nothing is taken to need when nodes are compared (not when they are filtered).
_DEFAULT_CPU = 100
_DEFAULT_MEMORY = 200 * 1024 * 1024


def amount(name: str, text: str | int | float) -> int:
    return quantity.milli(text) if name == "cpu" else quantity.value(text)


def amounts(given: dict[str, Any] | None) -> Resources:
    return {name: amount(name, text) for name, text in (given or {}).items()}


class PodInfo:
    """A pod and its derived facts. `node` is where it runs, or is about to."""

    __slots__ = ("_requests", "_used", "key", "labels", "namespace", "node", "obj", "ports", "priority", "uid")

    def __init__(self, obj: Object) -> None:
        spec = obj["spec"]
        self.obj = obj
        self.key = meta.key(obj)
        self.uid = meta.uid(obj)
        self.namespace = meta.namespace(obj)
        self.labels = meta.labels(obj)
        self.node: str = spec.get("nodeName") or ""
        self.priority: int = spec.get("priority") or 0
        self.ports = frozenset(_host_ports(spec))
        self._requests: Resources | None = None
        self._used: tuple[int, int] | None = None

    @property
    def spec(self) -> Object:
        spec: Object = self.obj["spec"]
        return spec

    @property
    def requests(self) -> Resources:
        """What the pod reserves on its node."""
        if self._requests is None:
            self._requests = _pod_requests(self.spec, _container_requests)
        return self._requests

    @property
    def used(self) -> tuple[int, int]:
        """cpu and memory for scoring: requests, with defaults where a container asks for nothing."""
        if self._used is None:
            found = _pod_requests(self.spec, _container_used)
            self._used = (found.get("cpu", 0), found.get("memory", 0))
        return self._used


def is_finished(obj: Object) -> bool:
    return (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _host_ports(spec: Object) -> Iterable[tuple[str, str, int]]:
    """(address, protocol, port) of every port the pod takes on its node."""
    sidecars = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))


def _container_requests(container: Object) -> Resources:
    return amounts((container.get("resources") or {}).get("requests"))


def _container_used(container: Object) -> Resources:
    asked = _container_requests(container)
    return {"cpu": asked.get("cpu", _DEFAULT_CPU), "memory": asked.get("memory", _DEFAULT_MEMORY)}


def _pod_requests(spec: Object, of: Any) -> Resources:
    """Sum of the containers and sidecars, or what the init containers need at their worst, and the overhead.

    (k8s.io/component-helpers `resource/helpers.go`; requests of the pod as a whole stand in for those of containers.)
    """
    total: Resources = {}
    for container in spec.get("containers") or ():
        _add(total, of(container))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in spec.get("initContainers") or ():
        asked = of(container)
        if container.get("restartPolicy") == "Always":
            _add(total, asked)
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            together = dict(asked)
            _add(together, sidecars)
            _raise(peak, together)
    _raise(total, peak)
    total.update(amounts((spec.get("resources") or {}).get("requests")))
    _add(total, amounts(spec.get("overhead")))
    return total


def _add(total: Resources, more: Resources) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: Resources, least: Resources) -> None:
    for name, value in least.items():
        total[name] = max(total.get(name, 0), value)
