"""Deletes objects whose owners are all gone; carries out foreground and orphan deletion.

(kubernetes `pkg/controller/garbagecollector`.) It watches the metadata of every kind that can be deleted, custom ones
as soon as discovery shows them, and asks the server before it acts on an owner no watch has shown.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum

import msgspec

from kubecore.api import errors, meta, scheme
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource
from kubecore.client.client import Object
from kubecore.client.discovery import custom_resources
from kubecore.client.informer import SharedInformer
from kubecore.client.reflector import Reflector
from kubecore.client.workqueue import RateLimits
from kubecore.controllers.base import Controller, ControllerContext, RetryLater
from kubecore.controllers.gc_graph import (
    FOREGROUND,
    ORPHAN,
    Graph,
    Identity,
    Metadata,
    Node,
    OwnerReference,
    Work,
    decode_metadata,
    metadata_of,
    same_ties,
)

_IGNORED = {"events", "events.events.k8s.io"}
_DISCOVERY_CHANGES = {"customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"}
_DISCOVERY_KEY = "discovery"
_ABSENT_REMEMBERED = 500
_DISCOVERY_DELAY_SECONDS = 0.1
_DELETE_TRIES = 5


class OwnerState(Enum):
    SOLID = "exists"
    DANGLING = "is gone"
    WAITING = "is being deleted and waits for its dependents"


class GarbageCollector(Controller):
    """Keys are "delete/<uid>" and "orphan/<uid>" of nodes in the graph, and "discovery"."""

    name = "garbage-collector-controller"
    queue_name = "garbage_collector_attempt_to_delete"
    workers = 10
    limits = RateLimits(base=0.05, maximum=60.0, rate=100.0, burst=500)

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._recorder = context.recorder(self.name)
        self.graph = Graph(self._names)
        self._monitors: dict[str, tuple[_Monitor, asyncio.Task[None]]] = {}
        self._shared: set[str] = set()
        """Keys of resources that are followed through caches which are there for others, too."""
        self._absent: OrderedDict[tuple[OwnerReference, str], None] = OrderedDict()
        """Owners as dependents of a namespace name them; those of no namespace as all do."""

    # ------------------------------------------------------------------ watching
    async def run(self) -> None:
        try:
            self._watch(scheme.default().resources)
            # a server may serve beta versions, which no definition tells of
            self.discovery_changed()
            for monitor, _ in list(self._monitors.values()):
                await monitor.synced.wait()
            await super().run()
        finally:
            tasks = [task for _, task in self._monitors.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self, resources: Sequence[Resource]) -> None:
        for resource in resources:
            wanted = {"list", "watch", "delete"} <= resource.verbs and resource.storage_key == resource.key
            if not wanted or resource.key in self._monitors or resource.key in self._shared | _IGNORED:
                continue
            informer = self.informers.known(resource.key) if scheme.default().knows(resource.key) else None
            if informer is not None and resource.key not in _DISCOVERY_CHANGES:
                self._share(resource.key, informer)
                continue
            monitor = _Monitor(self, resource.key)
            reflector = Reflector(self.client, self.clock, resource.key, monitor, decode_metadata)
            task = asyncio.create_task(reflector.run(), name=f"{self.name} watches {resource.key}")
            self._monitors[resource.key] = (monitor, task)

    def _share(self, resource: str, informer: SharedInformer) -> None:
        """What somebody else watches need not be watched and decoded a second time."""
        self._shared.add(resource)
        self.needs(informer)

        def seen(obj: Object) -> None:
            self.take(self.graph.observe(resource, metadata_of(obj)))

        def changed(old: Object, new: Object) -> None:
            # most changes are of a status
            if not same_ties(old["metadata"], new["metadata"]):
                seen(new)

        informer.add_handler(seen, changed, lambda obj: self.forget(meta.uid(obj)))

    def forget(self, uid: str) -> None:
        """An object that a watch had shown is gone."""
        node = self.graph.nodes.get(uid)
        if node is not None and not node.virtual:
            gone, known = node.identity, self.client.resource(node.identity.resource)
            self.note_absent(OwnerReference(known.api_version, known.kind, gone.name, uid), gone.namespace)
        self.take(self.graph.forget(uid))

    async def _rediscover(self) -> None:
        """Watch custom kinds that are new and let go of those that are served no more."""
        found, failed = await custom_resources(self.client)
        self._watch(found)
        if failed:
            return
        served = {resource.key for resource in found}
        for key in [key for key in self._monitors if key not in served and not scheme.default().knows(key)]:
            monitor, task = self._monitors.pop(key)
            task.cancel()
            monitor.replace([])

    def take(self, work: Work) -> None:
        for uid in work.delete:
            self.queue.add(f"delete/{uid}")
        for uid in work.orphan:
            self.queue.add(f"orphan/{uid}")

    def discovery_changed(self) -> None:
        self.queue.add_after(_DISCOVERY_KEY, _DISCOVERY_DELAY_SECONDS)

    # ------------------------------------------------------------------ sync
    async def sync(self, key: str) -> float | None:
        action, _, uid = key.partition("/")
        if action == _DISCOVERY_KEY:
            await self._rediscover()
            return None
        node = self.graph.nodes.get(uid)
        if node is None:
            return None
        if action == "orphan":
            await self._orphan_dependents(node)
        else:
            await self._try_delete(node)
        return None

    async def _try_delete(self, node: Node) -> None:
        if node.virtual or (node.being_deleted and not node.deleting_dependents):
            return
        latest = await self._latest(node.identity)
        if latest is None or latest.uid != node.identity.uid:
            # gone already: the watch is about to say so, and if it never saw it, nobody else will
            self.take(self.graph.forget(node.identity.uid))
            return
        if node.deleting_dependents:
            await self._wait_for_dependents(node, latest)
            return
        if not latest.ownerReferences:
            return
        states = {ref.uid: await self._owner_state(ref, node.identity) for ref in latest.ownerReferences}
        if None in states.values():
            return
        solid = [uid for uid, state in states.items() if state is OwnerState.SOLID]
        waiting = [uid for uid, state in states.items() if state is OwnerState.WAITING]
        if solid:
            leaving = [uid for uid in states if uid not in solid]
            if leaving:
                await self._remove_owners(node.identity, latest, leaving)
        elif waiting and node.dependents:
            latest = await self._break_cycle(node, latest)
            await self._delete(node.identity, "Foreground", latest)
        else:
            finalizers = latest.finalizers or ()
            policy = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
            await self._delete(node.identity, policy, latest)

    async def _wait_for_dependents(self, node: Node, latest: Metadata) -> None:
        blocking = [dependent for dependent in node.dependents if dependent.blocks(node.identity.uid)]
        if not blocking:
            await self._remove_finalizer(node.identity, latest, FOREGROUND)
        for dependent in blocking:
            if not dependent.deleting_dependents:
                self.queue.add(f"delete/{dependent.identity.uid}")

    async def _break_cycle(self, node: Node, latest: Metadata) -> Metadata:
        """A dependent that waits for its own dependents must not be waited for by its owner: that may be a circle."""
        if not any(dependent.deleting_dependents for dependent in node.dependents):
            return latest
        references = [_reference(ref, block=False) for ref in latest.ownerReferences or ()]
        await self._patch(node.identity, latest, {"ownerReferences": references})
        return await self._latest(node.identity) or latest

    async def _orphan_dependents(self, node: Node) -> None:
        latest = await self._latest(node.identity)
        if latest is None or ORPHAN not in (latest.finalizers or ()):
            return
        for dependent in list(node.dependents):
            seen = await self._latest(dependent.identity)
            if seen is not None and seen.uid == dependent.identity.uid:
                await self._remove_owners(dependent.identity, seen, [node.identity.uid])
        await self._remove_finalizer(node.identity, latest, ORPHAN)

    # ------------------------------------------------------------------ owners
    async def _owner_state(self, ref: OwnerReference, dependent: Identity) -> OwnerState | None:
        """None when nobody can judge the reference: a cluster-wide object cannot have a namespaced owner."""
        known = self.graph.nodes.get(ref.uid)
        seen = known is not None and not known.virtual
        elsewhere = seen and known is not None and known.identity.namespace not in ("", dependent.namespace)
        here = known is not None and seen and not elsewhere and self._names(ref, known.identity)
        if known is not None and here and not known.deleting_dependents:
            return OwnerState.SOLID
        # One that waited for its dependents may have been told meanwhile to leave them: that is asked for.
        # the reference as it looks for an owner: whether it blocks or controls is nothing to that
        sought = OwnerReference(ref.apiVersion, ref.kind, ref.name, ref.uid)
        if (sought, "") in self._absent or (sought, dependent.namespace) in self._absent:
            return OwnerState.DANGLING
        resource = self.client.resource_for_kind(ref.apiVersion, ref.kind)
        if resource is None:
            raise RetryLater(f"no kind {ref.kind} in {ref.apiVersion}")
        if elsewhere:
            self._tell_misplaced(ref, dependent)
        if resource.namespaced and not dependent.namespace:
            return None
        namespace = dependent.namespace if resource.namespaced else ""
        owner = await self._latest(Identity(resource.key, namespace, ref.name, ref.uid))
        if owner is None or owner.uid != ref.uid:
            self.note_absent(sought, namespace)
            return OwnerState.DANGLING
        foreground = bool(owner.deletionTimestamp) and FOREGROUND in (owner.finalizers or ())
        return OwnerState.WAITING if foreground else OwnerState.SOLID

    def _names(self, ref: OwnerReference, owner: Identity) -> bool:
        """Whether the reference's kind, in whichever version, and its name are the object's."""
        known = self.client.resource(owner.resource)
        group, _ = scheme.split_group_version(ref.apiVersion)
        return (ref.name, ref.kind, group) == (owner.name, known.kind, known.group)

    def note_absent(self, owner: OwnerReference, namespace: str) -> None:
        """An owner is not there. Uids do not come back: dependents need not ask for it again."""
        self._absent[owner, namespace] = None
        if len(self._absent) > _ABSENT_REMEMBERED:
            self._absent.popitem(last=False)

    def _tell_misplaced(self, ref: OwnerReference, dependent: Identity) -> None:
        known = self.client.resource(dependent.resource)
        metadata = {"namespace": dependent.namespace, "name": dependent.name, "uid": dependent.uid}
        message = (
            f"ownerRef [{ref.apiVersion}/{ref.kind}, namespace: {dependent.namespace}, name: {ref.name}, "
            f'uid: {ref.uid}] does not exist in namespace "{dependent.namespace}"'
        )
        obj = {"apiVersion": known.api_version, "kind": known.kind, "metadata": metadata}
        self._recorder.event(obj, "Warning", "OwnerRefInvalidNamespace", message)

    # ------------------------------------------------------------------ requests
    async def _latest(self, identity: Identity) -> Metadata | None:
        path = self.client.path(identity.resource, identity.namespace, identity.name)
        try:
            return decode_metadata(await self.client.request("GET", path))
        except StatusError as error:
            if errors.is_not_found(error):
                return None
            raise

    async def _delete(self, identity: Identity, policy: str, judged: Metadata) -> None:
        """Delete the object as long as it has the owners it was judged by."""
        version = judged.resourceVersion
        for attempt in range(_DELETE_TRIES):
            try:
                await self._delete_version(identity, policy, version)
                return
            except StatusError as error:
                if errors.is_not_found(error):
                    return
                if not errors.is_conflict(error) or attempt + 1 == _DELETE_TRIES:
                    raise
                live = await self._latest(identity)
                if live is None or live.uid != identity.uid:
                    # gone, or another one by now: not ours to delete
                    return
                if live.ownerReferences != judged.ownerReferences:
                    raise
                # what changed was something else; what changes often must not live for ever
                version = live.resourceVersion

    async def _delete_version(self, identity: Identity, policy: str, version: str) -> None:
        await self.client.delete(
            identity.resource,
            identity.name,
            identity.namespace,
            uid=identity.uid,
            resource_version=version,
            propagation_policy=policy,
        )

    async def _remove_owners(self, identity: Identity, latest: Metadata, uids: list[str]) -> None:
        staying = [_reference(ref) for ref in latest.ownerReferences or () if ref.uid not in uids]
        await self._patch(identity, latest, {"ownerReferences": staying})

    async def _remove_finalizer(self, identity: Identity, latest: Metadata, finalizer: str) -> None:
        staying = [one for one in latest.finalizers or () if one != finalizer]
        if len(staying) != len(latest.finalizers or ()):
            await self._patch(identity, latest, {"finalizers": staying})

    async def _patch(self, identity: Identity, latest: Metadata, metadata: Object) -> None:
        """Merge into the metadata of exactly this version of the object; a conflict is retried as a whole."""
        whole = {"metadata": {**metadata, "uid": latest.uid, "resourceVersion": latest.resourceVersion}}
        try:
            await self.client.patch(identity.resource, identity.name, whole, identity.namespace, patch_type="merge")
        except StatusError as error:
            if not errors.is_not_found(error):
                raise


class _Monitor:
    """Feeds the graph from one resource's watch."""

    def __init__(self, collector: GarbageCollector, resource: str) -> None:
        self._collector = collector
        self._resource = resource
        self._uids: set[str] = set()
        self.synced = asyncio.Event()

    def replace(self, items: Sequence[Metadata]) -> None:
        seen = {item.uid for item in items}
        for uid in self._uids - seen:
            self._collector.take(self._collector.graph.forget(uid))
        self._uids &= seen
        for item in items:
            self.apply("ADDED", item)
        self.synced.set()

    def apply(self, type: str, item: Metadata) -> None:
        if type == "DELETED":
            self._uids.discard(item.uid)
            self._collector.forget(item.uid)
        else:
            self._uids.add(item.uid)
            self._collector.take(self._collector.graph.observe(self._resource, item))
        if self._resource in _DISCOVERY_CHANGES:
            self._collector.discovery_changed()


def _reference(ref: OwnerReference, *, block: bool | None = None) -> Object:
    """The reference as JSON, `blockOwnerDeletion` replaced if told."""
    out: Object = msgspec.to_builtins(ref)
    return out if block is None else {**out, "blockOwnerDeletion": block}
