"""Binds a pod by its `binding` subresource."""

from __future__ import annotations

from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.scheduler.framework import Bind, CycleState
from kubecore.scheduler.pods import PodInfo


class DefaultBinder(Bind):
    name = "DefaultBinder"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def bind(self, state: CycleState, pod: PodInfo, node: str) -> None:
        name = meta.name(pod.obj)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": node},
        }
        await self._client.post("pods", binding, pod.namespace, name=name, subresource="binding")
