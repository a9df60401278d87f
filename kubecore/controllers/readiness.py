"""Pods whose node cannot speak for them are not ready, whatever their status still says."""

from __future__ import annotations

from datetime import datetime

from kubecore.api import errors, meta
from kubecore.api.errors import StatusError
from kubecore.client.client import Client, Object
from kubecore.controllers import pods


async def mark_not_ready(client: Client, pod: Object, now: datetime) -> bool:
    """Of a ready pod. False where it is gone. Raises StatusError: a conflict, for example."""
    found = [dict(condition) for condition in pod["status"]["conditions"]]
    for condition in found:
        if condition["type"] == "Ready":
            condition |= {"status": "False", "lastTransitionTime": meta.format_time(now)}
    try:
        await client.update("pods", {**pod, "status": {**pod["status"], "conditions": found}}, subresource="status")
    except StatusError as error:
        if not errors.is_not_found(error):
            raise
        return False
    return True


async def mark_pods_of(client: Client, node_name: str, now: datetime) -> None:
    """All of a node's pods that say that they are ready; one that somebody else writes meanwhile is as they say."""
    found = await client.list("pods", field_selector=f"spec.nodeName={node_name}")
    for pod in found.items:
        if not pods.is_ready(pod):
            continue
        try:
            await mark_not_ready(client, pod, now)
        except StatusError as error:
            if not errors.is_conflict(error):
                raise
