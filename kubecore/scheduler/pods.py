"""What scheduling needs to know of a pod, worked out once per version of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from kubecore.api import meta, quantity
from kubecore.api.host_ports import host_ports
from kubecore.client.client import Object
from kubecore.scheduler.inter_pod_terms import InterPodTerms, terms_of

Resources = dict[str, int]
"""Amounts by resource name: cpu in thousandths, everything else in whole units (bytes)."""

_Exact = dict[str, int]
"""Amounts in billionths: what containers ask for is summed up exactly and rounded up once per pod."""

# What a container that asks for nothing is taken to need when nodes are compared (not when they are filtered).
_WHEN_NOT_SAID: _Exact = {"cpu": quantity.nano("100m"), "memory": quantity.nano("200Mi")}


def amounts(given: Mapping[str, Any] | None) -> Resources:
    """A ResourceList as numbers."""
    return {
        name: quantity.milli(text) if name == "cpu" else quantity.value(text) for name, text in (given or {}).items()
    }


class PodInfo:
    """A pod and its derived facts. `node` is where it runs, or is about to."""

    __slots__ = (
        "_affinity",
        "_asked",
        "_plain_volumes",
        "facts",
        "key",
        "labels",
        "namespace",
        "node",
        "obj",
        "ports",
        "priority",
        "uid",
    )

    def __init__(self, obj: Object) -> None:
        spec = obj["spec"]
        self.obj = obj
        self.key = meta.key(obj)
        self.uid = meta.uid(obj)
        self.namespace = meta.namespace(obj)
        self.labels = meta.labels(obj)
        self.node: str = spec.get("nodeName") or ""
        self.priority: int = spec.get("priority") or 0
        self.ports = frozenset(host_ports(spec))
        self.facts: bytes | None = None
        """What placement was told of it, see `placement.pod_facts`."""
        self._affinity: InterPodTerms | None = None
        self._asked: _Asked | None = None
        self._plain_volumes: bool | None = None

    def renewed(self, obj: Object) -> PodInfo:
        """The pod as `obj` tells of it. What follows from a spec that stayed the same is not worked out again."""
        pod = PodInfo(obj)
        if pod.uid == self.uid and obj["spec"] == self.obj["spec"] and _resized(obj) == _resized(self.obj) == []:
            pod._affinity, pod._asked = self._affinity, self._asked
            if pod.labels == self.labels and meta.is_deleting(obj) == meta.is_deleting(self.obj):
                pod.facts = self.facts
        return pod

    @property
    def spec(self) -> Object:
        spec: Object = self.obj["spec"]
        return spec

    @property
    def scheduler_name(self) -> str:
        return scheduler_name(self.obj)

    @property
    def nominated_node(self) -> str:
        """Where room is being made for the pod, by its status."""
        return (self.obj.get("status") or {}).get("nominatedNodeName") or ""

    @property
    def started(self) -> datetime | None:
        """When it started to run, by its status."""
        text = (self.obj.get("status") or {}).get("startTime")
        return meta.parse_time(text) if text else None

    @property
    def affinity(self) -> InterPodTerms:
        """The pod's terms of inter-pod affinity; one that cannot be read, which no API server lets through, counts
        as none.
        """
        if self._affinity is None:
            try:
                self._affinity = terms_of(self.spec, self.namespace)
            except ValueError:
                self._affinity = InterPodTerms()
        return self._affinity

    @property
    def tolerations(self) -> list[Object]:
        return self.spec.get("tolerations") or []

    @property
    def plain_volumes(self) -> bool:
        """None of its volumes is a claim, or a disk that pods cannot share: they go along with any node."""
        if self._plain_volumes is None:
            self._plain_volumes = all(map(_NOT_PLAIN.isdisjoint, self.spec.get("volumes") or ()))
        return self._plain_volumes

    @property
    def requests(self) -> Resources:
        """What the pod reserves on its node. Shared with pods like it: not to be changed."""
        return (self._asked or self._work_out()).requests

    @property
    def used(self) -> tuple[int, int]:
        """cpu and memory for scoring: requests, with defaults where a container asks for nothing."""
        return (self._asked or self._work_out()).used

    def likeness(self) -> Likeness | None:
        """Equal for pods of which placement is told the same; None for one of which that has to be worked out."""
        spec, asked = self.spec, self._asked or self._work_out()
        if not asked.plainly or self.ports or meta.is_deleting(self.obj) or any(map(spec.get, _RARELY_WANTED)):
            return None
        images = tuple([one.get("image") or "" for one in spec["containers"]])
        tolerations = orjson.dumps(spec.get("tolerations"))
        return self.namespace, tuple(self.labels.items()), self.priority, asked, images, tolerations

    def _work_out(self) -> _Asked:
        plain = _plainly_asked(self.obj)
        self._asked = _Asked(self.obj) if plain is None else _of_plain_containers(plain)
        return self._asked


class _Asked:
    """What a pod asks for. `plainly`: all pods whose containers ask for the same, and which have nothing else to ask
    for, share it, most often: they come from a few templates."""

    __slots__ = ("plainly", "requests", "used")

    def __init__(self, pod: Object, *, plainly: bool = False) -> None:
        self.plainly = plainly
        self.requests = _pod_requests(pod, {})
        found = _pod_requests(pod, _WHEN_NOT_SAID)
        self.used = (found.get("cpu", 0), found.get("memory", 0))


Likeness = tuple[str, tuple[tuple[str, str], ...], int, _Asked, tuple[str, ...], bytes]
_RARELY_WANTED = ("nodeSelector", "affinity", "topologySpreadConstraints")
_NOT_PLAIN = frozenset(
    {"persistentVolumeClaim", "ephemeral", "awsElasticBlockStore", "gcePersistentDisk", "iscsi", "rbd"}
)


def scheduler_name(obj: Object) -> str:
    return obj["spec"].get("schedulerName") or "default-scheduler"


def is_finished(obj: Object) -> bool:
    return (obj.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def same_scheduling_facts(one: Object, other: Object) -> bool:
    """Whether all of a pod that its scheduling, or that of others, can depend on is the same, so that there is no need
    to look again. Versions of a pod most often have the very same spec."""
    before, now = one["spec"], other["spec"]
    return (before is now or bool(before == now)) and _facts_besides_spec(one) == _facts_besides_spec(other)


def _facts_besides_spec(pod: Object) -> tuple[object, ...]:
    """Labels come first."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    return (
        metadata.get("labels") or {},
        metadata.get("uid") or "",
        bool(metadata.get("deletionTimestamp")),
        _resized(pod),
        _resize_is_infeasible(status),
    )


def _resized(pod: Object) -> list[tuple[object, ...]]:
    """What containers have that is not what the spec asks for: nothing, but for a resize in place (KEP-1287)."""
    status, spec = pod.get("status") or {}, pod["spec"]
    found: list[tuple[object, ...]] = []
    if "containerStatuses" not in status and "initContainerStatuses" not in status:
        return found
    for kind, declared in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        for one in status.get(kind) or ():
            resources, allocated = one.get("resources"), one.get("allocatedResources")
            if not resources and not allocated:
                continue
            name, asked = one.get("name"), None
            for container in spec.get(declared) or ():
                if container["name"] == name:
                    asked = container.get("resources")
                    break
            if (resources and resources != asked) or (allocated and allocated != (asked or {}).get("requests")):
                found.append((name, resources, allocated))
    return found


def is_placed_as_it_was(waiting: Object, placed: Object, node: str) -> bool:
    """Whether `placed` is the pod `waiting` with this node, and nothing else that matters to scheduling changed but
    labels: a binding adds those of the node's topology.
    """
    spec, before = placed["spec"], dict(waiting["spec"])
    if spec.get("nodeName") != node:
        return False
    before["nodeName"] = node
    return bool(spec == before) and _facts_besides_spec(waiting)[1:] == _facts_besides_spec(placed)[1:]


# ---------------------------------------------------------------------- requests
def _pod_requests(pod: Object, when_not_said: _Exact) -> Resources:
    """Sum of the containers and sidecars, or what the init containers need at their worst, and the overhead.

    Requests of the pod as a whole stand in for those of its containers. (k8s.io/component-helpers
    `resource/helpers.go`; the sum with sidecars is KEP-753's.)
    """
    spec = pod["spec"]
    resized = _Resized(pod.get("status") or {})
    total: _Exact = {}
    for container in spec.get("containers") or ():
        _add(total, when_not_said | resized.requests(container))
    sidecars: _Exact = {}
    peak: _Exact = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            asked = when_not_said | resized.requests(container)
            _add(total, asked)
            _add(sidecars, asked)
            _raise(peak, sidecars)
        else:
            together = when_not_said | _asked(container)
            _add(together, sidecars)
            _raise(peak, together)
    _raise(total, peak)
    for name, value in _exact((spec.get("resources") or {}).get("requests")).items():
        # other resources cannot be asked for by the pod as a whole (KEP-2837)
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            total[name] = value
    _add(total, _exact(spec.get("overhead")))
    return {name: -(-value // (10**6 if name == "cpu" else 10**9)) for name, value in total.items()}


_Plain = tuple[tuple[tuple[str, Any], ...], ...]
"""The requests of each of a pod's containers, as they are written."""


def _plainly_asked(pod: Object) -> _Plain | None:
    """Those of a pod that has nothing but containers, none of them resized; None for any other."""
    spec = pod["spec"]
    if spec.get("initContainers") or spec.get("overhead") or spec.get("resources") or _resized(pod):
        return None
    return tuple([tuple(((one.get("resources") or {}).get("requests") or {}).items()) for one in spec["containers"]])


@lru_cache(maxsize=4096)
def _of_plain_containers(plain: _Plain) -> _Asked:
    containers = [{"name": "", "resources": {"requests": dict(one)}} for one in plain]
    return _Asked({"spec": {"containers": containers}}, plainly=True)


class _Resized:
    """What running containers have, which a resize in place may have made differ from the spec (KEP-1287)."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self._statuses = {
            one["name"]: one
            for kind in ("containerStatuses", "initContainerStatuses")
            for one in status.get(kind) or ()
            if one.get("resources")
        }
        self._infeasible = _resize_is_infeasible(status)

    def requests(self, container: Object) -> _Exact:
        """The largest of what is asked for, allocated and actual; what is asked for counts not if it cannot be had."""
        asked = _asked(container)
        status = self._statuses.get(container["name"]) if self._statuses else None
        if status is None:
            return asked
        effective = {} if self._infeasible else asked
        _raise(effective, _exact((status["resources"] or {}).get("requests")))
        _raise(effective, _exact(status.get("allocatedResources")))
        return effective


def _resize_is_infeasible(status: Mapping[str, Any]) -> bool:
    for one in status.get("conditions") or ():
        if one.get("type") == "PodResizePending" and one.get("reason") == "Infeasible":
            return True
    return False


def _asked(container: Object) -> _Exact:
    return _exact((container.get("resources") or {}).get("requests"))


def _exact(given: Mapping[str, Any] | None) -> _Exact:
    return {name: quantity.nano(text) for name, text in (given or {}).items()}


def _add(total: _Exact, more: _Exact) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0) + value


def _raise(total: _Exact, least: _Exact) -> None:
    for name, value in least.items():
        total[name] = max(total.get(name, 0), value)
