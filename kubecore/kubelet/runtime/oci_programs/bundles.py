"""What a container is to such a program: the `config.json` of its bundle.

Source: OCI runtime specification 1.0, `config.md` and `config-linux.md`; defaults as containerd has them. Namespaces of
the pod are not named: the program is started within them, and what it is not told to make, a container has of it. What
the image's layers are stacked to is mounted there, too, before the program begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubecore.kubelet.cgroups.interface import CPU_PERIOD_MICROSECONDS, Limits
from kubecore.kubelet.runtime import capabilities, image_roots, launching, mapped_roots, mounting
from kubecore.kubelet.runtime.host_plans import Container, LaunchPlans, Sandbox, file_mounts
from kubecore.kubelet.runtime.interface import Mount
from kubecore.kubelet.runtime.oci_programs import seccomp_spec
from kubecore.kubelet.runtime.pod_users import IDS

Object = dict[str, Any]

_VERSION = "1.0.2"
_PROPAGATION = {"None": "rprivate", "HostToContainer": "rslave", "Bidirectional": "rshared"}
_ANY_DEVICE = {"access": "rwm"}


@dataclass(frozen=True, slots=True)
class Bundles:
    """`program`: whose they are. `own_proc`: whether the kernel lets a /proc be mounted for a pid namespace of one's
    own, `own_sys` a /sys for a network. `quotas`: whether it can limit CPU time."""

    plans: LaunchPlans
    program: Path
    own_proc: bool
    own_sys: bool
    quotas: bool

    def preparing(self, sandbox: Sandbox, container: Container) -> list[launching.Step]:
        """What is mounted before the program begins, in a mount namespace of its own. Raises MountFailure."""
        if container.root is None:
            raise mounting.MountFailure("the container has ended")
        if (stage := self._stage(sandbox, container)) is not None:
            return stage.steps
        mounts = container.config.mounts
        steps = [*mounting.private_steps(peers=mounting.keeps_peers(mounts)), container.root.mount()]
        for place, entry in self._held(container):
            is_folder = mounting.is_folder(entry)
            steps.append(launching.directory(str(place.parent)))
            steps.append(launching.directory(str(place)) if is_folder else launching.empty_file(str(place)))
            steps += mounting.bind_entry(entry, str(place), sandbox.shared)
            if entry.read_only_below:
                steps.append(launching.read_only(str(place), tree=True))
        return steps

    def preparing_inside(self, sandbox: Sandbox, container: Container) -> list[launching.Step]:
        """For a further process: runc begins in a folder of the root's path, whatever is there."""
        stage = self._stage(sandbox, container)
        if stage is None:
            return []
        folders = [stage.folder / one for one in reversed(stage.root.relative_to(stage.folder).parents)]
        made = [launching.directory(str(one)) for one in (*folders[1:], stage.root)]
        return [*mounting.private_steps(), launching.mount("tmpfs", str(stage.folder), filesystem="tmpfs"), *made]

    def _stage(self, sandbox: Sandbox, container: Container) -> mapped_roots.Stage | None:
        """Of a pod with users of its own, who may not enter the pod's folder. Raises MountFailure."""
        if sandbox.users is None or container.root is None:
            return None
        needed = [
            sandbox.config.directory,
            *container.root.image.layers,
            *(one.source for one in container.config.mounts),
        ]
        return self.plans.stage(sandbox, container, cover=mapped_roots.cover([*needed, self.program]))

    def config(self, sandbox: Sandbox, container: Container, *, cgroup: str, first: int) -> Object:
        """`cgroup`: the path of its control group, "" for none. `first`: pid of a process whose pid namespace it is to
        be in, 0 for one of its own. Raises MountFailure, OSError."""
        config = container.config
        if container.root is None:
            raise mounting.MountFailure("the container has ended")
        stage = self._stage(sandbox, container)
        linux: Object = {
            "namespaces": [{"type": "mount"}, *self._processes(sandbox, first)],
            "rootfsPropagation": self._root_propagation(config.mounts),
        }
        if sandbox.users is not None:
            linux["namespaces"].append({"type": "user", "path": sandbox.users.path})
            ids = [{"containerID": 0, "hostID": sandbox.users.first, "size": IDS}]
            linux |= {"uidMappings": ids, "gidMappings": ids}
        if not config.privileged:
            linux["maskedPaths"] = [*image_roots.MASKED_FILES, *image_roots.MASKED_FOLDERS]
            linux["readonlyPaths"] = list(image_roots.READ_ONLY)
        if cgroup:
            linux["cgroupsPath"] = cgroup
            linux["resources"] = self._resources(config.limits, privileged=config.privileged)
        if filters := seccomp_spec.section(config, self._kept(container)):
            linux["seccomp"] = filters
        return {
            "ociVersion": _VERSION,
            "process": self.process(sandbox, container, (*config.argv, *config.arguments), terminal=config.tty),
            "root": {
                "path": str(stage.root if stage is not None else container.root.folder / "root"),
                "readonly": config.read_only_root,
            },
            "mounts": [*self._system(sandbox, container, stage), *self._volumes(sandbox, container, stage)],
            "linux": linux,
        }

    def process(self, sandbox: Sandbox, container: Container, arguments: Sequence[str], *, terminal: bool) -> Object:
        """Its own, or a further one."""
        config = container.config
        bare = self.plans.bare(sandbox, container, (-1, -1, -1), marked=True)
        user = self.plans.user(config)
        environment = {"TERM": "xterm", **bare.environment} if terminal else bare.environment
        kept = sorted(f"CAP_{name}" for name in self._kept(container) & capabilities.of_this_process())
        told: Object = {
            "terminal": terminal,
            "user": {"uid": user.uid, "gid": user.gid},
            "args": list(arguments),
            "env": [f"{name}={value}" for name, value in environment.items()],
            "cwd": bare.directory,
            "capabilities": {kind: kept for kind in ("bounding", "effective", "permitted")},
            "noNewPrivileges": config.no_new_privileges,
            "oomScoreAdj": bare.oom_score_adj,
        }
        if bare.groups is not None:
            told["user"]["additionalGids"] = list(user.groups)
        kind, _, profile = config.app_armor.partition("/")
        if kind == "localhost":
            told["apparmorProfile"] = profile
        return told

    @staticmethod
    def _kept(container: Container) -> frozenset[str]:
        given = container.config.capabilities
        return capabilities.ALL if given is None else given

    def _processes(self, sandbox: Sandbox, first: int) -> list[Object]:
        if not self.plans.own_processes(sandbox.config):
            return []
        return [{"type": "pid", "path": f"/proc/{first}/ns/pid"} if first else {"type": "pid"}]

    def _resources(self, limits: Limits, *, privileged: bool) -> Object:
        cpu: Object = {"shares": limits.cpu_shares or 1024}
        if limits.cpu_quota is not None and self.quotas:
            cpu |= {"quota": limits.cpu_quota, "period": CPU_PERIOD_MICROSECONDS}
        told: Object = {"cpu": cpu, "devices": [{"allow": privileged, **_ANY_DEVICE}]}
        if limits.memory is not None:
            told["memory"] = {"limit": limits.memory}
        if limits.pids is not None:
            told["pids"] = {"limit": limits.pids}
        return told

    # ---- mounts

    def _system(self, sandbox: Sandbox, container: Container, stage: mapped_roots.Stage | None) -> list[Object]:
        """/proc, /sys and /dev, in the order in which they are to be mounted."""
        privileged = container.config.privileged
        writable = "rw" if privileged else "ro"
        mounts = [self._proc(sandbox)]
        apart = self.plans.isolation.user_namespace
        if (apart or sandbox.users is not None) and not (
            self.own_sys and sandbox.namespaces.network >= 0
        ):  # it would tell of what is not the pod's
            mounts.append(_bind("/sys", "/sys", writable))
        else:
            mounts.append(_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", writable))
            if apart and Path("/sys/fs/cgroup").is_dir():
                mounts.append(_bind("/sys/fs/cgroup", "/sys/fs/cgroup", writable))
            elif sandbox.config.cgroup and not apart:
                options = ("nosuid", "noexec", "nodev", "relatime", writable)
                mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", *options))
        if privileged:
            mounts.append(_bind("/dev", "/dev"))
        else:
            terminals = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
            mounts += [
                _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
                _mount("/dev/pts", "devpts", "devpts", *terminals),
            ]
            if sandbox.shared_memory is not None:
                mounts.append(_mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"))
            elif Path("/dev/mqueue").is_dir():
                mounts.append(_bind("/dev/mqueue", "/dev/mqueue"))
        memory = (stage.shared_memory if stage is not None else sandbox.shared_memory) or Path("/dev/shm")
        if sandbox.shared_memory is not None or (memory.is_dir() and not privileged):
            mounts.append(_bind(str(memory), "/dev/shm"))
        return mounts

    def _proc(self, sandbox: Sandbox) -> Object:
        if self.own_proc and self.plans.own_processes(sandbox.config):
            return _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev")
        return _bind("/proc", "/proc")

    def _volumes(self, sandbox: Sandbox, container: Container, stage: mapped_roots.Stage | None) -> list[Object]:
        if container.root is None:
            return []
        held = {id(entry): place for place, entry in self._held(container)}
        closed: list[str] = []
        mounts = [*file_mounts(sandbox.config), *container.config.mounts]
        found = []
        for target, entry in image_roots.volume_places(container.root.image.view(), mounts):
            source = held.get(id(entry)) or sandbox.shared.get(entry.source, entry.source)
            if stage is not None:
                source = stage.mounts[entry].source
            read_only = entry.read_only or any(target.startswith(f"{one}/") for one in closed)
            found.append(_bind(str(source), target, "ro" if read_only else "rw", _PROPAGATION[entry.propagation]))
            if entry.read_only_below:
                closed.append(target)
        return found

    @staticmethod
    def _held(container: Container) -> list[tuple[Path, Mount]]:
        """Where volumes are that the program cannot mount as they are to be: it takes any link in them for good, and is
        not to be trusted with what is mounted below."""
        entries = [one for one in container.config.mounts if one.sub_path or one.read_only_below]
        return [(container.scratch / "held" / str(number), one) for number, one in enumerate(entries)]

    @staticmethod
    def _root_propagation(mounts: Sequence[Mount]) -> str:
        asked = {one.propagation for one in mounts}
        return "rshared" if "Bidirectional" in asked else "rslave"


def _mount(destination: str, kind: str, source: str, *options: str) -> Object:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def _bind(source: str, destination: str, *options: str) -> Object:
    return _mount(destination, "bind", source, "rbind", *options)
