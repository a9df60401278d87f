"""What a kubelet asks of a container runtime: the Container Runtime Interface, cut to what pods need.

The semantics stated here hold for every implementation; `tests/` has one contract suite for all of them.

- A *sandbox* is a pod's shared surroundings (network, ipc, host name, in-memory volumes). Containers live in one.
- Ids are opaque strings, unique for the life of the runtime object.
- Removing or stopping what is not there is no error. Everything else about an unknown id raises RuntimeFailure.
- Exits are pushed: after a container's process has ended, its status is EXITED with exit code and time set, and then
  every subscriber is called once, on the event loop. Nothing needs polling.
- No method blocks the loop for longer than a process start takes (a few milliseconds).

Source: kubernetes/cri-api `pkg/apis/runtime/v1/api.proto`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from kubecore.images.credentials import Credentials
from kubecore.images.references import Reference
from kubecore.images.store import Image, ImageStore
from kubecore.kubelet.cgroups.interface import Limits
from kubecore.kubelet.pods.mandatory_access import SELinuxOptions
from kubecore.kubelet.runtime.streams import StreamedProcess, StreamsWanted

TOO_LATE = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
"""What is told of a call that has not been answered in time: people know it by these words."""


class RuntimeFailure(Exception):
    """A runtime call failed. `reason` is the word for a container's waiting state (CreateContainerError,
    RunContainerError, ...), the text is for people and goes to status and event."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class UnknownRuntime(RuntimeFailure):
    """No runtime serves this handler on the node."""


class ContainerState(enum.Enum):
    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"


@dataclass(frozen=True, slots=True)
class MemoryDirectory:
    """A directory of the host on which the sandbox's containers see a tmpfs; `size` in bytes, None for no own limit.
    `group`: whose it is, where that can be had."""

    path: Path
    size: int | None = None
    mode: int = 0o777
    group: int | None = None

    def options(self, *, any_group: bool) -> str:
        """Of mount(2). `any_group`: it may be anybody's."""
        found = [f"mode={self.mode:o}"]
        if self.size is not None:
            found.append(f"size={self.size}")
        if self.group is not None and any_group:
            found.append(f"gid={self.group}")
        return ",".join(found)


@dataclass(frozen=True, slots=True)
class ImageDirectory:
    """A directory of the host on which the sandbox's containers see an image, read-only. `layers`: their folders, the
    uppermost first. `image`: its digest in the store at `store`."""

    path: Path
    store: Path
    image: str
    layers: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """One pod's surroundings.

    `directory`: the pod's private directory (exists, mode 0700), where the runtime may keep what it needs.
    `hosts`, `resolv_conf`, `hostname_file`: files to be seen as /etc/hosts, /etc/resolv.conf and /etc/hostname; the
    caller may rewrite them in place.
    """

    uid: str
    name: str
    namespace: str
    attempt: int
    hostname: str
    directory: Path
    hosts: Path | None = None
    resolv_conf: Path | None = None
    hostname_file: Path | None = None
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_processes: bool = False
    """The containers see each other's processes."""
    sysctls: tuple[tuple[str, str], ...] = ()
    """Name (dots or slashes) and value, to be set for the sandbox."""
    memory_directories: tuple[MemoryDirectory, ...] = ()
    image_directories: tuple[ImageDirectory, ...] = ()
    supplemental_groups: tuple[int, ...] = ()
    """Those that its containers' processes are to have."""
    selinux: SELinuxOptions | None = None
    asks_selinux: bool = False
    """The pod or a container of it is to have a label of its own."""
    cgroup: str = ""
    """Within which its containers' groups are made (`cgroups.Cgroups`), "" where there are none."""
    limits: Limits = field(default_factory=Limits)
    """Of all its containers together: those of its cgroup, where it has one."""
    privileged: bool = False
    """Some container of it may be."""
    log_directory: Path | None = None
    """Where its containers' logs are, each in a folder of its own."""
    own_users: bool = False
    """Its users are not the host's, but of a user namespace of its own."""
    handler: str = ""
    """By which name the pod asked for its runtime (`Runtime.handlers`)."""


@dataclass(frozen=True, slots=True)
class SandboxStatus:
    id: str
    uid: str
    ips: tuple[str, ...]
    """The pod's addresses, one of each family, the cluster's own first; none with host_network."""
    running: bool = True
    """It has not been stopped."""
    notes: tuple[str, ...] = ()
    """What the runtime could not do for this sandbox, one sentence each, for a Warning event."""


Propagation = Literal["None", "HostToContainer", "Bidirectional"]


@dataclass(frozen=True, slots=True)
class Mount:
    """`source` (file or directory of the host, exists) appears at the absolute path `target` in the container."""

    source: Path
    target: str
    read_only: bool = False
    sub_path: str = ""
    """Not `source` itself, but what it holds there: made, a folder, if it is missing. It never leads out of `source`,
    whatever links containers put there, now or while it is mounted."""
    read_only_below: bool = False
    """Read-only is what is mounted below it, too."""
    in_memory: bool = False
    """`source` is a memory directory: only the sandbox sees what it holds."""
    propagation: Propagation = "None"
    """Whether what the host mounts there later is seen in the container, and what the container mounts on the host."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the process runs as. None leaves what the runtime has (for `host`, the kubelet's own user)."""

    user: int | None = None
    group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    no_other_groups: bool = False
    """Not those either that an image puts the user in."""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """One container to make. `argv` is what stands in for the image's entrypoint, `arguments` for its command; both may
    be empty where the image brings them, which `host` refuses. `image`: its name, or its digest in the runtime's store.

    `log_path`: the file that gets the container's output in CRI format; its directory exists.
    """

    name: str
    attempt: int
    image: str
    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    log_path: Path
    arguments: tuple[str, ...] = ()
    working_directory: str = ""
    mounts: tuple[Mount, ...] = ()
    identity: Identity = field(default_factory=Identity)
    no_new_privileges: bool = False
    privileged: bool = False
    capabilities: frozenset[str] | None = None
    """Which ones a process of user 0 has (`capabilities.ALL`), None for all that the node has."""
    seccomp: str = "unconfined"
    """Or "runtime-default", or "localhost/" and the path of a profile on the node."""
    app_armor: str = ""
    """ "unconfined", "runtime-default", or "localhost/" and the name of a profile that the kernel has; "" for what the
    runtime likes."""
    selinux: SELinuxOptions | None = None
    """None for what the runtime likes, as wherever the kernel has no SELinux."""
    read_only_root: bool = False
    stdin: bool = False
    stdin_once: bool = False
    """stdin ends with the first client that is attached to it."""
    tty: bool = False
    oom_score_adj: int = 0
    limits: Limits = field(default_factory=Limits)
    target: str = ""
    """Id of a running container of the sandbox, whose processes this one is to see (ephemeral containers)."""


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """Who a container's first process was started as, as it sees it itself. `groups`: with its own one."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ContainerStatus:
    """`exit_code` is 128 + the signal's number when a signal ended the process; `signal` is that number, else 0.
    `reason`: the runtime's word for the end where it knows better than the exit code (OOMKilled)."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: ContainerState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    exit_code: int = 0
    signal: int = 0
    pid: int = 0
    reason: str = ""
    log_path: Path | None = None
    """That of its configuration."""
    sandbox_ended: bool = False
    """It ended with its sandbox, in which no other one can be started."""
    user: ProcessUser | None = None
    """None where the runtime does not tell."""
    memory_kills: int | None = None
    """How often we have killed it, or a process of it, for its memory; None where we do not look."""


@dataclass(frozen=True, slots=True)
class ExecResult:
    stdout: bytes
    stderr: bytes
    exit_code: int


class Written(NamedTuple):
    """On a disk."""

    bytes: int = 0
    inodes: int = 0


ExitListener = Callable[[ContainerStatus], None]


class RuntimeImages(Protocol):
    """Images that are a runtime's own to keep."""

    async def find(self, text: str) -> Image | None:
        """By name or digest. Raises RuntimeFailure."""

    def pull(
        self, reference: Reference, known: Sequence[Credentials], used: Callable[[Credentials | None], None]
    ) -> Coroutine[Any, Any, Image]:
        """`known`: to be tried in turn, before nobody in particular. `used`: called with those that have served, None
        for nobody's. Raises PullError."""


class Runtime(Protocol):
    """A container runtime of one node."""

    @property
    def name(self) -> str:
        """As a container's id begins (`NAME://...`)."""

    @property
    def handlers(self) -> frozenset[str]:
        """RuntimeClass handlers this runtime serves."""

    @property
    def root_by_default(self) -> bool:
        """Whether a container that names no user runs as what is user 0 to it; known once it has started."""

    @property
    def watches_memory(self) -> bool:
        """It looks at what containers have, and ends those that have more than their limits, where no cgroup limits
        them; known once it has started."""

    @property
    def images(self) -> ImageStore | RuntimeImages | None:
        """Where it has its images from; None for one that needs none."""

    async def start(self) -> None:
        """Make ready. What a former run of the same node has left is found again (it is listed), or removed."""

    async def close(self) -> None:
        """End everything that still runs, at once, and remove what was made. Nothing is left behind."""

    def subscribe(self, listener: ExitListener) -> None:
        """Call `listener` after every container's end."""

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        """Make a sandbox with its address. Raises RuntimeFailure (reason FailedCreatePodSandBox) and leaves nothing."""

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        """Kill what runs in it and give its address back. Its containers' statuses stay readable."""

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        """Stop it if need be and forget it, its containers too."""

    def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        """Raises RuntimeFailure for an unknown id."""

    def list_pod_sandboxes(self) -> Sequence[SandboxStatus]:
        """Those not removed, with `running` as it is now. One may end without the caller's doing, with its containers,
        and is then no longer among them."""

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        """Check and prepare; nothing runs yet. Raises RuntimeFailure (CreateContainerError)."""

    async def start_container(self, container_id: str) -> None:
        """Run the process. Raises RuntimeFailure (RunContainerError); the container is then EXITED with code 128."""

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL `grace_seconds` later; returns when the process and all it left in its container ended.

        A grace of 0 kills at once. A second call with a shorter grace shortens the first one's.
        """

    async def update_container_limits(self, container_id: str, limits: Limits) -> None:
        """Of a running container. Raises RuntimeFailure when the kernel refuses; some may be in force then."""

    async def update_pod_sandbox_limits(self, sandbox_id: str, limits: Limits) -> None:
        """Of all its containers together; whoever calls has seen to its cgroup, if it has one."""

    async def remove_container(self, container_id: str) -> None:
        """Forget a container, killing it if it runs. Its log stays; the kubelet owns logs."""

    def container_status(self, container_id: str) -> ContainerStatus:
        """Raises RuntimeFailure for an unknown id."""

    def list_containers(self, sandbox_id: str = "") -> Sequence[ContainerStatus]: ...

    async def exec_sync(self, container_id: str, argv: Sequence[str], timeout_seconds: float) -> ExecResult:
        """Run a command in a running container and collect its output (16 MiB at most, the rest is dropped).

        Raises TimeoutError, the command killed, when it takes longer (0: no limit), RuntimeFailure when it cannot run.
        """

    async def exec(self, container_id: str, argv: Sequence[str], wanted: StreamsWanted) -> StreamedProcess:
        """Run a command in a running container, connected to a client's streams.

        It ends with its container. When the streams are closed it is left alone: it finds its stdin ended and its
        output refused, or its terminal hung up. Raises RuntimeFailure, with nothing left behind.
        """

    async def attach(self, container_id: str, wanted: StreamsWanted) -> StreamedProcess:
        """Connect a client to the process of a running container: to its stdin, and to what it says from now on.

        Whether there is a terminal is the container's to say. Raises RuntimeFailure.
        """

    async def pod_network(self, sandbox_id: str) -> tuple[int, tuple[str, ...]]:
        """How the ports of a sandbox are reached: a descriptor of its network namespace, the caller's to close, where
        localhost is tried first, or -1; and addresses to try in turn. Raises RuntimeFailure for a sandbox that does not
        run.
        """

    async def written_layers(self) -> Mapping[str, Written]:
        """What running containers have changed of their images, by id, where only the runtime knows that: where it is
        below their pods' folders (`image_roots.WRITTEN`), or where there are no images, none are told. Raises
        RuntimeFailure."""
