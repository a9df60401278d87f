"""What a container of a pod with users of its own is made of, put together before those are entered.

Nobody in such a user namespace may map what the host has mounted, nor look into the pod's folder. So the host's root
gathers it, below a root of its own: the image's layers, stacked at /container/root, each volume at /volumes/N, and what
containers have of the host. The container's process comes to that as user 0 of its namespace, copies it into a mount
namespace of its own, and goes on as any other (`image_roots.image_steps`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kubecore.images.store import Image, remove_tree
from kubecore.kubelet.runtime import launching, mounting
from kubecore.kubelet.runtime.image_roots import ImageRoot
from kubecore.kubelet.runtime.interface import MemoryDirectory, Mount
from kubecore.kubelet.runtime.launching import Step
from kubecore.kubelet.runtime.pod_users import PodUsers

_LAYERS = "/layers"
_WRITTEN = "/container"
_ROOT = f"{_WRITTEN}/root"
_SHARED_MEMORY = "/shm"
_OF_HOST = ("/proc", "/sys", "/dev")
_COVERS = ("/mnt", "/media", "/srv", "/opt", "/home")


class StagedRoot(ImageRoot):
    """An image's root that is mounted already."""

    @classmethod
    def of(cls, root: ImageRoot) -> StagedRoot:
        return cls(root.image, Path(_WRITTEN), in_user_namespace=False)

    def mount(self) -> Step:
        """Anew: what a user namespace has got from outside can be nobody's root."""
        return launching.bind(_ROOT, _ROOT)


@dataclass(frozen=True, slots=True)
class Stage:
    """`folder`, on which it is made by `steps`. `mounts`: where the container's are once they are done, as are
    `shared_memory`, the pod's, and `root`, the image."""

    folder: Path
    steps: list[Step]
    mounts: Mapping[Mount, Mount]
    shared_memory: Path | None
    root: Path


def give_to_pod(folder: Path, users: PodUsers) -> None:
    """What is written to an image is the pod's from its root on. Raises OSError."""
    for name in ("upper", "work"):
        os.chown(folder / name, users.first, users.first)


def stage(
    root: ImageRoot,
    mounts: Sequence[Mount],
    *,
    folder: Path,
    users: PodUsers,
    shared_memory: Path | None,
    shared: mounting.Shared,
    images: Collection[Path] = (),
    enter: bool = True,
) -> Stage:
    """`folder`: an empty one to build it on, made with it. `images`: sources that are mapped already, by their layers.
    `enter`: nothing is to be seen any more of what is not in there. Raises MountFailure."""
    place = str(folder)
    prefix = "" if enter else place
    steps = [*mounting.private_steps(), launching.mount("tmpfs", place, filesystem="tmpfs", data="mode=755")]
    steps += _layers(root, place, users)
    for path in _OF_HOST if enter else ():
        steps += [launching.directory(place + path), launching.bind(path, place + path)]
    staged: dict[Mount, Mount] = {}
    steps.append(launching.directory(f"{place}/volumes"))
    for number, entry in enumerate(mounts):
        inside = f"/volumes/{number}"
        staged[entry] = _staged(entry, prefix + inside)
        whole = mounting.is_folder(entry)
        steps.append(launching.directory(place + inside) if whole else launching.empty_file(place + inside))
        steps += mounting.bind_entry(entry, place + inside, shared)
        if entry.source not in images:
            steps.append(launching.bind_mapped(place + inside, place + inside, users.path))
        if entry.read_only_below:
            steps.append(launching.read_only(place + inside, tree=True))
    if shared_memory is not None:
        there = place + _SHARED_MEMORY
        steps += [launching.directory(there), launching.bind_mapped(str(shared_memory), there, users.path)]
    if enter:
        steps.append(launching.root(place))
    steps.append(_stack(root, prefix))
    memory = Path(prefix + _SHARED_MEMORY) if shared_memory is not None else None
    return Stage(folder, steps, staged, memory, Path(prefix + _ROOT))


def prepare(stage: Stage, mounts: int) -> launching.Namespaces:
    """A mount namespace that has it, made of the sandbox's, `mounts`. Raises OSError."""
    stage.folder.mkdir(exist_ok=True)
    return launching.create_namespaces(launching.NEW_MOUNT, steps=stage.steps, join=[(mounts, launching.NEW_MOUNT)])


def cover(needed: Iterable[Path]) -> Path:
    """A folder that everybody may enter, and below which is none of what is `needed`: in a mount namespace of one's own
    something else may be there. Raises MountFailure."""
    places = [one.resolve() for one in needed]
    for found in map(Path, _COVERS):
        if found.is_dir() and not any(one.is_relative_to(found.resolve()) for one in places):
            return found
    raise mounting.MountFailure(f"all of {', '.join(_COVERS)} are missing, or are needed")


def score(pid: int, adjustment: int) -> None:
    """For the kernel's choice when memory is short, which its user may not lower."""
    with suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(adjustment))


def _layers(root: ImageRoot, place: str, users: PodUsers) -> list[Step]:
    """Whose an image's files are is told by their layers: overlayfs itself takes no map."""
    steps = [launching.directory(place + one) for one in (_LAYERS, _WRITTEN)]
    steps.append(launching.bind(str(root.folder), place + _WRITTEN))
    for number, layer in enumerate(root.image.layers):
        target = f"{place}{_LAYERS}/{number}"
        steps += [launching.directory(target), launching.bind_mapped(str(layer), target, users.path)]
    return steps


def _stack(root: ImageRoot, prefix: str) -> Step:
    """By the short names that the layers have where all this is."""
    layers = tuple(Path(f"{prefix}{_LAYERS}/{number}") for number in range(len(root.image.layers)))
    image = Image(root.image.id, root.image.config, layers)
    inside = ImageRoot(image, Path(prefix + _WRITTEN), in_user_namespace=False)
    return inside.mount()


def _staged(entry: Mount, inside: str) -> Mount:
    """What the host's side shares of it stays there."""
    propagation = "HostToContainer" if entry.propagation == "Bidirectional" else entry.propagation
    return replace(entry, source=Path(inside), sub_path="", propagation=propagation)


def lack(folder: Path) -> str:
    """Why pods cannot have users of their own where their files and images are below `folder`, found out by trying; ""
    if they can. A kernel may map what is on a disk, but neither overlayfs's layers (before 5.19) nor memory (6.3)."""
    if os.geteuid() != 0:
        return "that takes root"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        place = Path(made)
        for name in ("image", "layer", "memory"):
            (place / name).mkdir()
        root = ImageRoot.make(Image("", {}, (place / "layer",)), place / "image", in_user_namespace=False)
        try:
            return _try(root, place)
        finally:
            remove_tree(place / "image" / "work")


def _try(root: ImageRoot, place: Path) -> str:
    users = None
    mounts = launching.Namespaces()
    try:
        users = PodUsers.make()
        memory = mounting.sandbox_steps([MemoryDirectory(place / "memory")])
        mounts = launching.create_namespaces(launching.NEW_MOUNT, steps=memory)
        tried = stage(root, (), folder=place / "stage", users=users, shared_memory=place / "memory", shared={})
        prepare(tried, mounts.mount).close()
    except (OSError, launching.ExecFailure) as error:
        return str(error.strerror or error) if isinstance(error, OSError) else str(error)
    finally:
        mounts.close()
        if users is not None:
            users.release()
    return ""
