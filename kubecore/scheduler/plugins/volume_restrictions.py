"""Keeps pods apart that cannot share a volume: disks that one node at a time may write, claims of one pod alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kubecore.api import meta
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, PodEvent, StorageEvent
from kubecore.scheduler.framework import CycleState, Filter, PreFilter, PreFilterResult
from kubecore.scheduler.pods import PodInfo

_DISK = ("node(s) had no available disk",)
_IN_USE = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
)
_ONE_POD = "ReadWriteOncePod"


@dataclass(slots=True)
class _InUse:
    """What is noted for filtering."""

    claims: frozenset[str]
    """Those of the pod that one pod alone may use."""
    users: int
    """How many uses of them there are by pods with a node."""

    def clone(self) -> _InUse:
        return _InUse(self.claims, self.users)


class VolumeRestrictions(PreFilter, Filter):
    name = "VolumeRestrictions"
    of_volumes = True
    wakes = frozenset({EventKind.POD_REMOVED, EventKind.NODE_ADDED, EventKind.CLAIM})

    def __init__(self, informers: InformerFactory) -> None:
        self._claims = informers.informer("persistentvolumeclaims")

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        alone = set()
        for name in _claim_names(pod):
            claim = self._claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return PreFilterResult(refusal=f'persistentvolumeclaim "{name}" not found')
            if _ONE_POD in (claim["spec"].get("accessModes") or ()):
                alone.add(name)
        noted = _InUse(frozenset(alone), 0)
        if alone:
            used = {name for other in cache.pods_in(pod.namespace) for name in _claim_names(other)}
            noted.users = len(alone & used)
        if not noted.users and not any(_is_exclusive(volume) for volume in _volumes(pod)):
            state.skipped.add(self.name)
        else:
            state.notes[self.name] = noted
        return None

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._count(state, pod, other, 1)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        self._count(state, pod, other, -1)

    def _count(self, state: CycleState, pod: PodInfo, other: PodInfo, change: int) -> None:
        noted: _InUse = state.notes[self.name]
        if other.namespace == pod.namespace:
            noted.users += change * sum(name in noted.claims for name in _claim_names(other))

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        if any(_conflict(pod, other) for other in node.pods.values()):
            return _DISK
        noted: _InUse = state.notes[self.name]
        return _IN_USE if noted.users > 0 else ()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, StorageEvent):
            is_mine = meta.namespace(event.obj) == pod.namespace and meta.name(event.obj) in set(_claim_names(pod))
            return is_mine and event.old is None
        if not isinstance(event, PodEvent) or event.old is None:
            return True
        if event.old.namespace != pod.namespace:
            return _conflict(pod, event.old)
        return _conflict(pod, event.old) or not set(_claim_names(pod)).isdisjoint(_claim_names(event.old))


def _volumes(pod: PodInfo) -> list[Object]:
    return pod.spec.get("volumes") or []


def _claim_names(pod: PodInfo) -> Iterator[str]:
    for volume in _volumes(pod):
        if source := volume.get("persistentVolumeClaim"):
            yield source["claimName"]


# ---------------------------------------------------------------------- disks
def _is_same_disk(one: Object, other: Object) -> bool:
    return bool(one.get("pdName") == other.get("pdName"))


def _is_same_target(one: Object, other: Object) -> bool:
    return bool(one.get("iqn") == other.get("iqn"))


def _is_same_image(one: Object, other: Object) -> bool:
    is_same = one.get("image") == other.get("image") and (one.get("pool") or "rbd") == (other.get("pool") or "rbd")
    return is_same and not set(one.get("monitors") or ()).isdisjoint(other.get("monitors") or ())


_SHARED_WHEN_READ: Mapping[str, Callable[[Object, Object], bool]] = {
    "gcePersistentDisk": _is_same_disk,
    "iscsi": _is_same_target,
    "rbd": _is_same_image,
}
_NEVER_SHARED = "awsElasticBlockStore"


def _is_exclusive(volume: Object) -> bool:
    return _NEVER_SHARED in volume or any(kind in volume for kind in _SHARED_WHEN_READ)


def _conflict(pod: PodInfo, other: PodInfo) -> bool:
    return any(_conflicts(one, theirs) for one in _volumes(pod) if _is_exclusive(one) for theirs in _volumes(other))


def _conflicts(one: Object, other: Object) -> bool:
    mine, theirs = one.get(_NEVER_SHARED), other.get(_NEVER_SHARED)
    if mine and theirs and mine.get("volumeID") == theirs.get("volumeID"):
        return True
    for kind, is_same in _SHARED_WHEN_READ.items():
        mine, theirs = one.get(kind), other.get(kind)
        if mine and theirs and is_same(mine, theirs) and not (mine.get("readOnly") and theirs.get("readOnly")):
            return True
    return False
