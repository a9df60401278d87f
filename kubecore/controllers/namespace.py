"""Empties namespaces that are being deleted, pods first, and lets them go once nothing is left.

Conditions and their words: kubernetes `pkg/controller/namespace/deletion`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from kubecore.api import errors, meta, scheme
from kubecore.api.errors import StatusError
from kubecore.api.scheme import Resource
from kubecore.client.client import Object
from kubecore.client.discovery import custom_resources
from kubecore.client.workqueue import RateLimits
from kubecore.controllers import conditions
from kubecore.controllers.base import Controller, ControllerContext, RetryLater

_FINALIZER = "kubernetes"


class _Metadata(msgspec.Struct):
    name: str
    finalizers: list[str] | None = None
    deletionGracePeriodSeconds: int = 0


class _Item(msgspec.Struct):
    metadata: _Metadata


_ITEM = msgspec.json.Decoder(_Item)


@dataclass(slots=True)
class Remains:
    """What one pass over a namespace's content found."""

    undiscovered: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)

    @property
    def empty(self) -> bool:
        return not (self.undiscovered or self.refused or self.counts)


class NamespaceController(Controller):
    """Keys are namespaces."""

    name = "namespace-controller"
    limits = RateLimits(base=0.1, maximum=15.0, rate=50.0, burst=200)

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self._namespaces = self.informer("namespaces")
        self._namespaces.add_handler(self._seen, lambda _, new: self._seen(new))
        # the last pod of a namespace that goes is what its deletion waits for most often
        self.informer("pods").add_handler(on_delete=self._pod_gone)

    def _seen(self, namespace: Object) -> None:
        if meta.is_deleting(namespace):
            self.enqueue(namespace)

    def _pod_gone(self, pod: Object) -> None:
        namespace = self._namespaces.get(meta.namespace(pod))
        if namespace is not None and meta.is_deleting(namespace):
            self.queue.add(meta.name(namespace))

    async def sync(self, key: str) -> float | None:
        namespace = self._namespaces.get(key)
        if namespace is None or not meta.is_deleting(namespace):
            return None
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if _FINALIZER not in finalizers:
            return None
        remains = await self._empty(key, self._seconds_since(namespace))
        current = await self._report(key, remains)
        if current is None:
            return None
        if not remains.empty:
            raise RetryLater(f"content remains: {remains.counts}")
        current["spec"]["finalizers"] = [one for one in finalizers if one != _FINALIZER]
        try:
            await self.client.update("namespaces", current, subresource="finalize")
        except StatusError as error:
            if not errors.is_not_found(error):
                raise
        return None

    def _seconds_since(self, namespace: Object) -> float:
        """How long ago the namespace was deleted."""
        deleted = meta.parse_time(namespace["metadata"]["deletionTimestamp"])
        return (self.clock.now() - deleted).total_seconds()

    async def _empty(self, namespace: str, elapsed: float) -> Remains:
        remains = Remains()
        custom, remains.undiscovered = await custom_resources(self.client)
        resources = _deletable([*scheme.default().resources, *custom])
        # what pods use (service accounts, secrets, volumes) must outlive them
        await self._delete_all(resources.pop("pods"), namespace, remains, elapsed)
        if remains.counts:
            return remains
        for resource in resources.values():
            await self._delete_all(resource, namespace, remains, elapsed)
        return remains

    async def _delete_all(self, resource: Resource, namespace: str, remains: Remains, elapsed: float) -> None:
        try:
            found = await self.client.list_raw(resource.key, namespace)
            if not found.items:
                return
            # Background whatever the kind's own policy is: all of the namespace is deleted, nothing is an orphan.
            if "deletecollection" in resource.verbs:
                await self.client.delete_collection(resource.key, namespace, propagation_policy="Background")
            else:
                for item in found.items:
                    await self._delete(resource, namespace, _ITEM.decode(item).metadata.name)
            found = await self.client.list_raw(resource.key, namespace)
        except StatusError as error:
            # one kind that cannot be emptied must not keep the others
            if error.code not in (404, 405):
                remains.refused.append(error.message)
            return
        if not found.items:
            return
        remains.counts[f"{resource.plural}.{resource.group}"] = len(found.items)
        left = [_ITEM.decode(item).metadata for item in found.items]
        for item_metadata in left:
            remains.finalizers.update(item_metadata.finalizers or ())
        explained = any(one.finalizers or one.deletionGracePeriodSeconds > elapsed for one in left)
        if not explained:
            gvr = f"{resource.group}/{resource.version}, Resource={resource.plural}"
            remains.refused.append(f"unexpected items still remain in namespace: {namespace} for gvr: {gvr}")

    async def _delete(self, resource: Resource, namespace: str, name: str) -> None:
        try:
            await self.client.delete(resource.key, name, namespace, propagation_policy="Background")
        except StatusError as error:
            if error.code not in (404, 405):
                raise

    async def _report(self, key: str, remains: Remains) -> Object | None:
        """Write conditions that say how far the deletion has come; None if the namespace is gone."""
        try:
            namespace = await self.client.get("namespaces", key)
            status = namespace.setdefault("status", {})
            before = meta.deepcopy(status)
            status["phase"] = "Terminating"
            found = status.get("conditions") or []
            for condition in deletion_conditions(remains, meta.format_time(self.clock.now())):
                found = conditions.put(found, condition)
            status["conditions"] = found
            if status != before:
                namespace = await self.client.update("namespaces", namespace, subresource="status")
        except StatusError as error:
            if errors.is_not_found(error):
                return None
            raise
        return namespace


def _deletable(resources: Iterable[Resource]) -> dict[str, Resource]:
    """Namespaced kinds whose objects can be listed and deleted, each where it is stored only."""
    return {
        resource.key: resource
        for resource in reversed(list(resources))
        if resource.namespaced and {"list", "delete"} <= resource.verbs and resource.storage_key == resource.key
    }


def deletion_conditions(remains: Remains, now: str) -> list[conditions.Condition]:
    """The five conditions of a namespace that is being deleted."""
    made = []

    def say(type: str, bad: bool, reason: str, message: str, good_reason: str, good_message: str) -> None:
        if bad:
            made.append(conditions.make(type, "True", now, reason, message))
        else:
            made.append(conditions.make(type, "False", now, good_reason, good_message))

    say(
        "NamespaceDeletionDiscoveryFailure",
        bool(remains.undiscovered),
        "DiscoveryFailed",
        f"Discovery failed for some groups, {len(remains.undiscovered)} failing: unable to retrieve the complete list "
        f"of server APIs: {', '.join(sorted(f'{k}: {v}' for k, v in remains.undiscovered.items()))}",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    )
    say(
        "NamespaceDeletionGroupVersionParsingFailure",
        False,
        "",
        "",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    )
    say(
        "NamespaceDeletionContentFailure",
        bool(remains.refused),
        "ContentDeletionFailed",
        f"Failed to delete all resource types, {len(remains.refused)} remaining: {', '.join(sorted(remains.refused))}",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    )
    counts = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remains.counts.items()))
    say(
        "NamespaceContentRemaining",
        bool(remains.counts),
        "SomeResourcesRemain",
        f"Some resources are remaining: {counts}",
        "ContentRemoved",
        "All content successfully removed",
    )
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(remains.finalizers.items()))
    say(
        "NamespaceFinalizersRemaining",
        bool(remains.finalizers),
        "SomeFinalizersRemain",
        f"Some content in the namespace has finalizers remaining: {held}",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    )
    return made
