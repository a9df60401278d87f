"""Keeps the static pods of a node: what its manifest folder holds runs, and the API has a mirror of each.

A mirror pod only shows: whoever deletes it gets it back, and its status is the static pod's. (upstream
`pkg/kubelet/pod/mirror_client.go`, `pkg/kubelet/kubelet.go`, tryReconcileMirrorPods.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from kubecore.api import meta
from kubecore.api.errors import StatusError
from kubecore.background_tasks import BackgroundTasks
from kubecore.client.client import Client
from kubecore.clock import Clock
from kubecore.kubelet.folder_watch import FolderWatch
from kubecore.kubelet.pods.manifests import HASH, MIRROR, SEEN, read_folder
from kubecore.kubelet.pods.status_writer import StatusWriter

log = logging.getLogger(__name__)

Object = dict[str, Any]

CHECK_SECONDS = 20.0
"""How often the folder is looked at even if nothing tells of a change (upstream fileCheckFrequency)."""
_RETRY_SECONDS = 5.0


class Pods(Protocol):
    """What runs them."""

    def start_static(self, pod: Object, writer: MirrorWriter) -> None: ...

    def stop_static(self, uid: str) -> None: ...


class MirrorWriter(StatusWriter):
    """Writes a static pod's status to its mirror, which is made if it is not there."""

    def __init__(self, client: Client, pod: Object, node: Callable[[], Object]) -> None:
        super().__init__(client, pod)
        self._static = pod
        self._node = node
        self._mirror: Object | None = None
        self._gone = False

    @property
    def mirror_uid(self) -> str:
        return meta.uid(self._mirror) if self._mirror is not None else ""

    def mirrored(self, mirror: Object) -> None:
        """The mirror as the API has it."""
        if self._mirror is not None and meta.uid(self._mirror) != meta.uid(mirror):
            self._mirror = None
        if self._mirror is None:
            self.forget(mirror)
            self._mirror = mirror
        self.seen(mirror)

    def lost(self, uid: str) -> bool:
        """The mirror with this uid is gone from the API; True if it was ours, so that another is wanted."""
        if self.mirror_uid != uid:
            return False
        self._mirror = None
        return not self._gone

    async def write(self, status: Object) -> bool:
        if self._gone:
            return False
        if self._mirror is None:
            await self._make()
        return await super().write(status)

    async def _make(self) -> None:
        """StatusError and OSError as the client raises them."""
        node = self._node()
        metadata = {key: value for key, value in self._static["metadata"].items() if key != "uid"}
        metadata["annotations"] = {**metadata["annotations"], MIRROR: metadata["annotations"][HASH]}
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": meta.name(node), "uid": meta.uid(node), "controller": True}
        ]
        wanted = {**self._static, "metadata": metadata}
        try:
            made = await self._client.create("pods", wanted, metadata["namespace"])
        except StatusError as error:
            if error.code != 409:
                raise
            made = await self._take_over(metadata)
        self.mirrored(made)

    async def _take_over(self, metadata: Object) -> Object:
        """A mirror of ours that is there already; one of another content goes."""
        found = await self._client.get("pods", metadata["name"], metadata["namespace"])
        if meta.annotations(found).get(MIRROR) == metadata["annotations"][MIRROR] and not meta.is_deleting(found):
            return found
        if MIRROR in meta.annotations(found):
            await delete_mirror(self._client, found)
        raise OSError(f"pod {meta.key(found)} is in the way of a static pod")

    async def remove(self) -> None:
        """The static pod is no more."""
        self._gone = True
        if self._mirror is not None:
            with suppress(StatusError, OSError):
                await delete_mirror(self._client, self._mirror)


async def delete_mirror(client: Client, mirror: Object) -> None:
    with suppress(StatusError):
        await client.delete(
            "pods", meta.name(mirror), meta.namespace(mirror), uid=meta.uid(mirror), grace_period_seconds=0
        )


class StaticPods:
    """`run` follows the folder until cancelled. Mirrors that the API shows come by `mirror_seen` and `mirror_gone`."""

    def __init__(self, client: Client, clock: Clock, folder: Path, node: Callable[[], Object], pods: Pods) -> None:
        self._client = client
        self._clock = clock
        self._folder = folder
        self._node = node
        self._pods = pods
        self._writers: dict[str, MirrorWriter] = {}
        self._keys: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._tasks = BackgroundTasks(log)

    async def run(self) -> None:
        watch: FolderWatch | None = None
        try:
            while True:
                self._changed.clear()
                if watch is None:
                    with suppress(OSError):  # it may come yet
                        watch = FolderWatch(self._folder, self._changed.set)
                self.look()
                with suppress(TimeoutError):
                    async with self._clock.timeout(CHECK_SECONDS):
                        await self._changed.wait()
        finally:
            if watch is not None:
                watch.close()
            self._tasks.cancel()

    def look(self) -> None:
        """Start what has come, stop what has gone."""
        found = {meta.uid(pod): pod for pod in read_folder(self._folder, meta.name(self._node()))}
        for uid in [uid for uid in self._writers if uid not in found]:
            del self._writers[uid], self._keys[uid]
            self._pods.stop_static(uid)
        for uid, pod in found.items():
            if uid not in self._writers:
                pod["metadata"]["annotations"][SEEN] = self._clock.now().isoformat().replace("+00:00", "Z")
                writer = MirrorWriter(self._client, pod, self._node)
                self._writers[uid], self._keys[uid] = writer, meta.key(pod)
                self._pods.start_static(pod, writer)

    def mirror_seen(self, mirror: Object, wake: Callable[[str], None]) -> None:
        """`wake` the worker of a static pod (its uid), whose status is to be written anew."""
        uid = meta.annotations(mirror)[MIRROR]
        writer = self._writers.get(uid)
        if meta.is_deleting(mirror) or writer is None or self._keys[uid] != meta.key(mirror):
            self._tasks.spawn(delete_mirror(self._client, mirror), f"kubelet removing mirror pod {meta.key(mirror)}")
            return
        known = writer.mirror_uid
        writer.mirrored(mirror)
        if known != meta.uid(mirror):
            wake(uid)

    def mirror_gone(self, mirror: Object, wake: Callable[[str], None]) -> None:
        uid = meta.annotations(mirror)[MIRROR]
        writer = self._writers.get(uid)
        if writer is not None and writer.lost(meta.uid(mirror)):
            wake(uid)
