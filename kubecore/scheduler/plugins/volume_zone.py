"""Keeps pods on nodes of the zones and regions that the labels of their volumes name."""

from __future__ import annotations

from collections.abc import Sequence

from kubecore.api import meta
from kubecore.api.persistent_volumes import class_of
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, StorageEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless, PreFilter, PreFilterResult
from kubecore.scheduler.pods import PodInfo

_REASON = Hopeless(("node(s) had no available volume zone",))
_NEWER = {
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}
_LABELS = (*_NEWER, *_NEWER.values())
# A volume that is in several zones names them with this in between.
_BETWEEN = "__"

_Places = dict[str, frozenset[str]]
"""By label, the values that a node may have."""


class VolumeZone(PreFilter, Filter):
    name = "VolumeZone"
    of_volumes = True
    wakes = frozenset(
        {EventKind.NODE_ADDED, EventKind.NODE_LABELS, EventKind.CLAIM, EventKind.VOLUME, EventKind.STORAGE_CLASS}
    )

    def __init__(self, informers: InformerFactory) -> None:
        self._claims = informers.informer("persistentvolumeclaims")
        self._volumes = informers.informer("persistentvolumes")
        self._classes = informers.informer("storageclasses.storage.k8s.io")

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        places: list[_Places] = []
        for name in _claim_names(pod):
            claim = self._claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                return PreFilterResult(refusal=f'persistentvolumeclaim "{name}" not found')
            volume_name = claim["spec"].get("volumeName") or ""
            if not volume_name:
                if refusal := self._why_unbound(claim):
                    return PreFilterResult(refusal=refusal)
                continue
            volume = self._volumes.get(volume_name)
            if volume is None:
                return PreFilterResult(refusal=f'persistentvolume "{volume_name}" not found')
            if found := _places_of(volume):
                places.append(found)
        if places:
            state.notes[self.name] = places
        else:
            state.skipped.add(self.name)
        return None

    def _why_unbound(self, claim: Object) -> str:
        """What is wrong with a claim without volume; nothing when it waits for a consumer."""
        name = class_of(claim)
        if not name:
            return "PersistentVolumeClaim had no pv name and storageClass name"
        storage_class = self._classes.get(name)
        if storage_class is None:
            return f'storageclass.storage.k8s.io "{name}" not found'
        mode = storage_class.get("volumeBindingMode")
        if not mode:
            return f'VolumeBindingMode not set for StorageClass "{name}"'
        return "" if mode == "WaitForFirstConsumer" else "PersistentVolume had no name"

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        # in a cluster of one zone the nodes may have no such labels
        if not any(label in node.labels for label in _LABELS):
            return ()
        for places in state.notes[self.name]:
            for label, values in places.items():
                value = node.labels.get(label, node.labels.get(_NEWER.get(label, label)))
                if value not in values:
                    return _REASON
        return ()

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if not isinstance(event, StorageEvent):
            return True
        if event.kind is EventKind.CLAIM:
            return meta.namespace(event.obj) == pod.namespace and meta.name(event.obj) in _claim_names(pod)
        if event.kind is EventKind.STORAGE_CLASS:
            return event.old is None and event.obj.get("volumeBindingMode") == "WaitForFirstConsumer"
        return event.old is None or _places_of(event.old) != _places_of(event.obj)


def _claim_names(pod: PodInfo) -> list[str]:
    volumes = pod.spec.get("volumes") or ()
    return [one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")]


def _places_of(volume: Object) -> _Places:
    labels = meta.labels(volume)
    return {label: frozenset(labels[label].split(_BETWEEN)) for label in _LABELS if label in labels}
