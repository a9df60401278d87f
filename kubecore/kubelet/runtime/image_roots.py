"""Plans what a container of the `oci` runtime sees: its image's layers with a writable one on top, and mounts in it.

Everything is put together below the new root before that is entered. Links in the image are followed when this is
planned, as if its root were ours, so that none leads to the host; the layers do not change, and the uppermost is
empty until the process starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from kubecore.images.store import Image
from kubecore.images.view import ImageView
from kubecore.kubelet.runtime import launching, mounting, seen_groups
from kubecore.kubelet.runtime.interface import Mount
from kubecore.kubelet.runtime.launching import Step
from kubecore.kubelet.runtime.seen_groups import NO_GROUPS, Groups

# The OCI runtimes' defaults.
MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/timer_list")
MASKED_FOLDERS = ("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_MOST_OPTION_BYTES = 4000
WRITTEN = Path("image") / "upper"
"""Within a container's folder, what it has changed of its image."""


@dataclass(frozen=True, slots=True)
class ImageRoot:
    """`folder`: of the container's own, for what it changes; empty folders `upper`, `work` and `root` are in it.
    `in_user_namespace`: overlayfs keeps its marks where users may write them."""

    image: Image
    folder: Path
    in_user_namespace: bool

    @classmethod
    def make(cls, image: Image, folder: Path, *, in_user_namespace: bool) -> ImageRoot:
        for name in ("upper", "work", "root"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o755)
        return cls(image, folder, in_user_namespace)

    def mount(self) -> Step:
        """Raises MountFailure."""
        lower = ":".join(str(one) for one in self.image.layers) or str(self.folder / "root")
        options = f"lowerdir={lower},upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        if self.in_user_namespace:
            options += ",userxattr"
        if len(options) > _MOST_OPTION_BYTES:
            raise mounting.MountFailure(f"the image has too many layers ({len(self.image.layers)})")
        return launching.mount("overlay", str(self.folder / "root"), filesystem="overlay", data=options)


def image_steps(
    root: ImageRoot,
    mounts: Sequence[Mount],
    *,
    shared_memory: Path | None,
    own_processes: bool,
    own_network: bool,
    privileged: bool,
    also: str,
    read_only_root: bool,
    console: str = "",
    shared: mounting.Shared = MappingProxyType({}),
    staged: Mapping[Mount, Mount] = MappingProxyType({}),
    groups: Groups = NO_GROUPS,
) -> list[Step]:
    """All steps of one container; the arguments are those of `mounting.container_steps`. `staged`: what stands for a
    mount where it was prepared (`mapped_roots`). `groups`: what is seen of control groups, if not the host's. Raises
    MountFailure."""
    plan = _Plan(str(root.folder / "root"), root.image.view())
    peers = mounting.keeps_peers([staged.get(one, one) for one in mounts])
    steps = [*mounting.private_steps(peers=peers), root.mount()]
    for folder in ("/proc", "/sys", "/dev", "/etc"):
        steps += plan.make(folder, folder=True)
    steps += plan.system(
        own_processes=own_processes,
        own_network=own_network,
        privileged=privileged,
        shared_memory=shared_memory,
        console=console,
        groups=groups,
    )
    for target, entry in volume_places(root.image.view(), mounts):
        steps += plan.make(target, folder=mounting.is_folder(entry))
        steps += mounting.bind_entry(staged.get(entry, entry), plan.inside(target), shared)
    steps += plan.make(plan.resolve(also or "/"), folder=True)
    for entry in mounts:
        if entry.read_only:
            steps.append(launching.read_only(plan.inside(plan.resolve(entry.target)), tree=entry.read_only_below))
    if read_only_root:
        steps.append(launching.read_only(plan.inside("")))
    return [*steps, launching.root(plan.inside(""))]


def volume_places(view: ImageView, mounts: Sequence[Mount]) -> list[tuple[str, Mount]]:
    """Where they come to be in the image, outermost first. Raises MountFailure."""
    found: list[tuple[str, Mount]] = []
    for entry in sorted(mounts, key=lambda one: PurePosixPath(one.target).parts):
        target = resolved(view, entry.target)
        _check_within(target, found)
        if target == "/":
            raise mounting.MountFailure("a volume cannot be mounted at /")
        found.append((target, entry))
    return found


def resolved(view: ImageView, path: str) -> str:
    """With the image's links followed. Raises MountFailure."""
    if not path.startswith("/"):
        raise mounting.MountFailure(f"mount path {path!r} is not absolute")
    return view.resolve(path)


def _check_within(target: str, mounted: Sequence[tuple[str, Mount]]) -> None:
    """A mount point within a volume is made by way of what the volume holds, where a link may have been put to have it
    made elsewhere. (What a memory volume holds cannot be seen from here.)"""
    for outer, entry in mounted:
        if not target.startswith(f"{outer}/"):
            continue
        path = entry.source / entry.sub_path
        for part in PurePosixPath(target).relative_to(outer).parts:
            path /= part
            if path.is_symlink():
                raise mounting.MountFailure(f"failed to mount at {target}: {part!r} is a link within a volume")


@dataclass(frozen=True, slots=True)
class _Plan:
    root: str
    view: ImageView

    def inside(self, path: str) -> str:
        return self.root + path

    def resolve(self, path: str) -> str:
        return resolved(self.view, path)

    def make(self, path: str, *, folder: bool) -> list[Step]:
        """A resolved path, as far as it is missing."""
        parts = PurePosixPath(path).parts[1:]
        steps = [launching.directory(self.inside("/" + "/".join(parts[:depth]))) for depth in range(1, len(parts))]
        if parts:
            last = self.inside(path)
            steps.append(launching.directory(last) if folder else launching.empty_file(last))
        return steps

    def interfaces(self, *, own_network: bool) -> list[Step]:
        """A /sys that tells of the network that it is mounted in, which may be refused just as /proc; and of as little
        as can be of what else the host has mounted there."""
        place = self.inside("/sys")
        flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        if own_network:
            first = launching.mount("sysfs", place, filesystem="sysfs", flags=flags, optional=True)
        else:
            first = launching.bind_alone("/sys", place, optional=True)
        return [first, launching.instead(launching.bind("/sys", place))]

    def system(
        self,
        *,
        own_processes: bool,
        own_network: bool,
        privileged: bool,
        shared_memory: Path | None,
        console: str,
        groups: Groups,
    ) -> list[Step]:
        """/proc, /sys and /dev."""
        flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        steps = [launching.bind("/proc", self.inside("/proc"))]
        if own_processes:
            # Refused in a user namespace while parts of /proc are hidden (inside Docker): then the old one must do.
            steps.append(launching.mount("proc", self.inside("/proc"), filesystem="proc", flags=flags, optional=True))
        steps += self.interfaces(own_network=own_network)
        folder = str(seen_groups.FOLDER)
        if groups.places:
            steps += groups.steps(self.inside(folder))
        else:
            steps.append(launching.bind(folder, self.inside(folder), optional=True))
        if privileged:
            steps.append(launching.bind("/dev", self.inside("/dev")))
            if shared_memory is not None:
                steps.append(launching.bind(str(shared_memory), self.inside("/dev/shm"), optional=True))
            return steps
        steps.append(launching.read_only(self.inside("/sys"), tree=True))
        steps += mounting.devices(self.inside("/dev"), shared_memory, console)
        for path in READ_ONLY:
            steps.append(launching.bind(self.inside(path), self.inside(path), optional=True))
            steps.append(launching.optional(launching.read_only(self.inside(path))))
        steps += [launching.bind("/dev/null", self.inside(path), optional=True) for path in MASKED_FILES]
        read_only = launching.MS_READ_ONLY
        return steps + [
            launching.mount("tmpfs", self.inside(path), filesystem="tmpfs", flags=read_only, optional=True)
            for path in MASKED_FOLDERS
        ]
