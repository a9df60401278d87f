"""What a cluster must see to when it is started again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubecore.client.client import Client


async def doubt_pods(client: Client, nodes: Mapping[str, Path], now: datetime) -> None:
    """The last run's processes ended with it, their pods' statuses did not: none is ready until its kubelet says so,
    lest whoever waits for the cluster and then for a pod be sent to nothing. What a node's keeper has goes on.
    `nodes`: their folders, by name."""
    from kubecore.controllers.readiness import mark_pods_of
    from kubecore.kubelet.keeper.place import is_kept

    for name, folder in nodes.items():
        if not is_kept(folder):
            await mark_pods_of(client, name, now)
