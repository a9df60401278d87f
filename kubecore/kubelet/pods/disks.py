"""What pods have on the node's disk: their logs, their volumes, and what they have written beside those.

As upstream counts it (kubernetes `pkg/volume/util/util.go`, IsLocalEphemeralVolume; `pkg/kubelet/stats/helper.go`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubecore.kubelet.logs import writing as logs
from kubecore.kubelet.runtime.image_roots import WRITTEN
from kubecore.kubelet.runtime.interface import Runtime, RuntimeFailure, Written
from kubecore.kubelet.runtime.scratch import scratch_of
from kubecore.kubelet.serving.usage import RunningPod
from kubecore.kubelet.volumes.manager import folder_of

log = logging.getLogger(__name__)

Object = dict[str, Any]

_NOTHING = Written()


@dataclass(frozen=True, slots=True)
class PodDisk:
    """`logs` of each container that has been, `layers` of each that runs: what it has changed of its image. `volumes`:
    those that are folders of the pod on this disk. `uncounted`: those of them that no limit is for."""

    logs: Mapping[str, Written] = field(default_factory=dict)
    layers: Mapping[str, Written] = field(default_factory=dict)
    volumes: Mapping[str, Written] = field(default_factory=dict)
    uncounted: Collection[str] = ()

    def of_container(self, name: str) -> Written:
        return total([self.logs.get(name, _NOTHING), self.layers.get(name, _NOTHING)])

    @property
    def ephemeral(self) -> Written:
        """What counts for its limits."""
        volumes = [one for name, one in self.volumes.items() if name not in self.uncounted]
        return total([*self.logs.values(), *self.layers.values(), *volumes])


class PodDisks:
    """`root`: the node's folder. `runtimes`: all of the node's."""

    def __init__(self, root: Path, runtimes: Callable[[], Iterable[Runtime]]) -> None:
        self._root = root
        self._runtimes = runtimes

    async def of(self, pods: Sequence[tuple[Object, RunningPod]]) -> dict[str, PodDisk]:
        """By the pod's uid; measured now, in a thread."""
        layers = await self._layers() if pods else {}
        return await asyncio.to_thread(lambda: {one.uid: self._measured(pod, one, layers) for pod, one in pods})

    async def _layers(self) -> dict[str, Written]:
        found: dict[str, Written] = {}
        for runtime in self._runtimes():
            try:
                found |= await runtime.written_layers()
            except (RuntimeFailure, TimeoutError) as error:
                log.warning("%s does not tell what containers have written: %s", runtime.name, error)
        return found

    def _measured(self, pod: Object, running: RunningPod, layers: Mapping[str, Written]) -> PodDisk:
        own = self._root / "pods" / running.uid
        folder = logs.pod_log_directory(self._root, running.namespace, running.name, running.uid)
        volumes = {
            one["name"]: own / "volumes" / place
            for one in pod["spec"].get("volumes") or []
            if (place := folder_of(one)) is not None and not in_memory(one)
        }
        return PodDisk(
            logs={name: written_in(folder / name) for name in _names_in(folder)},
            layers={
                one.name: layers.get(one.id) or written_in(own / scratch_of(one.id) / WRITTEN)
                for one in running.containers
            },
            volumes={name: written_in(path) for name, path in volumes.items()},
            uncounted=[one["name"] for one in pod["spec"].get("volumes") or [] if not _counts(one)],
        )


def _names_in(folder: Path) -> list[str]:
    """None of one that is not there, or goes meanwhile with its pod."""
    try:
        return [one.name for one in folder.iterdir()]
    except OSError:
        return []


def in_memory(volume: Object) -> bool:
    return bool((volume.get("emptyDir") or {}).get("medium") == "Memory")


def _counts(volume: Object) -> bool:
    return "configMap" in volume or ("emptyDir" in volume and not in_memory(volume))


def total(parts: Iterable[Written]) -> Written:
    known = list(parts)
    return Written(sum(one.bytes for one in known), sum(one.inodes for one in known))


def written_in(folder: Path) -> Written:
    """The folder and all below, each file once however many names it has. Other file systems are left out; nothing of
    a folder that is not there."""
    try:
        top = folder.lstat()
    except OSError:
        return _NOTHING
    size, seen, waiting = top.st_blocks * 512, {top.st_ino}, [folder]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    about = entry.stat(follow_symlinks=False)
                    if about.st_dev != top.st_dev or about.st_ino in seen:
                        continue
                    seen.add(about.st_ino)
                    size += about.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
    return Written(size, len(seen))
