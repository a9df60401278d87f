"""Persistent volumes: the pod's claims must be there and bound, and the node must reach the volumes.

What may wait for a first consumer finds no volume until there is a binder that answers the scheduler.
(kubernetes `pkg/scheduler/framework/plugins/volumebinding`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kubecore.api import meta
from kubecore.api.node_selection import Term
from kubecore.client.client import Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, StorageEvent
from kubecore.scheduler.framework import CycleState, Filter, PreFilter, PreFilterResult
from kubecore.scheduler.plugins.node_affinity import matches_term
from kubecore.scheduler.pods import PodInfo

_UNBOUND = PreFilterResult(refusal="pod has unbound immediate PersistentVolumeClaims")
_AFFINITY = "node(s) didn't match PersistentVolume's node affinity"
_NOTHING_TO_BIND = ("node(s) didn't find available persistent volumes to bind",)
_NO_VOLUME = ("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",)
_BOUND = "pv.kubernetes.io/bind-completed"


@dataclass(slots=True)
class _Claims:
    """What is noted of a pod's claims for filtering."""

    volumes: list[Object] = field(default_factory=list)
    lost: bool = False
    delayed: bool = False
    """Some wait for their first consumer."""


class VolumeBinding(PreFilter, Filter):
    name = "VolumeBinding"
    wakes = frozenset(
        {EventKind.NODE_ADDED, EventKind.NODE_LABELS, EventKind.CLAIM, EventKind.VOLUME, EventKind.STORAGE_CLASS}
    )

    def __init__(self, informers: InformerFactory) -> None:
        self._claims = informers.informer("persistentvolumeclaims")
        self._volumes = informers.informer("persistentvolumes")
        self._classes = informers.informer("storageclasses.storage.k8s.io")

    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        noted, immediate = _Claims(), False
        names = list(claim_names(pod))
        if not names:
            state.skipped.add(self.name)
            return None
        for name, ephemeral in names:
            claim = self._claims.get(f"{pod.namespace}/{name}")
            if refusal := _refusal(pod, name, claim, ephemeral=ephemeral):
                return PreFilterResult(refusal=refusal)
            assert claim is not None
            if not _is_bound(claim):
                if self._waits_for_consumer(claim):
                    noted.delayed = True
                else:
                    immediate = True
                continue
            volume = self._volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                noted.lost = True
            else:
                noted.volumes.append(volume)
        if immediate:
            return _UNBOUND
        state.notes[self.name] = noted
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        noted: _Claims = state.notes[self.name]
        if noted.lost:
            return _NO_VOLUME
        reasons = [] if all(_reaches(volume, node) for volume in noted.volumes) else [_AFFINITY]
        return [*reasons, *_NOTHING_TO_BIND] if noted.delayed else reasons

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if isinstance(event, StorageEvent) and event.kind is EventKind.CLAIM:
            mine = {f"{pod.namespace}/{name}" for name, _ in claim_names(pod)}
            return meta.key(event.obj) in mine
        return True

    def _waits_for_consumer(self, claim: Object) -> bool:
        storage_class = self._classes.get(claim["spec"].get("storageClassName") or "")
        return storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"


def claim_names(pod: PodInfo) -> Iterator[tuple[str, bool]]:
    """The name of each claim of the pod, and whether it is one of an ephemeral volume."""
    for volume in pod.spec.get("volumes") or ():
        if source := volume.get("persistentVolumeClaim"):
            yield source["claimName"], False
        elif volume.get("ephemeral"):
            yield f"{meta.name(pod.obj)}-{volume['name']}", True


def _refusal(pod: PodInfo, name: str, claim: Object | None, *, ephemeral: bool) -> str:
    """Why this claim keeps the pod from any node."""
    if claim is None:
        if ephemeral:
            return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
        return f'persistentvolumeclaim "{name}" not found'
    if (claim.get("status") or {}).get("phase") == "Lost":
        volume = claim["spec"].get("volumeName", "")
        return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume}"'
    if meta.is_deleting(claim):
        return f'persistentvolumeclaim "{name}" is being deleted'
    if ephemeral and not any(owner["uid"] == pod.uid for owner in claim["metadata"].get("ownerReferences") or ()):
        return f"PVC {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
    return ""


def _is_bound(claim: Object) -> bool:
    annotations = claim["metadata"].get("annotations") or {}
    return bool(claim["spec"].get("volumeName")) and _BOUND in annotations


def _reaches(volume: Object, node: NodeInfo) -> bool:
    required = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms")
    terms: list[Term] = required or []
    return not terms or any(matches_term(term, node) for term in terms)
