"""Binds a pod by its `binding` subresource."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.api.amendment import PodName
from kubecore.client.client import Client
from kubecore.scheduler.framework import Bind, CycleState
from kubecore.scheduler.pods import PodInfo


class DefaultBinder(Bind):
    name = "DefaultBinder"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        await self._client.bind_pod(PodName(pod.namespace, meta.name(pod.obj), pod.uid), node)
