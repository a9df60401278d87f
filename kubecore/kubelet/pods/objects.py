"""ConfigMaps, Secrets, claims and volumes that pods of this node refer to, each watched by itself while a pod needs it.

Watching single objects is what the Node authorizer allows a kubelet, and makes live updates of volumes immediate
(upstream `pkg/kubelet/util/manager/watch_based_manager.go`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.informer import SharedInformer
from kubecore.clock import Clock
from kubecore.kubelet.volumes.claims import claim_name

Object = dict[str, Any]
Reference = tuple[str, str, str]
"""(resource key, namespace, name)."""


@dataclass
class _Watched:
    informer: SharedInformer
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)


class ReferencedObjects:
    """`on_change` is told the uids of the pods that refer to an object which changed, appeared or went."""

    def __init__(self, client: Client, clock: Clock, on_change: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._on_change = on_change
        self._watched: dict[Reference, _Watched] = {}
        self._of_pod: dict[str, set[Reference]] = {}

    async def use(self, pod: Object) -> None:
        """Follow everything the pod refers to; returns when all of it is known (or known not to exist)."""
        uid = meta.uid(pod)
        references = set(references_of(pod))
        await self._follow(uid, references)
        # a claim tells which volume it is bound to
        references |= set(self._volumes_of(references))
        await self._follow(uid, references)
        for gone in self._of_pod[uid] - references:
            await self._leave(gone, uid)
        self._of_pod[uid] = references

    async def release(self, uid: str) -> None:
        """The pod is gone."""
        for reference in self._of_pod.pop(uid, set()):
            await self._leave(reference, uid)

    async def close(self) -> None:
        for uid in list(self._of_pod):
            await self.release(uid)

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as last seen. Only objects in use are known."""
        watched = self._watched.get((resource, namespace, name))
        return None if watched is None else watched.informer.get(meta.make_key(namespace, name))

    async def _follow(self, uid: str, references: set[Reference]) -> None:
        self._of_pod[uid] = self._of_pod.get(uid, set()) | references
        joined = [reference for reference in references if self._join(reference, uid)]
        # For the pods before, the server may have refused: one that had gone from the API took its node's right along.
        for reference in joined:
            await self._watched[reference].informer.refresh()
        for reference in references:
            await self._watched[reference].informer.wait_synced()

    def _volumes_of(self, references: set[Reference]) -> Iterator[Reference]:
        for resource, namespace, name in references:
            claim = self.get(resource, namespace, name) if resource == "persistentvolumeclaims" else None
            if claim is not None and claim["spec"].get("volumeName"):
                yield ("persistentvolumes", "", claim["spec"]["volumeName"])

    def _join(self, reference: Reference, uid: str) -> bool:
        """False for a pod that follows it already."""
        watched = self._watched.get(reference)
        if watched is None:
            resource, namespace, name = reference
            informer = SharedInformer(
                self._client, self._clock, resource, namespace=namespace, field_selector=f"metadata.name={name}"
            )
            task = asyncio.create_task(informer.run(), name=f"kubelet {resource} {namespace}/{name}")
            watched = self._watched[reference] = _Watched(informer, task)
            informer.add_handler(
                on_add=lambda _: self._changed(reference),
                on_update=lambda _, __: self._changed(reference),
                on_delete=lambda _: self._changed(reference),
            )
        is_new = uid not in watched.users
        watched.users.add(uid)
        return is_new

    async def _leave(self, reference: Reference, uid: str) -> None:
        watched = self._watched.get(reference)
        if watched is None:
            return
        watched.users.discard(uid)
        if not watched.users:
            del self._watched[reference]
            watched.task.cancel()
            with suppress(asyncio.CancelledError):
                await watched.task

    def _changed(self, reference: Reference) -> None:
        watched = self._watched.get(reference)
        for uid in list(watched.users) if watched else ():
            self._on_change(uid)


def references_of(pod: Object) -> Iterator[Reference]:
    """Every ConfigMap, Secret and claim that the pod's containers and volumes name."""
    namespace = meta.namespace(pod)
    spec = pod["spec"]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            yield from _named(namespace, source.get("configMapRef"), source.get("secretRef"))
        for variable in container.get("env") or []:
            source = variable.get("valueFrom") or {}
            yield from _named(namespace, source.get("configMapKeyRef"), source.get("secretKeyRef"))
    for one in spec.get("imagePullSecrets") or []:
        yield from _named(namespace, None, one)
    for volume in spec.get("volumes") or []:
        if "secret" in volume:
            yield ("secrets", namespace, volume["secret"].get("secretName", ""))
        yield from _named(namespace, volume.get("configMap"), None)
        if claim := claim_name(pod, volume):
            yield ("persistentvolumeclaims", namespace, claim)
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _named(namespace, source.get("configMap"), source.get("secret"))


def _named(namespace: str, config_map: Object | None, secret: Object | None) -> Iterator[Reference]:
    if config_map:
        yield ("configmaps", namespace, config_map.get("name", ""))
    if secret:
        yield ("secrets", namespace, secret.get("name", ""))
