"""Sets up, refreshes and takes down the volumes of pods, as folders below the pod's own."""

from __future__ import annotations

import asyncio
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore.api import meta, quantity
from kubecore.clock import Clock
from kubecore.kubelet.cgroups import limits
from kubecore.kubelet.runtime.interface import MemoryDirectory
from kubecore.kubelet.volumes import images, ownership
from kubecore.kubelet.volumes.atomic import write_atomically
from kubecore.kubelet.volumes.claims import CLAIMED, ClaimError, claimed_volume
from kubecore.kubelet.volumes.sources import (
    DEFAULT_MODE,
    Files,
    VolumeError,
    VolumeSurroundings,
    config_map_files,
    downward_files,
    projected_files,
    secret_files,
)
from kubecore.own_threads import on_own_thread

Object = dict[str, Any]

_NANO = 10**9
_FILLED = ("configMap", "secret", "downwardAPI", "projected")
_FOLDERS = {
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
    "emptyDir": "kubernetes.io~empty-dir",
}


def folder_of(declared: Object) -> str | None:
    """Of a volume's files, below its pod's volumes; None of one that is no folder of the pod."""
    kind = next((key for key in declared if key != "name"), "emptyDir")
    return f"{_FOLDERS[kind]}/{declared['name']}" if kind in _FOLDERS else None


class SetUpError(Exception):
    """Volumes are not ready. `messages`: what is to be told of each."""

    def __init__(self, *messages: str) -> None:
        super().__init__(", ".join(messages))
        self.messages = messages

    @classmethod
    def of_volume(cls, name: str, cause: str) -> SetUpError:
        """`cause` is the VolumeError's text."""
        return cls(f'MountVolume.SetUp failed for volume "{name}" : {cause}')

    @classmethod
    def of_claim(cls, name: str, cause: str) -> SetUpError:
        """`cause` is the ClaimError's text, `name` that of the volume in the pod."""
        return cls(
            f"Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], "
            f"failed to process volumes=[{name}]: {cause}"
        )


@dataclass(frozen=True, slots=True)
class Volume:
    """Where a volume is on the host. `in_memory`: what is there (a tmpfs, an image) is seen by the pod's containers
    only."""

    path: Path
    in_memory: bool = False
    read_only: bool = False


class VolumeManager:
    """`pods`: the folder of all pods of the node; a volume is at `<pods>/<uid>/volumes/<plugin>/<name>`."""

    def __init__(self, pods: Path, clock: Clock) -> None:
        self._pods = pods
        self._clock = clock
        self._claimed: dict[str, dict[str, Volume]] = {}
        self._looking: dict[tuple[str, str], asyncio.Task[Path]] = {}

    def folder(self, uid: str) -> Path:
        """Of a pod's volumes."""
        return self._pods / uid / "volumes"

    async def set_up(self, pod: Object, around: VolumeSurroundings) -> dict[str, Volume]:
        """Make all volumes, or bring them up to date; idempotent. Raises SetUpError."""
        volumes: dict[str, Volume] = {}
        failed: list[SetUpError] = []
        for declared in pod["spec"].get("volumes") or []:
            name = declared["name"]
            try:
                volumes[name] = await self._set_up_one(pod, declared, around)
            except ClaimError as error:
                failed.append(SetUpError.of_claim(name, str(error)))
            except VolumeError as error:
                failed.append(SetUpError.of_volume(name, str(error)))
            except OSError as error:
                failed.append(SetUpError.of_volume(name, f"{error.filename or name}: {(error.strerror or '').lower()}"))
            except SetUpError as error:
                failed.append(error)
        if failed:
            raise SetUpError(*(message for error in failed for message in error.messages))
        return volumes

    async def _set_up_one(self, pod: Object, declared: Object, around: VolumeSurroundings) -> Volume:
        kind = next((key for key in declared if key != "name"), "emptyDir")
        if kind == "hostPath":
            source = declared["hostPath"]
            return Volume(await self._beside(pod, declared, lambda: _host_path(source)))
        if kind in CLAIMED:
            return await self._set_up_claimed(pod, declared, around)
        if kind == "image":
            path = self.folder(meta.uid(pod)) / images.FOLDER / declared["name"]
            path.mkdir(parents=True, exist_ok=True)
            return Volume(path, in_memory=True, read_only=True)
        if kind not in _FOLDERS:
            raise _unsupported(kind, declared[kind])
        path = self._pods / meta.uid(pod) / "volumes" / _FOLDERS[kind] / declared["name"]
        fresh = not path.is_dir()
        path.mkdir(parents=True, exist_ok=True)
        group = ownership.group_of(pod)
        if kind == "emptyDir":
            medium = _medium(declared["emptyDir"] or {})
            if fresh:
                path.chmod(0o777)
                if group is not None:
                    ownership.give(path, group, writable=True)
            return Volume(path, in_memory=medium == "Memory")
        files = await _files(pod, declared, kind, around)
        if fresh:
            path.chmod(0o755)
            if group is not None:
                ownership.give(path, group, writable=False)
        write_atomically(path, files, self._clock.now(), group=group)
        return Volume(path, read_only=True)

    async def _set_up_claimed(self, pod: Object, declared: Object, around: VolumeSurroundings) -> Volume:
        """What a pod has once it keeps, whatever becomes of the claim."""
        known = self._claimed.setdefault(meta.uid(pod), {})
        volume = known.get(declared["name"])
        if volume is None:
            claimed = claimed_volume(pod, declared, around.lookup)
            given = claimed.kind == "local" and not claimed.read_only

            def ready() -> Path:
                path = _persistent_path(claimed.kind, claimed.source)
                if given:
                    _give_to_pod(path, pod)
                return path

            try:
                path = await self._beside(pod, declared, ready)
            except VolumeError as error:
                raise SetUpError.of_volume(meta.name(claimed.volume), str(error)) from error
            volume = known[declared["name"]] = Volume(path, read_only=claimed.read_only)
        return volume

    async def _beside(self, pod: Object, declared: Object, work: Callable[[], Path]) -> Path:
        """On a thread of its own: a volume may have many files, and its server may not answer. Who has waited long
        enough and asks again waits for the same thread, so that there is never more than one for a volume."""
        key = meta.uid(pod), declared["name"]
        looking = self._looking.get(key)
        if looking is None:
            looking = asyncio.create_task(on_own_thread(work, "kubelet setting up a volume"))
            self._looking[key] = looking
            looking.add_done_callback(lambda done: self._looked(key, done))
        async with self._clock.outside(float("inf")):
            return await asyncio.shield(looking)

    def _looked(self, key: tuple[str, str], done: asyncio.Task[Path]) -> None:
        del self._looking[key]
        if not done.cancelled():
            done.exception()  # nobody may be there to hear of it any more

    def memory_directories(self, pod: Object, node_memory: int) -> tuple[MemoryDirectory, ...]:
        """In-memory volumes, whose folders the sandbox must cover by a tmpfs. None can hold more than its pod may have,
        or all pods of the node (`node_memory`, in bytes)."""
        found = []
        most = min(limits.of_pod(pod).memory or node_memory, node_memory)
        group = ownership.group_of(pod)
        for declared in pod["spec"].get("volumes") or []:
            source = declared.get("emptyDir") or {}
            if source.get("medium") == "Memory":
                path = self._pods / meta.uid(pod) / "volumes" / _FOLDERS["emptyDir"] / declared["name"]
                limit = quantity.nano(source.get("sizeLimit") or "0") // _NANO
                mode = 0o777 if group is None else ownership.granted(0o777, writable=True, folder=True)
                found.append(MemoryDirectory(path, min(limit or most, most), mode, group))
        return tuple(found)

    def take_down(self, uid: str) -> None:
        """Remove the pod's volumes. Host paths are not the kubelet's to touch, nor are persistent volumes."""
        self._claimed.pop(uid, None)
        shutil.rmtree(self._pods / uid / "volumes", ignore_errors=True)


def _give_to_pod(path: Path, pod: Object) -> None:
    group = ownership.group_of(pod)
    policy = (pod["spec"].get("securityContext") or {}).get("fsGroupChangePolicy")
    if group is not None and (policy != "OnRootMismatch" or not ownership.is_given(path, group)):
        ownership.give_tree(path, group)


def _medium(source: Object) -> str:
    """Raises VolumeError."""
    medium = source.get("medium") or ""
    if medium not in ("", "Memory"):
        raise VolumeError(f"medium {medium} is not supported on this node")
    return str(medium)


async def _files(pod: Object, declared: Object, kind: str, around: VolumeSurroundings) -> Files:
    source = declared[kind] or {}
    mode = source.get("defaultMode", DEFAULT_MODE)
    if kind == "configMap":
        return config_map_files(pod, source, mode, around.lookup)
    if kind == "secret":
        return secret_files(pod, source, mode, around.lookup)
    if kind == "downwardAPI":
        return downward_files(pod, source, mode, around)
    return await projected_files(pod, source, around)


def is_filled(declared: Object) -> bool:
    """Whether the volume's files follow something that may change while the pod runs."""
    return any(kind in declared for kind in _FILLED)


_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


def _host_path(source: Object) -> Path:
    path, kind = Path(source["path"]), source.get("type") or ""
    if not path.exists():
        if kind in ("", "DirectoryOrCreate"):
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate":
            path.touch(mode=0o644)
    if kind:
        check, what = _CHECKS.get(kind, (stat.S_ISDIR, kind))
        if not path.exists() or not check(path.stat().st_mode):
            raise VolumeError(f"hostPath type check failed: {path} is not {what}")
    return path


def _unsupported(kind: str, source: Object) -> VolumeError:
    if kind == "csi":
        known = f"driver name {source.get('driver', '')} not found in the list of registered CSI drivers"
        return VolumeError(f"kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {known}")
    return VolumeError(f"volumes of type {kind} are not supported on this node")


def _persistent_path(kind: str, source: Object) -> Path:
    """Where a persistent volume is on this host."""
    if kind == "hostPath":
        return _host_path(source)
    if kind != "local":
        raise _unsupported(kind, source)
    path = Path(source["path"])
    if not path.is_dir():
        raise VolumeError(f'path "{path}" does not exist')
    return path


def check_relative(path: str) -> None:
    """Raises VolumeError for one that leads out of its volume by what it says."""
    if path.startswith("/") or ".." in path.split("/"):
        if path.startswith("/"):
            raise VolumeError(f"error SubPath `{path}` must not be an absolute path")
        raise VolumeError(f"unable to provision SubPath `{path}`: must not contain '..'")


def check_sub_path(volume: Path, relative: str) -> None:
    """Whether it can be mounted, to say so in words. What counts is that the runtime looks again when it mounts it.
    Raises VolumeError if it leads out of the volume, and OSError. The volume's server may not answer."""
    base = volume.resolve()
    found = (volume / relative).resolve()
    if found != base and base not in found.parents:
        raise VolumeError(f"subPath {relative!r} leads out of the volume")
