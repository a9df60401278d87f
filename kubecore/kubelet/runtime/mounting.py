"""Plans what a container of the host runtime sees: the host's file system with volumes mounted into it.

Mount points need not exist on the host, and nothing may be made there. Where one is missing, the nearest folder that
does exist is replaced, within the container's private mount namespace, by a *mimic*: a tmpfs holding the same entries
(folders and files bind-mounted, links copied) and the missing mount points beside them. A mimic of `/` becomes the
container's root. snapd does the same and calls it so.

Planning is done before the process exists and only looks at the host; the steps are carried out by the launcher.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from kubecore.kubelet.runtime import launching
from kubecore.kubelet.runtime.interface import ImageDirectory, MemoryDirectory, Mount
from kubecore.kubelet.runtime.launching import Step

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_GROUPS = "/sys/fs/cgroup"
_DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}


Shared = Mapping[Path, Path]
"""By a volume's path: where in the pod's mount namespace a peer of it is (`propagation.share`)."""


class MountFailure(Exception):
    """A mount cannot be planned; the text is for the pod's events."""


def private_steps(*, peers: bool = False) -> list[Step]:
    """Nothing mounted from here on reaches the host; what the host unmounts still goes away here. `peers`: the pod's
    namespace has seen to that, and what it has put there since stays as it is."""
    return [] if peers else [launching.mount("", "/", flags=launching.MS_SLAVE | launching.MS_RECURSIVE)]


def sandbox_steps(
    directories: Sequence[MemoryDirectory],
    images: Sequence[ImageDirectory] = (),
    *,
    in_user_namespace: bool = False,
    users: str = "",
) -> list[Step]:
    """The pod's own mount namespace: tmpfs on its in-memory volumes, and images on others, seen by all its containers,
    never by the host. `users`: the file of a user namespace, whose users an image's files are to belong to."""
    steps = private_steps()
    for one in directories:
        data = one.options(any_group=not in_user_namespace)
        flags = launching.MS_NOSUID | launching.MS_NODEV
        steps.append(launching.mount("tmpfs", str(one.path), filesystem="tmpfs", flags=flags, data=data))
    for image in images:
        layers = image.layers
        if users:
            layers = tuple(image.path / str(number) for number in range(len(layers)))
            steps.append(launching.mount("tmpfs", str(image.path), filesystem="tmpfs", data="mode=755"))
            for layer, place in zip(image.layers, layers, strict=True):
                steps.append(launching.directory(str(place)))
                steps.append(launching.bind_mapped(str(layer), str(place), users))
            steps.append(launching.directory(f"{image.path}/empty"))
        # Two layers at least are wanted; the folder itself is empty.
        empty = image.path / "empty" if users else image.path
        data = f"lowerdir={':'.join(map(str, (*layers, empty)))}"
        data += ",userxattr" if in_user_namespace else ""
        flags = launching.MS_READ_ONLY | launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        steps.append(launching.mount("overlay", str(image.path), filesystem="overlay", flags=flags, data=data))
    return steps


def sysctl_steps(sysctls: Sequence[tuple[str, str]]) -> list[Step]:
    """What is set for its other namespaces."""
    return [launching.write(sysctl_file(name), value) for name, value in sysctls]


def sysctl_file(name: str) -> str:
    """Dots separate, or slashes where those come first (net/ipv4/conf/eth0.1), as sysctl(8) reads them."""
    dot, slash = name.find("."), name.find("/")
    if slash < 0 or 0 <= dot < slash:
        name = name.translate(str.maketrans("./", "/."))
    return f"/proc/sys/{name}"


def container_steps(
    mounts: Sequence[Mount],
    *,
    scratch: Path,
    shared_memory: Path | None,
    own_processes: bool,
    own_network: bool,
    own_devices: bool,
    also: str = "",
    read_only_root: bool = False,
    console: str = "",
    shared: Shared = MappingProxyType({}),
) -> list[Step]:
    """All steps of one container.

    `scratch`: an empty folder of the host to build mimics on. `shared_memory`: the host's path of the pod's /dev/shm.
    `own_processes`: the container has its own pid namespace, so /proc must show it. `own_network`: it has its pod's, of
    whose interfaces /sys must tell. `own_devices`: give it a small /dev instead of the host's, with `console`, the path
    of a terminal, as its console. `also`: a folder (the working directory) that must exist, too. `read_only_root`:
    everything but what is mounted here.
    """
    plan = _Plan(scratch, keeps_peers(mounts))
    volumes = [replace(entry, target=_resolve(entry.target)) for entry in mounts]
    volumes.sort(key=lambda entry: PurePosixPath(entry.target).parts)
    if own_devices:
        plan.covered.append("/dev")
    for entry in volumes:
        if entry.target == "/":
            raise MountFailure("a volume cannot be mounted at /")
        plan.need(entry.target, folder=is_folder(entry))
        plan.covered.append(entry.target)
    if also:
        plan.need(_resolve(also), folder=True)
    sources = [str(scratch), *(os.path.realpath(shared.get(entry.source, entry.source)) for entry in volumes)]
    hidden = any(_is_below(source, cover) for cover in plan.covered for source in sources)
    steps = plan.base(apart=hidden or read_only_root, read_only=read_only_root)
    if own_processes:
        flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        # Refused in a user namespace while parts of /proc are hidden (inside Docker): then the old one must do.
        steps.append(launching.mount("proc", plan.inside("/proc"), filesystem="proc", flags=flags, optional=True))
    if own_devices:
        steps += plan.devices(shared_memory, console)
    elif shared_memory is not None:
        steps.append(launching.bind(str(shared_memory), plan.inside("/dev/shm"), optional=True))
    if own_network:
        steps += plan.interfaces(scratch_is_mounted=own_devices, read_only=own_devices)
    for entry in volumes:
        steps += plan.make_within_volume(entry.target)
        steps += bind_entry(entry, plan.inside(entry.target), shared)
    if also:
        steps += plan.make_within_volume(_resolve(also))
    steps += [
        launching.read_only(plan.inside(entry.target), tree=entry.read_only_below)
        for entry in volumes
        if entry.read_only
    ]
    return steps + plan.finish()


def bind_entry(entry: Mount, target: str, shared: Shared) -> list[Step]:
    """Make it appear there."""
    both_ways = entry.propagation == "Bidirectional"
    source = str(shared[entry.source] if both_ways else entry.source)
    step = launching.bind_beneath(source, entry.sub_path, target) if entry.sub_path else launching.bind(source, target)
    if both_ways:
        return [step]
    kind = launching.MS_SLAVE if entry.propagation == "HostToContainer" else launching.MS_PRIVATE
    return [step, launching.mount("", target, flags=kind | launching.MS_RECURSIVE)]


def keeps_peers(mounts: Sequence[Mount]) -> bool:
    return any(one.propagation == "Bidirectional" for one in mounts)


def is_folder(entry: Mount) -> bool:
    """Whether its mount point has to be one. What is not there yet will be made, a folder; should it become something
    else meanwhile, mounting fails."""
    if not entry.sub_path:
        return entry.source.is_dir()
    if entry.in_memory:
        return True
    found = entry.source / entry.sub_path
    return found.is_dir() or not found.exists()


def _resolve(path: str) -> str:
    """The path with the host's symbolic links followed, as far as it exists."""
    if not path.startswith("/"):
        raise MountFailure(f"mount path {path!r} is not absolute")
    return os.path.realpath(path)


def devices(where: str, shared_memory: Path | None, console: str = "") -> list[Step]:
    """A small /dev (the OCI runtime specification's default devices): nodes are the host's, terminals are private.
    `console`: the terminal of the container's process, on the host. `shared_memory`: None for the host's."""
    flags = launching.MS_NOSUID
    steps = [launching.mount("tmpfs", where, filesystem="tmpfs", flags=flags, data="mode=755,size=65536k")]
    for name in _DEVICES:
        steps += [launching.empty_file(f"{where}/{name}"), launching.bind(f"/dev/{name}", f"{where}/{name}")]
    steps += [launching.symlink(target, f"{where}/{name}") for name, target in _DEVICE_LINKS.items()]
    steps += [
        launching.directory(f"{where}/pts"),
        launching.mount(
            "devpts",
            f"{where}/pts",
            filesystem="devpts",
            flags=launching.MS_NOSUID | launching.MS_NOEXEC,
            data="newinstance,ptmxmode=0666,mode=0620",
            optional=True,
        ),
        launching.directory(f"{where}/mqueue"),
        launching.mount("mqueue", f"{where}/mqueue", filesystem="mqueue", optional=True),
        launching.directory(f"{where}/shm", 0o1777),
    ]
    steps.append(launching.bind(str(shared_memory or "/dev/shm"), f"{where}/shm", optional=shared_memory is None))
    if console:  # by which the process finds the name of its terminal
        steps += [launching.empty_file(f"{where}/console"), launching.bind(console, f"{where}/console", optional=True)]
    return steps


@dataclass
class _Plan:
    """Which folders need mimics, and where things are while the container's root is being built.

    Order matters: mimics outermost first, then mounts outermost first, so that an inner one is made inside the outer.
    """

    scratch: Path
    keeps_peers: bool
    covered: list[str] = field(default_factory=list)
    """Where something is already mounted: a mount point below one is made through it when its turn comes."""
    _missing: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Existing folder -> path of a missing mount point below it -> whether it is a folder."""
    _inside_volume: dict[str, bool] = field(default_factory=dict)

    def need(self, target: str, *, folder: bool) -> None:
        """`target` must exist in the container."""
        if any(_is_below(target, cover) for cover in self.covered):
            self._inside_volume[target] = folder
            return
        if Path(target).exists():
            if Path(target).is_dir() != folder:
                kind = "a directory" if folder else "a file"
                raise MountFailure(f"failed to mount {kind} at {target}: what is there is not {kind}")
            return
        ancestor = PurePosixPath(target).parent
        while not Path(ancestor).exists():
            ancestor = ancestor.parent
        if not Path(ancestor).is_dir():
            raise MountFailure(f"failed to mount at {target}: {ancestor} is not a directory")
        self._missing.setdefault(str(ancestor), {})[target] = folder

    @property
    def _new_root(self) -> str:
        return f"{self.scratch}/root" if "/" in self._missing else ""

    def inside(self, path: str) -> str:
        """Where `path` of the container is while its root is still the old one."""
        return self._new_root + path

    def base(self, *, apart: bool, read_only: bool) -> list[Step]:
        """`apart`: the root is a mimic; sources of mounts are outside of it, stay as they are, and are there until all
        is done, whatever is mounted over them inside."""
        steps = private_steps(peers=self.keeps_peers)
        if apart:
            self._missing.setdefault("/", {})
        if not self._missing:
            return steps
        scratch = str(self.scratch)
        steps.append(launching.mount("tmpfs", scratch, filesystem="tmpfs", data="mode=755"))
        for number, folder in enumerate(sorted(self._missing, key=lambda path: PurePosixPath(path).parts)):
            copy = self._new_root if folder == "/" else f"{scratch}/{number}"
            steps += _mimic(folder, copy, self._missing[folder])
            steps.append(launching.bind(copy, copy if folder == "/" else self.inside(folder)))
        if read_only:
            steps.append(launching.read_only(self._new_root, tree=True))
        return steps

    def devices(self, shared_memory: Path | None, console: str) -> list[Step]:
        """A small /dev. What it is made of is the host's own, which it must not cover before it is finished."""
        if self._new_root:
            return devices(self.inside("/dev"), shared_memory, console)
        scratch = str(self.scratch)
        steps = [] if self._missing else [launching.mount("tmpfs", scratch, filesystem="tmpfs", data="mode=755")]
        made = f"{scratch}/dev"
        return [*steps, launching.directory(made), *devices(made, shared_memory, console), launching.bind(made, "/dev")]

    def interfaces(self, *, scratch_is_mounted: bool, read_only: bool) -> list[Step]:
        """A /sys that tells of the network that it is mounted in, and of control groups as before. Refused in a user
        namespace while parts of the host's are hidden: then that must do."""
        flags = launching.MS_NOSUID | launching.MS_NODEV | launching.MS_NOEXEC
        flags |= launching.MS_READ_ONLY if read_only else 0
        place, groups = self.inside("/sys"), self.inside(_GROUPS)
        steps, kept = [], _GROUPS
        if not self._new_root:  # what is to be seen in there must not be covered by it
            kept = f"{self.scratch}/groups"
            if not (self._missing or scratch_is_mounted):
                steps.append(launching.mount("tmpfs", str(self.scratch), filesystem="tmpfs", data="mode=755"))
            steps += [launching.directory(kept), launching.bind(_GROUPS, kept, optional=True)]
        return [
            *steps,
            launching.mount("sysfs", place, filesystem="sysfs", flags=flags, optional=True),
            launching.bind(kept, groups, optional=True),
        ]

    def make_within_volume(self, target: str) -> list[Step]:
        """Make a mount point that lies inside something mounted before, seen through that mount, as runc does."""
        if target not in self._inside_volume:
            return []
        cover = max((path for path in self.covered if _is_below(target, path)), key=len)
        return _make(self.inside(cover), PurePosixPath(target).relative_to(cover), self._inside_volume[target])

    def finish(self) -> list[Step]:
        return [launching.root(self._new_root)] if self._new_root else []


def _is_below(path: str, folder: str) -> bool:
    return path != folder and path.startswith(folder.rstrip("/") + "/")


def _make(base: str, relative: PurePosixPath, folder: bool) -> list[Step]:
    parents = range(1, len(relative.parts))
    steps = [launching.directory(f"{base}/{'/'.join(relative.parts[:depth])}") for depth in parents]
    last = f"{base}/{relative}"
    steps.append(launching.directory(last) if folder else launching.empty_file(last))
    return steps


def _mimic(folder: str, copy: str, missing: dict[str, bool]) -> list[Step]:
    """A folder `copy` with the entries of `folder`, and the missing mount points."""
    steps = [launching.directory(copy, stat.S_IMODE(Path(folder).stat().st_mode))]
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        here = f"{copy}/{entry.name}"
        kind = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            steps.append(launching.symlink(str(Path(entry.path).readlink()), here))
            continue
        steps.append(launching.directory(here) if stat.S_ISDIR(kind) else launching.empty_file(here))
        # What vanished or may not be entered meanwhile is an empty place.
        steps.append(launching.bind(entry.path, here, optional=True))
    for target in sorted(missing, key=lambda path: PurePosixPath(path).parts):
        steps += _make(copy, PurePosixPath(target).relative_to(folder), missing[target])
    return steps
