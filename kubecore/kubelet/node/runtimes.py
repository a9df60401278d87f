"""The container runtimes of a node: in the kubelet's own process, or in that of a keeper which outlives it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kubecore.api.errors import StatusError
from kubecore.api.quoting import quoted
from kubecore.client.client import Client
from kubecore.clock import Clock
from kubecore.images.store import ImageStore
from kubecore.kubelet.cgroups.interface import Cgroups, Places
from kubecore.kubelet.keeper.kept_runtime import KeptRuntime
from kubecore.kubelet.keeper.link import KeeperLink
from kubecore.kubelet.keeper.messages import KeeperSettings
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks.network import PodNetwork
from kubecore.kubelet.node import images as node_images
from kubecore.kubelet.node.image_gc import ImageGarbage, ImageGcConfig, Images, StoredImages
from kubecore.kubelet.node.images import ImageDisk
from kubecore.kubelet.node.measured_runtime import MeasuredRuntime
from kubecore.kubelet.node.services import ChosenRuntime
from kubecore.kubelet.node.users_trial import UsersTrial
from kubecore.kubelet.pods.image_pulling import ImagePuller
from kubecore.kubelet.pods.pull_records import PullRecords
from kubecore.kubelet.runtime import leftovers
from kubecore.kubelet.runtime.cri.holdings import CriSettings
from kubecore.kubelet.runtime.cri.runtime import CriRuntime
from kubecore.kubelet.runtime.host import HostRuntime
from kubecore.kubelet.runtime.interface import Runtime, RuntimeFailure
from kubecore.kubelet.runtime.isolation import Isolation, describe, has_recursive_read_only, probe_isolation
from kubecore.kubelet.runtime.memory_limits.use import MemoryUse
from kubecore.kubelet.runtime.memory_limits.watch import MemoryWatch
from kubecore.kubelet.runtime.oci import OciRuntime, image_lack
from kubecore.kubelet.runtime.oci_programs import finding, handlers
from kubecore.kubelet.runtime.oci_programs.link import MonitorLink
from kubecore.kubelet.runtime.oci_programs.runtime import ProgramRuntime
from kubecore.kubelet.serving.kubelet_metrics import RuntimeMetrics
from kubecore.kubelet.settings.kubelet_config import KubeletConfig

log = logging.getLogger(__name__)

Object = dict[str, Any]

_ANSWER_SECONDS = 10.0


@dataclass
class NodeRuntimes:
    """`own`: those of kubecore's own, by their handlers. `by_handler`: all. `link`: to the keeper, if there is to be
    one. `programs`: those that start containers for some of its own (`oci_programs.handlers`). `monitor`: for them,
    where there is no keeper."""

    own: dict[str, HostRuntime | KeptRuntime]
    by_handler: dict[str, Runtime]
    images: ImageStore
    link: KeeperLink | None
    clock: Clock
    programs: Mapping[str, str]
    monitor: MonitorLink
    cri: CriRuntime | None = None
    """Of a container runtime outside of kubecore."""
    cri_goes_on: bool = False
    """It has pods of a former run; known once `find` has looked."""
    nested: bool = False
    """All pods are in a user namespace of the node's, which has one user."""

    def __post_init__(self) -> None:
        self._stored = node_images.StoredImages(self.images)
        self.isolation = Isolation(False, False, "the kubelet has not started")
        """What the kernel lets containers be separated by."""
        self._users = UsersTrial("it has not been tried yet", of_programs=False)
        self._users_tried = asyncio.Event()

    async def find(self) -> Places | None:
        """Take over what a keeper has of a killed kubelet; where its cgroups are, None without a keeper."""
        if self.cri is not None:
            self.cri_goes_on = await self.cri.connect()
        holdings = await self.link.find() if self.link is not None else None
        if holdings is None:
            return None
        for runtime in self.own.values():
            if isinstance(runtime, KeptRuntime):
                runtime.take_over(holdings.held[runtime.name])
        return holdings.settings.places

    @property
    def changed(self) -> str:
        """In what the node is not what its keeper was made for, whose pods have ended; known once `find` has looked."""
        return self.link.changed if self.link is not None else ""

    def use(self, cgroups: Cgroups | None, *, watch_memory: bool) -> None:
        """Before they start. `watch_memory`: limits on it are to be enforced, which those groups do not; a keeper that
        runs goes on as it was made."""
        if self.link is not None:
            if not self.link.connected:
                self.link.settings = replace(self.link.settings, watches_memory=watch_memory)
            self.link.settings = replace(self.link.settings, places=cgroups.places if cgroups is not None else None)
        watch = MemoryWatch(self.clock, MemoryUse()) if watch_memory else None
        for runtime in self.own.values():
            if isinstance(runtime, HostRuntime):
                runtime.cgroups = cgroups
                runtime.memory.watch = watch
        if self.cri is not None:
            self.cri.cgroups = cgroups

    async def start(self) -> None:
        self.isolation = isolation = probe_isolation()
        if self.link is not None:
            describe(isolation)
            if not self.link.connected:  # nor does anything outlive a keeper
                leftovers.end_of_node(self.link.settings.mark)
        lack = image_lack(self.images, isolation)
        if lack or self.nested or isolation.user_namespace:  # then nothing is to be tried
            self._users = UsersTrial(lack, of_programs=False)
            self._users_tried.set()
        for own in self.own.values():
            if isinstance(own, KeptRuntime):
                own.root_by_default = isolation.root_by_default
                own.lack = lack if own.images is not None else ""
        for runtime in set(self.by_handler.values()):
            await runtime.start()

    async def try_users(self, tried: Callable[[], None]) -> None:
        """Once they have started: find out whether pods of root's can have users of their own, beside all else that a
        kubelet begins with. `tried` is called once that is known; until then those that ask for it wait."""
        if self._users_tried.is_set():
            return
        trial = asyncio.create_task(asyncio.to_thread(UsersTrial.made, self.images.root), name="users of pods")
        async with self.clock.outside(float("inf")):
            try:
                self._users = await asyncio.shield(trial)
            except asyncio.CancelledError:
                await trial  # which leaves nothing behind only if it comes to its end
                raise
            except OSError as error:
                self._users = UsersTrial(error.strerror or str(error), of_programs=False)
        self._users_tried.set()
        tried()

    def tell_end(self) -> None:
        """Whoever keeps containers is to end with them, and nobody waits for that."""
        if self.link is not None:
            self.link.tell("end")

    async def close(self) -> None:
        try:
            await self.monitor.cut_short()
            for runtime in set(self.by_handler.values()):
                await runtime.close()
        finally:  # also where a runtime takes too long
            await self.monitor.close()

    async def of_pod(self, pod: Object, client: Client, default: str, *, node_name: str) -> ChosenRuntime:
        """By its class, or the `default`. Raises RuntimeFailure, StatusError."""
        handler = default
        name = pod["spec"].get("runtimeClassName")
        if name:
            try:
                found = await client.get("runtimeclasses.node.k8s.io", name)
            except StatusError as error:
                if error.code == 404:
                    text = f'RuntimeClass "{name}" not found'
                    raise RuntimeFailure("FailedCreatePodSandBox", text) from error
                raise
            handler = found["handler"]
        runtime = self.by_handler.get(handler) or self.by_handler.get("cri")  # which knows names of its own
        if runtime is None or self._lacks_program(handler):
            there = ", ".join(sorted(one for one in self.by_handler if not self._lacks_program(one)))
            text = f"{finding.lack(handler)} (on node {node_name} there is: {there})"
            raise RuntimeFailure("FailedCreatePodSandBox", text)
        if pod["spec"].get("hostUsers") is False and not await self._come_to_have_users(handler):
            who = f"RuntimeClass handler {quoted(handler)}" if name else "runtime"
            text = f"can't set `spec.hostUsers: false`, {who} does not support user namespaces"
            raise RuntimeFailure("FailedCreatePodSandBox", text)
        return ChosenRuntime(runtime, handler)

    def _lacks_program(self, handler: str) -> bool:
        """It may be installed, or removed, while the node runs."""
        program = self.programs.get(handler)
        return program is not None and finding.find(program) is None

    @property
    def handlers(self) -> list[str]:
        """Those by which pods can be run."""
        images = {name for name, one in self.own.items() if one.images is not None and one.lack}
        return sorted(one for one in self.by_handler if one not in images and not self._lacks_program(one))

    @property
    def image_lack(self) -> str:
        """Why images cannot be run here, "" if they can."""
        return self.own["oci"].lack

    def features(self, handler: str) -> Object:
        """What pods can have by it, as `status.runtimeHandlers[].features` of a node tells it."""
        if handler not in self.own:
            return {}
        read_only = self.isolation.namespaces and has_recursive_read_only()
        return {"recursiveReadOnlyMounts": read_only, "userNamespaces": self._have_own_users(handler)}

    def _have_own_users(self, handler: str) -> bool:
        """Without root no pod has the host's. With it, images have to be mounted for the pod's; what belongs to the
        host's users is of no use to others, as which `host` has containers see it."""
        if handler not in self.own or self.isolation.user_namespace:
            return handler in self.own
        if not self._may_map(handler):
            return False
        return self._users.of_programs if handler in self.programs else not self._users.of_images

    def _may_map(self, handler: str) -> bool:
        """It is a matter of what the kernel and the file system allow."""
        return not self.nested and handler in self.own and self.own[handler].images is not None

    async def _come_to_have_users(self, handler: str) -> bool:
        if self._may_map(handler):
            await self._users_tried.wait()
        return self._have_own_users(handler)

    async def strict_groups(self, default: str) -> bool:
        """Whether the `default` runtime can leave out groups that an image puts its user in."""
        return default != "cri" or (self.cri is not None and await self.cri.knows_strict_groups())

    def garbage(
        self, config: ImageGcConfig, puller: ImagePuller, warn: Callable[[str, str], None]
    ) -> list[ImageGarbage]:
        """What removes images that nothing uses. `warn`: of the node's events."""
        kept: list[tuple[Images, PullRecords]] = [(StoredImages(self.images), puller.own_records)]
        if self.cri is not None:
            kept.append((self.cri.collected_images, puller.records_elsewhere))
        return [ImageGarbage(images, self.clock, config, listed=records.keep, warn=warn) for images, records in kept]

    def image_sources(self) -> list[node_images.Source]:
        """All images that pods can be made from."""
        sources: list[node_images.Source] = [self._stored]
        if self.cri is not None:
            sources.append(self.cri.known_images)
        return sources

    async def image_disk(self) -> ImageDisk | None:
        """Of the runtime outside, if there is one, else of kubecore's own; None where it does not tell."""
        try:
            return await (self.cri.image_disk() if self.cri is not None else self._stored.disk())
        except (RuntimeFailure, TimeoutError, OSError, ValueError, KeyError) as error:  # broken files, too
            log.warning("the disk of images is not told: %s", error)
            return None

    async def trouble(self) -> str:
        """Why no container can be started, "" if they can. What did not come up is started again."""
        told = self.link.trouble if self.link is not None else ""
        try:
            async with self.clock.timeout(_ANSWER_SECONDS):
                if self.link is not None and self.link.trouble:
                    await self.link.try_again()
                    told = self.link.trouble
                if not told and self.cri is not None:
                    told = await self.cri.trouble()
        except TimeoutError:
            told = told or f"it has not answered for {_ANSWER_SECONDS:g} s"
        return f"container runtime is down: {told}" if told else ""


def make_runtimes(
    config: KubeletConfig,
    network: PodNetwork,
    pod_cidrs: tuple[str, ...],
    clock: Clock,
    book: LogBook,
    *,
    mark: str,
    metrics: RuntimeMetrics,
) -> NodeRuntimes:
    """`pod_cidrs`: those of `network`. `mark`: of the node's processes. `metrics`: of what is asked of `by_handler`."""
    images = ImageStore(config.image_store or config.root_dir / "images")
    programs = handlers.of_node(config.oci_runtime, config.oci_handlers, others=config.cri is not None)
    monitor = MonitorLink(clock)
    own: dict[str, HostRuntime | KeptRuntime] = {}
    if config.keeper is None:
        link = None
        own["host"] = HostRuntime(network, clock, book, node=mark)
        own["oci"] = OciRuntime(network, clock, book, images, node=mark)
        for handler, program in programs.items():
            own[handler] = ProgramRuntime(
                network, clock, book, images, node=mark, handler=handler, program=program, monitor=monitor
            )
    else:
        settings = KeeperSettings(
            root=config.root_dir.absolute(),
            mark=mark,
            image_store=images.root.absolute(),
            network_mode=config.network_mode,
            node_network=config.node_network.descriptors if config.node_network is not None else None,
            pod_cidrs=pod_cidrs,
            cluster_cidrs=config.cluster_cidrs,
            bridge=config.bridge,
            pods_through_node=config.pods_through_node,
            lonely_seconds=config.keeper.lonely_seconds,
            half="lower" if config.cri is not None else "",
            log_rotation=config.log_rotation,
            programs=programs,
        )
        link = KeeperLink(settings, book, clock)
        own["host"] = KeptRuntime("host", link, clock, book)
        for handler in ("oci", *programs):
            own.setdefault(handler, KeptRuntime(handler, link, clock, book, images=images))
    cri = None
    if config.cri is not None:
        asked, cni = config.cri, config.cri.cni or config.root_dir / "cni"
        at = CriSettings(asked.endpoint, asked.image_endpoint, cni, node=config.node_name, mark=mark)
        cri = CriRuntime(network, clock, book, at)
    by_handler: dict[str, Runtime] = {}
    for runtime in (*own.values(), *([cri] if cri is not None else []), *config.runtimes):
        by_handler.update(dict.fromkeys(runtime.handlers, MeasuredRuntime(runtime, metrics, clock)))
    nested = config.node_network is not None
    return NodeRuntimes(own, by_handler, images, link, clock, programs, monitor, cri, nested=nested)
