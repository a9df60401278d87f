# ruff: noqa: ASYNC110
"""A host runtime with real processes: as root with and without pod networks, as whoever runs the tests, and as if the
kernel gave no namespaces ("plain")."""

from __future__ import annotations

import asyncio
import fnmatch
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kubecore.clock import RealClock
from kubecore.images.archives import load
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Cgroups
from kubecore.kubelet.keeper.kept_runtime import KeptRuntime
from kubecore.kubelet.keeper.link import KeeperLink
from kubecore.kubelet.keeper.messages import KeeperSettings
from kubecore.kubelet.keeper.process import Keeper
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import BridgeNetwork, LoopbackNetwork, PodNetwork, detect
from kubecore.kubelet.runtime import host, leftovers
from kubecore.kubelet.runtime.cri.holdings import CriSettings
from kubecore.kubelet.runtime.cri.runtime import CriRuntime
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.interface import (
    ContainerConfig,
    ContainerStatus,
    SandboxConfig,
    SandboxStatus,
)
from kubecore.kubelet.runtime.isolation import Isolation, probe_isolation
from kubecore.kubelet.runtime.memory_limits.use import MemoryUse
from kubecore.kubelet.runtime.memory_limits.watch import MemoryWatch
from kubecore.kubelet.runtime.oci import OciRuntime
from kubecore.kubelet.runtime.oci_programs import finding
from kubecore.kubelet.runtime.oci_programs.link import MonitorLink
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from tests.support.containerd import PROGRAMS, Containerd, running_containerd
from tests.support.own_ranges import own_octet, own_pod_range
from tests.support.small_image import SmallImage, programs


@dataclass
class Node:
    runtime: HostRuntime | KeptRuntime | CriRuntime
    network: PodNetwork
    root: Path
    clock: RealClock
    ends: asyncio.Queue[ContainerStatus]
    image: str = "none"
    pods: int = 0
    state: Path | None = None
    """Where a container runtime of its own keeps what runs."""

    def mounts(self) -> list[str]:
        """That are its own: others run nodes on this machine at the same time."""
        places = [str(one) for one in (self.root, self.state) if one is not None]
        mounted = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")
        return [line for line in mounted if any(place in line for place in places)]

    @property
    def isolation(self) -> Isolation:
        return self.runtime.isolation if isinstance(self.runtime, HostRuntime) else probe_isolation()

    async def begin(self) -> None:
        """What ends the leftovers of a killed run."""
        if isinstance(self.runtime, HostRuntime):
            await self.runtime.start()
            if isinstance(self.runtime, ProgramRuntime):
                await self.runtime.monitor.ensure()
        elif isinstance(self.runtime, KeptRuntime):
            await self.runtime.link.ensure()
            await self.runtime.link.call("", "take over", None)

    def use(self, cgroups: Cgroups) -> None:
        """Before the first sandbox."""
        if not isinstance(self.runtime, KeptRuntime):
            self.runtime.cgroups = cgroups
        else:
            link = self.runtime.link
            link.settings = replace(link.settings, places=cgroups.places)

    def watch_memory(self) -> None:
        """As where there are no cgroups. Before the first sandbox."""
        if isinstance(self.runtime, HostRuntime):
            self.runtime.memory.watch = MemoryWatch(self.clock, MemoryUse())
        elif isinstance(self.runtime, KeptRuntime):
            link = self.runtime.link
            link.settings = replace(link.settings, watches_memory=True)

    async def sandbox(self, **fields: object) -> tuple[str, str]:
        """Id and address of a new sandbox."""
        status = await self.run_sandbox(**fields)
        return status.id, status.ips[0] if status.ips else ""

    async def run_sandbox(self, **fields: object) -> SandboxStatus:
        self.pods += 1
        directory = self.root / f"pod{self.pods}"
        directory.mkdir(mode=0o700)
        hosts = directory / "hosts"
        hosts.write_text("127.0.0.1 localhost\n192.0.2.1 from-the-pod\n")
        named = directory / "hostname"
        named.write_text(f"pod{self.pods}\n")
        values: dict[str, object] = {
            # Links of the host are named after it, and others run tests beside.
            "uid": f"uid-{os.getpid()}-{self.pods}",
            "name": f"pod{self.pods}",
            "namespace": "default",
            "attempt": 0,
            "hostname": f"pod{self.pods}",
            "directory": directory,
            "hosts": hosts,
            "hostname_file": named,
        }
        return await self.runtime.run_pod_sandbox(SandboxConfig(**{**values, **fields}))  # type: ignore[arg-type]

    async def start(self, sandbox: str, *argv: str, **fields: object) -> str:
        values: dict[str, object] = {
            "name": "main",
            "attempt": 0,
            "image": self.image,
            "argv": argv,
            "environment": (),
            "log_path": self.root / f"{len(self.runtime.list_containers())}.log",
        }
        container = await self.runtime.create_container(sandbox, ContainerConfig(**{**values, **fields}))  # type: ignore[arg-type]
        await self.runtime.start_container(container)
        return container

    async def output(self, sandbox: str, script: str, **fields: object) -> str:
        """What a shell script says, stdout and stderr together."""
        log = self.root / f"output{len(self.runtime.list_containers())}.log"
        await self.start(sandbox, "/bin/sh", "-c", script, log_path=log, **fields)
        await self.end()
        return "\n".join(line.split(" ", 3)[3] for line in log.read_text().splitlines())

    async def end(self) -> ContainerStatus:
        return await asyncio.wait_for(self.ends.get(), 60)


def node_mark() -> str:
    return leftovers.node_mark(Path("/no/such/node"), str(os.getpid()))


async def make_node(root: Path, network: PodNetwork) -> Node:
    return await started(HostRuntime(network, RealClock(), LogBook(), node=node_mark()), network, root)


async def make_kept_node(root: Path, network: LoopbackNetwork, pods: str) -> Node:
    """Its keeper is in this process, at the other end of a socket as always."""
    settings = KeeperSettings(
        root=root,
        mark=node_mark(),
        image_store=root / "images",
        network_mode="loopback",
        pod_cidrs=(pods,),
        cluster_cidrs=(),
        bridge="",
        pods_through_node=False,
    )
    book = LogBook()
    runtime = KeptRuntime("host", LinkInProcess(settings, book, RealClock()), RealClock(), book)
    runtime.root_by_default = probe_isolation().root_by_default
    return await started(runtime, network, root)


class LinkInProcess(KeeperLink):
    async def ensure(self) -> None:
        if not self.connected:
            ours, theirs = socket.socketpair()
            keeper = Keeper(self.settings, RealClock(), last_grace_seconds=0.1)
            self.keeping = asyncio.create_task(keeper.run(theirs))
            self._connect(ours)

    async def end(self) -> None:
        if self.connected:
            self.tell("end")
            await self.keeping
            await self.leave()


async def started(
    runtime: HostRuntime | KeptRuntime | CriRuntime, network: PodNetwork, root: Path, *, image: str = "none"
) -> Node:
    network.start()
    await runtime.start()
    ends: asyncio.Queue[ContainerStatus] = asyncio.Queue()
    runtime.subscribe(ends.put_nowait)
    return Node(runtime, network, root, RealClock(), ends, image)


def networks() -> list[object]:
    return [
        pytest.param("loopback", id="loopback"),
        pytest.param("plain", id="plain"),
        pytest.param("netns", id="netns", marks=pytest.mark.root),
        pytest.param("oci", id="oci"),
        pytest.param("runc", id="runc"),
        pytest.param("kept", id="kept"),
        pytest.param("cri", id="cri", marks=[pytest.mark.root, pytest.mark.slow]),
    ]


@pytest.fixture(scope="session")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    with running_containerd(tmp_path_factory.mktemp("containerd")) as running:
        yield running


@pytest.fixture(scope="session")
def programs_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with nothing but programs of this machine."""
    image = SmallImage([programs()], {}, ["programs"])
    return image.docker_archive(tmp_path_factory.mktemp("image") / "programs.tar")


async def make_oci_node(root: Path, network: PodNetwork, archive: Path, name: str) -> Node:
    """Skips where images cannot be run."""
    images = ImageStore(root / "images")
    load(archive, images)
    runtime = OciRuntime(network, RealClock(), LogBook(), images, node=node_mark())
    node = await started(runtime, network, root, image=name)
    if runtime.lack:
        pytest.skip(runtime.lack)
    return node


async def make_program_node(
    root: Path, network: PodNetwork, archive: Path, name: str, *, handler: str = "runc", program: str = ""
) -> Node:
    """Skips where images cannot be run, or not by what the handler is named after, which `program` is to be when pods
    come."""
    if finding.find(handler) is None:
        pytest.skip(f"there is no {handler} (Debian's package {handler})")
    images = ImageStore(root / "images")
    load(archive, images)
    runtime = ProgramRuntime(
        network,
        RealClock(),
        LogBook(),
        images,
        node=node_mark(),
        handler=handler,
        program=program or handler,
        monitor=MonitorLink(RealClock()),
    )
    node = await started(runtime, network, root, image=name)
    if runtime.lack:
        pytest.skip(runtime.lack)
    return node


async def make_cri_node(root: Path, network: PodNetwork, containerd: Containerd) -> Node:
    settings = CriSettings(containerd.endpoint, "", containerd.cni, node=f"node{os.getpid()}", mark=root.name)
    node = await started(CriRuntime(network, RealClock(), LogBook(), settings), network, root, image=PROGRAMS)
    node.state = Path(containerd.endpoint.removeprefix("unix://")).parent
    return node


@pytest.fixture(params=networks())
async def node(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs_image: Path
) -> AsyncIterator[Node]:
    """One of every kind that this machine can have: what is asked of it holds for all of them."""
    network: PodNetwork
    if request.param == "plain":
        monkeypatch.setattr(host, "probe_isolation", lambda: Isolation(False, False, "no namespaces, for the test"))
    if request.param in ("netns", "cri"):
        if detect().mode != "netns":
            pytest.skip(detect().reason)
        octet = own_octet()
        network = BridgeNetwork(
            [f"10.{octet}.3.0/24"], bridge=f"kct{os.getpid()}", cluster_cidrs=[f"10.{octet}.0.0/16"]
        )
    else:
        pods = own_pod_range()
        network = LoopbackNetwork(pods)
    if request.param == "oci":
        node = await make_oci_node(tmp_path, network, programs_image, "programs")
    elif request.param == "runc":
        node = await make_program_node(tmp_path, network, programs_image, "programs")
    elif request.param == "cri":
        node = await make_cri_node(tmp_path, network, request.getfixturevalue("containerd"))
    elif request.param == "kept":
        node = await make_kept_node(tmp_path, network, pods)
    else:
        node = await make_node(tmp_path, network)
    yield node
    await node.runtime.close()
    if isinstance(node.runtime, ProgramRuntime):
        await node.runtime.monitor.close()
    network.close()


@pytest.fixture
def on_host(node: Node) -> None:
    """Containers see the host's file system."""
    if isinstance(node.runtime, OciRuntime | CriRuntime):
        pytest.skip("an image has a file system of its own")


@pytest.fixture
def own_processes(node: Node) -> None:
    """Containers' processes are kubecore's own."""
    if isinstance(node.runtime, CriRuntime):
        pytest.skip("containers' processes are the container runtime's")


@pytest.fixture
def own_launcher(node: Node) -> None:
    """They are started by kubecore itself."""
    if isinstance(node.runtime, CriRuntime | ProgramRuntime):
        pytest.skip("what comes before a container's program is the container runtime's")


@pytest.fixture
def isolated(node: Node) -> Node:
    if not node.isolation.namespaces:
        pytest.skip(node.isolation.reason)
    return node


def processes(marker: str) -> list[int]:
    """Processes with this word among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if marker.encode() in arguments:
                found.append(int(entry.name))
    return found


def open_descriptors() -> int:
    """Of this process, without those of what nobody can reach any more: they would be closed at any time."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def cgroups_named(*patterns: str) -> list[Path]:
    """Folders of control groups whose path ends like one of these (`fnmatch`, `*` for anything). Others come and go
    while one looks, of which `Path.glob` makes an error."""
    wanted = [f"*/{pattern}" for pattern in patterns]
    return [
        Path(folder)
        for folder, _, _ in os.walk("/sys/fs/cgroup")
        if any(fnmatch.fnmatchcase(folder, one) for one in wanted)
    ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def settled(condition: Callable[[], bool]) -> bool:
    try:
        await until(condition)
    except TimeoutError:
        return False
    return True
