"""The `oci` runtime: a container is a process on the file system of its image.

It is started as those of the `host` runtime are, in the same namespaces, cgroups and capabilities, by the same launcher
and without a further program; only what it sees is the image's, stacked by overlayfs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path

from kubecore.clock import Clock
from kubecore.images.references import InvalidReference
from kubecore.images.store import Image, ImageStore, remove_tree
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import PodNetwork
from kubecore.kubelet.runtime import image_config, launching, mapped_roots, mounting, seen_groups
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.host_plans import Container, Sandbox
from kubecore.kubelet.runtime.image_roots import WRITTEN, ImageRoot
from kubecore.kubelet.runtime.interface import ContainerConfig, RuntimeFailure, SandboxConfig, SandboxStatus
from kubecore.kubelet.runtime.isolation import Isolation
from kubecore.kubelet.runtime.pod_users import PodUsers
from kubecore.kubelet.runtime.processes import Output, Running

log = logging.getLogger(__name__)


class OciRuntime(HostRuntime):
    """Implements `interface.Runtime`. A container's `image` is to be in the store before it is created."""

    name = "oci"
    handlers = frozenset({"oci"})

    def __init__(self, network: PodNetwork, clock: Clock, book: LogBook, images: ImageStore, *, node: str) -> None:
        super().__init__(network, clock, book, node=node)
        self.images = self._images = images
        self.lack = "it has not started"
        """Why images cannot be run here, "" if they can."""
        self._layout: seen_groups.Layout | None = None
        self._removing: set[asyncio.Future[None]] = set()

    async def start(self) -> None:
        await super().start()
        self.lack = image_lack(self._images, self.isolation)
        if self.lack:
            log.info("oci runtime: images cannot be run: %s", self.lack)

    async def remove_container(self, container_id: str) -> None:
        """Waits until its files are gone."""
        await super().remove_container(container_id)
        if self._removing:
            await asyncio.wait(self._removing)

    async def run_pod_sandbox(self, config: SandboxConfig) -> SandboxStatus:
        if self.lack:
            text = f"images cannot be run on this node: {self.lack}"
            raise RuntimeFailure("FailedCreatePodSandBox", text)
        return await super().run_pod_sandbox(config)

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        try:
            image = self._images.find(config.image)
        except InvalidReference as error:
            raise RuntimeFailure("InvalidImageName", str(error)) from error
        if image is None:
            raise RuntimeFailure("CreateContainerError", f"image {config.image!r} is not present on this node")
        container_id = await super().create_container(sandbox_id, image_config.completed(config, image))
        container = self._container(container_id)
        container.held = self._images.hold(image.id)
        container.root = ImageRoot.make(
            image, container.scratch / WRITTEN.parent, in_user_namespace=self.isolation.user_namespace
        )
        if (users := self._sandboxes[sandbox_id].users) is not None:
            mapped_roots.give_to_pod(container.root.folder, users)
        return container_id

    def _users_of(self, config: SandboxConfig) -> PodUsers | None:
        if not config.own_users or self.isolation.user_namespace:
            return None
        if self._network.node is not None:
            raise RuntimeFailure("FailedCreatePodSandBox", "the node's network is in a user namespace of one user")
        return PodUsers.make()

    async def _start_main(
        self, sandbox: Sandbox, container: Container, output: Output, target: Running | None
    ) -> launching.Process:
        if self.cgroups is not None and container.cgroup:
            self._layout = self._layout or seen_groups.Layout.of()
            container.groups = self._layout.groups(self.cgroups, container.cgroup)
        stage = self._plans.stage(sandbox, container)
        if stage is None:
            return await super()._start_main(sandbox, container, output, target)
        prepared = mapped_roots.prepare(stage, sandbox.namespaces.mount)
        try:
            inside = replace(sandbox, namespaces=replace(sandbox.namespaces, mount=prepared.mount))
            process = await super()._start_main(inside, container, output, target)
            mapped_roots.score(process.pid, container.config.oom_score_adj)
            return process
        finally:
            prepared.close()

    def _release(self, container: Container) -> None:
        """What the container wrote outside of volumes goes, beside the event loop."""
        if container.root is None:
            super()._release(container)
            return
        container.root = None
        os.close(container.held)
        work = self._remove_files(container)
        self._removing.add(work)
        work.add_done_callback(self._removing.discard)

    def _remove_files(self, container: Container) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(None, remove_tree, container.scratch)


def image_lack(images: ImageStore, isolation: Isolation) -> str:
    """Why images cannot be run here, found out by trying; "" if they can."""
    if not isolation.namespaces:
        return isolation.reason
    images.root.mkdir(parents=True, exist_ok=True)
    wanted = launching.NEW_MOUNT | (launching.NEW_USER if isolation.user_namespace else 0)
    with tempfile.TemporaryDirectory(dir=images.root) as folder:
        root = ImageRoot.make(Image("", {}, ()), Path(folder), in_user_namespace=isolation.user_namespace)
        try:
            launching.create_namespaces(wanted, steps=[*mounting.private_steps(), root.mount()]).close()
        except OSError as error:
            return f"overlayfs cannot be mounted ({error.strerror})"
        finally:
            remove_tree(Path(folder) / "work")
    return ""
