"""Persistent volumes: the pod's claims must be there and bound, or find volumes once the pod has a node.

Bound volumes must be reached by the node. For claims that wait for their first consumer a node needs free volumes that
suit them, or a class whose provisioner can make them there; what was chosen is reserved with the node, and before the
pod is bound the volumes are. (kubernetes `pkg/scheduler/framework/plugins/volumebinding`.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from kubecore.api import meta
from kubecore.api import persistent_volumes as volumes
from kubecore.client.client import Client, Object
from kubecore.client.informer import InformerFactory
from kubecore.scheduler.cache import Cache, NodeInfo
from kubecore.scheduler.events import ClusterEvent, EventKind, StorageEvent
from kubecore.scheduler.framework import CycleState, Filter, Hopeless, PreBind, PreFilter, PreFilterResult, Reserve
from kubecore.scheduler.plugins import volume_choices as choices
from kubecore.scheduler.plugins.volume_choices import BindingFailed, Choice, Unbound
from kubecore.scheduler.pods import PodInfo

BIND_TIMEOUT_SECONDS = 600.0

_CLAIMS = "persistentvolumeclaims"
_VOLUMES = "persistentvolumes"
_FREE, _OF_CLASS = "scheduler-free-volumes", "scheduler-capacities-of-class"
_UNBOUND = PreFilterResult(refusal="pod has unbound immediate PersistentVolumeClaims")


@dataclass(slots=True)
class _Noted:
    """What is noted of a pod's claims, and what each node that passed would do for them."""

    volumes: list[Object] = field(default_factory=list)
    lost: bool = False
    unbound: list[Unbound] = field(default_factory=list)
    choices: dict[str, Choice] = field(default_factory=dict)


class _Assumed:
    """What is reserved, for what, and the pods for which it is: it stays so until none of them needs it any more."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, set[str]]] = {}

    def get(self, name: str, default: str = "") -> str:
        entry = self._entries.get(name)
        return entry[0] if entry is not None else default

    def put(self, name: str, value: str, pod: PodInfo) -> None:
        known, pods = self._entries.get(name, (value, set()))
        self._entries[name] = (value, pods | {pod.uid} if known == value else {pod.uid})

    def drop(self, name: str, pod: PodInfo) -> None:
        entry = self._entries.get(name)
        if entry is not None:
            entry[1].discard(pod.uid)
            if not entry[1]:
                del self._entries[name]


class VolumeBinding(PreFilter, Filter, Reserve, PreBind):
    name = "VolumeBinding"
    of_volumes = True
    wakes = frozenset(
        {
            EventKind.NODE_ADDED,
            EventKind.NODE_LABELS,
            EventKind.CLAIM,
            EventKind.VOLUME,
            EventKind.STORAGE_CLASS,
            EventKind.CSI_DRIVER,
            EventKind.STORAGE_CAPACITY,
        }
    )

    def __init__(
        self, informers: InformerFactory, client: Client | None = None, *, bind_timeout: float = BIND_TIMEOUT_SECONDS
    ) -> None:
        self._bind_timeout = bind_timeout
        self._client = client or informers.client
        self._clock = informers.clock
        self._claims = informers.informer(_CLAIMS)
        self._volumes = informers.informer(_VOLUMES)
        self._classes = informers.informer("storageclasses.storage.k8s.io")
        self._nodes = informers.informer("nodes")
        self._pods = informers.informer("pods")
        self._drivers = informers.informer("csidrivers.storage.k8s.io")
        self._capacities = informers.informer("csistoragecapacities.storage.k8s.io")
        self._volumes.add_index(_FREE, _class_of_free)
        self._capacities.add_index(_OF_CLASS, _class_of_room)
        self._assumed_volumes = _Assumed()
        """Volume → key of the claim it is reserved for, until the watch shows it."""
        self._assumed_nodes = _Assumed()
        """Key of a claim → the node selected for it, until the watch shows it."""
        self._waiting: list[asyncio.Future[None]] = []
        for informer in (self._claims, self._volumes):
            informer.add_handler(lambda _: self._wake(), lambda _, __: self._wake(), lambda _: self._wake())
        self._pods.add_handler(on_delete=lambda _: self._wake())

    # ------------------------------------------------------------------ finding
    def pre_filter(self, state: CycleState, pod: PodInfo, cache: Cache) -> PreFilterResult | None:
        noted, immediate = _Noted(), False
        names = list(volumes.claims_of_pod(pod.obj))
        if not names:
            state.skipped.add(self.name)
            return None
        for name, ephemeral in names:
            claim = self._claims.get(f"{pod.namespace}/{name}")
            if refusal := _refusal(pod, name, claim, ephemeral=ephemeral):
                return PreFilterResult(refusal=refusal)
            assert claim is not None
            if volumes.is_fully_bound(claim):
                volume = self._volumes.get(claim["spec"]["volumeName"])
                if volume is None:
                    noted.lost = True
                else:
                    noted.volumes.append(volume)
                continue
            storage_class = self._classes.get(volumes.class_of(claim))
            if storage_class is None or not self._is_delayed(claim, storage_class):
                immediate = True
            else:
                noted.unbound.append(self._unbound(claim, storage_class))
        if immediate:
            return _UNBOUND
        state.notes[self.name] = noted
        return None

    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Sequence[str]:
        noted: _Noted = state.notes[self.name]
        if noted.lost:
            return Hopeless((choices.NO_VOLUME,))
        assert node.obj is not None
        reasons = []
        if not all(volumes.reachable(volume, node.obj) for volume in noted.volumes):
            reasons.append(choices.NODE_CONFLICT)
        if noted.unbound:
            choice = choices.choose(noted.unbound, node.obj)
            if isinstance(choice, str):
                reasons.append(choice)
            else:
                noted.choices[node.name] = choice
        return Hopeless(reasons)

    def helps(self, event: ClusterEvent, pod: PodInfo) -> bool:
        if not isinstance(event, StorageEvent):
            return True
        if event.kind is EventKind.CLAIM:
            return meta.key(event.obj) in volumes.claim_keys_of_pod(pod.obj)
        if event.kind is EventKind.CSI_DRIVER:
            return event.old is not None and _tells_capacity(event.old) and not _tells_capacity(event.obj)
        return event.kind is not EventKind.STORAGE_CAPACITY or _has_more_room(event)

    def _is_delayed(self, claim: Object, storage_class: Object) -> bool:
        """A claim that names its volume is left to the binder, whatever its class."""
        return volumes.waits_for_consumer(storage_class) and not claim["spec"].get("volumeName")

    def _unbound(self, claim: Object, storage_class: Object) -> Unbound:
        key = meta.key(claim)
        if node := self._assumed_nodes.get(key):
            claim = meta.deepcopy(claim)
            volumes.annotate(claim, {volumes.SELECTED_NODE: node})
        free = [
            volume
            for volume in self._volumes.by_index(_FREE, volumes.class_of(claim))
            if self._assumed_volumes.get(meta.name(volume), key) == key
            and (not volume["spec"].get("claimRef") or volumes.is_bound_to(volume, claim))
        ]
        driver = self._drivers.get(storage_class.get("provisioner") or "")
        rooms = None
        if driver is not None and _tells_capacity(driver):
            rooms = self._capacities.by_index(_OF_CLASS, meta.name(storage_class))
        return Unbound(claim, storage_class, free, rooms)

    # ------------------------------------------------------------------ binding
    def reserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        if self.name not in state.notes:
            return
        choice = self._choice(state, node)
        for volume, claim in choice.matched:
            self._assumed_volumes.put(meta.name(volume), meta.key(claim), pod)
        for claim in choice.provisioned:
            self._assumed_nodes.put(meta.key(claim), node, pod)

    def unreserve(self, state: CycleState, pod: PodInfo, node: str) -> None:
        choice = self._choice(state, node)
        for volume, _ in choice.matched:
            self._assumed_volumes.drop(meta.name(volume), pod)
        for claim in choice.provisioned:
            self._assumed_nodes.drop(meta.key(claim), pod)

    def has_work(self, state: CycleState, pod: PodInfo, node: str) -> bool:
        return self.name in state.notes and bool(self._choice(state, node))

    async def pre_bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        """Reserve the volumes and select the node in the API, then wait for the binder and the provisioners."""
        choice = self._choice(state, node)
        if not choice:
            return
        matched = []
        for volume, claim in choice.matched:
            reserved = volumes.bound_to_claim(volume, claim)
            written = volume if reserved is None else await self._client.update(_VOLUMES, reserved)
            matched.append((written, meta.key(claim)))
        provisioned = [await self._select_node(claim, node) for claim in choice.provisioned]
        try:
            async with self._clock.timeout(self._bind_timeout):
                while not self._are_bound(pod, node, matched, provisioned):
                    await self._change()
        except TimeoutError:
            raise BindingFailed("binding volumes: context deadline exceeded") from None
        except BindingFailed as error:
            raise BindingFailed(f"binding volumes: {error}") from error
        # what was assumed is now what the watch shows
        self.unreserve(state, pod, node)

    async def _change(self) -> None:
        """Until something that a binding may wait for has changed."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def _select_node(self, claim: Object, node: str) -> Object:
        current = self._claims.get(meta.key(claim)) or claim
        if current["spec"].get("volumeName") or meta.annotations(current).get(volumes.SELECTED_NODE) == node:
            return current
        selected = meta.deepcopy(current)
        volumes.annotate(selected, {volumes.SELECTED_NODE: node})
        return await self._client.update(_CLAIMS, selected)

    def _are_bound(self, pod: PodInfo, name: str, matched: list[tuple[Object, str]], provisioned: list[Object]) -> bool:
        """Raises BindingFailed when it will not come to that."""
        if self._pods.get(pod.key) is None:
            raise BindingFailed(f'pod does not exist any more: pod "{meta.name(pod.obj)}" not found')
        node = self._nodes.get(name)
        if node is None:
            raise BindingFailed(f'failed to get node "{name}": node "{name}" not found')
        return all(
            choices.check_matched(self._volumes.get(meta.name(volume)), self._claims.get(key), volume, node)
            for volume, key in matched
        ) and all(
            choices.check_provisioned(claim, self._volume_of(claim), written, node)
            for written in provisioned
            for claim in (self._claims.get(meta.key(written)),)
        )

    def _volume_of(self, claim: Object | None) -> Object | None:
        name = "" if claim is None else claim["spec"].get("volumeName") or ""
        return self._volumes.get(name)

    def _choice(self, state: CycleState, node: str) -> Choice:
        noted: _Noted | None = state.notes.get(self.name)
        return (noted.choices.get(node) if noted else None) or Choice()


def _class_of_free(volume: Object) -> list[str]:
    """Index: the class of a volume; those that are bound are no candidates."""
    return [] if (volume.get("status") or {}).get("phase") == "Bound" else [volumes.class_of(volume)]


def _class_of_room(room: Object) -> list[str]:
    """Index: the class of which volumes may be that large."""
    return [room.get("storageClassName") or ""]


def _tells_capacity(driver: Object) -> bool:
    return bool((driver.get("spec") or {}).get("storageCapacity"))


def _has_more_room(event: StorageEvent) -> bool:
    old, new = event.old, event.obj
    if old is None or old.get("nodeTopology") != new.get("nodeTopology"):
        return True
    return choices.limit_of(new) > choices.limit_of(old)


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
    if ephemeral and not any(owner["uid"] == pod.uid for owner in meta.owner_references(claim)):
        return f"PVC {pod.namespace}/{name} was not created for pod {pod.key} (pod is not owner)"
    return ""
