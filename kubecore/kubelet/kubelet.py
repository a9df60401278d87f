"""The node's agent: composes the package, registers its node and has the pods that are bound to it followed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.clock import Clock
from kubecore.kubelet.cgroups import detection
from kubecore.kubelet.cgroups.interface import Places
from kubecore.kubelet.eviction.manager import EvictionManager
from kubecore.kubelet.eviction.pods import NodePods
from kubecore.kubelet.logs.writing import LogBook
from kubecore.kubelet.networks import network
from kubecore.kubelet.networks.host_ports import HostPorts
from kubecore.kubelet.networks.host_side import this_host
from kubecore.kubelet.node import allocatable, out_of_memory
from kubecore.kubelet.node.counts import NodeNow
from kubecore.kubelet.node.events import NodeEvents
from kubecore.kubelet.node.images import NodeImages
from kubecore.kubelet.node.node import Machine, NodeIdentity, NodeKeeper
from kubecore.kubelet.node.runtimes import make_runtimes
from kubecore.kubelet.node.services import ChosenRuntime, NodeServices
from kubecore.kubelet.node.shutdown import end_pods
from kubecore.kubelet.pods import orphans
from kubecore.kubelet.pods.admission import PodAdmission
from kubecore.kubelet.pods.adoption import LeftPods
from kubecore.kubelet.pods.disks import PodDisks
from kubecore.kubelet.pods.fields import NodeFacts
from kubecore.kubelet.pods.image_pulling import ImagePuller
from kubecore.kubelet.pods.mandatory_access import app_armor_lack
from kubecore.kubelet.pods.name_files import Naming
from kubecore.kubelet.pods.objects import ReferencedObjects
from kubecore.kubelet.pods.pod_cgroups import CPU, MEMORY, PodCgroups
from kubecore.kubelet.pods.status_writer import StatusWriter
from kubecore.kubelet.pods.worker import PodWorker
from kubecore.kubelet.pods.workers import PodWorkers
from kubecore.kubelet.runtime import leftovers
from kubecore.kubelet.runtime.stopping import stop_running
from kubecore.kubelet.serving import configz
from kubecore.kubelet.serving.kubelet_metrics import KubeletMetrics
from kubecore.kubelet.serving.server import KubeletServer, ServerConfig
from kubecore.kubelet.serving.stats import NodeStats
from kubecore.kubelet.serving.usage import MemoryUse, RunningPod, UsageReader
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from kubecore.kubelet.volumes.manager import VolumeManager
from kubecore.kubelet.volumes.tokens import TokenManager

log = logging.getLogger(__name__)

Object = dict[str, Any]


class Kubelet:
    """`run` works until cancelled and leaves nothing behind: no process, namespace, link or mount.

    `ready` is set once the node is registered and its pods are known.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: KubeletConfig,
        *,
        informers: InformerFactory | None = None,
        ready: asyncio.Event | None = None,
    ) -> None:
        """`ready` is set while the node is registered and its pods are followed; None for an event of its own."""
        self._client = client
        self._clock = clock
        self._config = config
        self._shared = informers
        self._own = InformerFactory(client, clock)
        self._nodes = self._node_informer()
        self.ready = ready or asyncio.Event()
        self.book = LogBook(config.log_rotation)
        folder = config.pod_manifest_path or config.root_dir / "manifests"
        self.workers = PodWorkers(client, clock, folder, self._node, self._make_worker)
        self._recorder = EventRecorder(client, clock, "kubelet", host=config.node_name)
        self._events = NodeEvents(self._recorder, config.node_name)
        cidrs = config.own_pod_cidrs
        self._network = network.make(
            config.network_mode,
            cidrs,
            cluster_cidrs=config.cluster_cidrs,
            bridge=config.bridge,
            through_node=config.pods_through_node,
            half="upper" if config.cri is not None and config.keeper is not None else "",
            node=config.node_network,
        )
        self._mark = leftovers.node_mark(config.root_dir, config.node_name)
        self._cgroups = PodCgroups(None, "the kubelet has not started")
        self.metrics = metrics = KubeletMetrics()
        self._own_runtimes = make_runtimes(
            config, self._network, cidrs, clock, self.book, mark=self._mark, metrics=metrics.runtime
        )
        self._runtimes = self._own_runtimes.by_handler
        self._left = LeftPods()
        self._images = self._own_runtimes.images
        self._objects = ReferencedObjects(client, clock, self.workers.wake)
        self._puller = ImagePuller(
            self._images,
            config.registries,
            clock,
            self._objects.get,
            self._image_pulled,
            verification=config.image_verification,
        )
        self._garbage = self._own_runtimes.garbage(config.image_gc, self._puller, self._events.warn)
        self._node_images = NodeImages(
            self._own_runtimes.image_sources(), clock, self._images_changed, most=config.max_images
        )
        self._services: NodeServices | None = None
        self._keeper: NodeKeeper | None = None
        self._machine: Machine | None = None
        self._eviction_changed: Callable[[], None] = lambda: None
        self._usage = UsageReader()
        self._eviction, self.stats = self._make_observers()

    def _make_observers(self) -> tuple[EvictionManager, NodeStats]:
        """Who look at what pods use: to end some before nothing is left, and to tell."""
        clock, config, usage = self._clock, self._config, self._usage
        disks = PodDisks(config.root_dir, lambda: set(self._runtimes.values()))
        pods = NodePods(disks, usage, self.workers.all)
        eviction = EvictionManager(
            clock,
            config.eviction,
            config.root_dir,
            pods,
            changed=lambda: self._eviction_changed(),
            reclaim=self._reclaim_disk,
            tell=self._events.warn,
            count=self.metrics.evictions.add,
        )
        images = self._own_runtimes.image_disk
        return eviction, NodeStats(
            clock, config.node_name, self.workers.running, usage, config.root_dir, pods.disks, images
        )

    def _node_informer(self) -> SharedInformer:
        """Of this node, or of all where somebody watches them anyway."""
        if self._shared is not None:
            return self._shared.informer("nodes")
        return self._own.informer("nodes", field_selector=f"metadata.name={self._config.node_name}")

    @property
    def node_name(self) -> str:
        return self._config.node_name

    @property
    def isolated(self) -> bool:
        """Whether containers of the host runtime have namespaces, so that volumes can be mounted."""
        return self._own_runtimes.isolation.namespaces

    @property
    def image_lack(self) -> str:
        """Why images cannot be run here, "" if they can."""
        return self._own_runtimes.image_lack

    @property
    def host_ips(self) -> tuple[str, ...]:
        """The node's addresses."""
        return self._network.host_ips

    def now(self) -> datetime:
        return self._clock.now()

    def settings(self, address: str, port: int) -> Object:
        """What the server's /configz shows; it listens there."""
        return configz.told(self._config, address=address, port=port, cgroups=self._cgroups.cgroups is not None)

    @property
    def root(self) -> Path:
        """The folder of the node's files."""
        return self._config.root_dir

    @property
    def machine(self) -> Machine:
        if self._machine is None:
            raise RuntimeError("the kubelet has not started")
        return self._machine

    def counts(self) -> NodeNow:
        """What the server's /metrics tells beside `metrics`."""
        cgroups, runtimes = self._cgroups.cgroups, set(self._runtimes.values())
        return NodeNow(
            self._config.node_name,
            int(cgroups.version[1:]) if cgroups is not None else 0,
            [worker.now() for worker in self.workers.all()],
            [one for runtime in runtimes for one in runtime.list_pod_sandboxes()],
            [one for runtime in runtimes for one in runtime.list_containers()],
            self.workers.running(),
        )

    # ---- life

    async def run(self) -> None:
        config = self._config
        config.root_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        server = KubeletServer(self, self._client, ServerConfig.of(config), self._clock)
        try:
            self._network.start()
            self._start_cgroups(await self._own_runtimes.find())
            for runtime in set(self._runtimes.values()):
                runtime.subscribe(self.workers.container_ended)
            await self._own_runtimes.start()
            strict_groups = await self._own_runtimes.strict_groups(config.default_runtime)
            self._left.find(set(self._runtimes.values()))
            self._machine = machine = Machine.read(config.root_dir, max_pods=config.max_pods, reserved=config.reserved)
            server.listen(self._network.host_ips[0])
            self._keeper = keeper = NodeKeeper(
                self._client,
                self._clock,
                replace(self._identity(server.port), strict_groups=strict_groups),
                machine,
                lambda: self._eviction.conditions,
                self._own_runtimes.trouble,
                self._events.became,
                lambda: self._node_images.told,
            )
            self._eviction_changed = keeper.changed
            self._services = self._make_services(machine)
            self._events.tell("Starting", "Starting kubelet.")
            await keeper.register()
            if keeper.rebooted:
                self._events.rebooted(keeper.rebooted)
            lack = self._cgroups.lack_of(CPU, MEMORY, watched=self._watches_memory)
            self._events.started(lack.message if lack else "", config.no_ipv6, self._own_runtimes.changed)
            await self._follow(keeper)
            log.info("node %s is ready", config.node_name)
            self.ready.set()
            works = [
                ("lease", keeper.keep_lease()),
                ("status", keeper.keep_status()),
                ("images told", self._node_images.run()),
                ("users of pods", self._own_runtimes.try_users(keeper.changed)),
                *(("images", garbage.run()) for garbage in self._garbage),
                ("eviction", self._eviction.run()),
                ("system oom", out_of_memory.watch(partial(self._events.warn, "SystemOOM"))),
                ("allocatable", allocatable.enforce(self._cgroups.cgroups, machine, config, self._clock, self._events)),
                ("server", server.serve()),
                *([("static pods", self.workers.static.run())] if config.pod_manifest_path is not None else []),
            ]
            async with asyncio.TaskGroup() as group:
                for name, work in works:
                    group.create_task(work, name=f"kubelet {name} {config.node_name}")
        finally:
            self.ready.clear()
            await self._shut_down(server)

    async def shut_down(self) -> None:
        """While it runs, before it is cancelled: the machine is about to go down. Pods end in order, as far as that is
        configured."""
        config = self._config.shutdown
        if not config.periods or self._services is None or self._keeper is None:
            return
        self._events.tell("Shutdown", "Shutdown manager detected shutdown event")
        self._services.admission.shutting_down = self._keeper.shutting_down = True
        self._keeper.changed()
        await end_pods(self._clock, config, self.workers.all)

    def _start_cgroups(self, places: Places | None) -> None:
        """`places`: of what runs already."""
        config = self._config
        found = detection.Detection(None, "")
        if places is not None:
            found = detection.Detection(detection.at(places), "")
        elif config.cgroups:
            found = detection.detect(self._mark, join=self._own_runtimes.cri_goes_on)
        if found.reason:
            log.log(logging.INFO if found.cgroups else logging.WARNING, "node %s: %s", config.node_name, found.reason)
        self._cgroups = PodCgroups(found.cgroups, found.reason, most_pids=config.pod_max_pids)
        limited = found.cgroups is not None and found.cgroups.limits_memory
        self._own_runtimes.use(found.cgroups, watch_memory=config.cgroups and not limited)

    @property
    def _watches_memory(self) -> bool:
        """Of pods whose runtime is the default one."""
        runtime = self._runtimes.get(self._config.default_runtime)
        return runtime is not None and runtime.watches_memory

    def _image_pulled(self, seconds: float, size: int) -> None:
        self.metrics.pulled(seconds, size)
        self._node_images.wake()

    def _images_changed(self) -> None:
        if self._keeper is not None:
            self._keeper.changed()

    async def _reclaim_disk(self) -> bool:
        """Without harm to pods. True if anything was freed."""
        return any([await garbage.remove_all() for garbage in self._garbage])

    def _node(self) -> Object:
        found = self._nodes.get(self._config.node_name)
        return found if found is not None else {"metadata": {"name": self._config.node_name}}

    async def _ask_for_node(self) -> Object:
        return await self._client.get("nodes", self._config.node_name)

    async def _follow(self, keeper: NodeKeeper) -> None:
        pods = self._own.informer("pods", field_selector=f"spec.nodeName={self._config.node_name}")
        informers = self._shared or self._own
        services = informers.informer("services")
        await self._own.start()
        if self._shared is not None:
            await self._shared.start()
        await services.wait_synced()
        services.add_handler(self._names_changed, lambda _, new: self._names_changed(new), self._names_changed)
        if not self._config.cluster_dns:
            slices = informers.informer("endpointslices.discovery.k8s.io")
            await informers.start()
            slices.add_handler(self._names_changed, lambda _, new: self._names_changed(new), self._names_changed)
        await self._nodes.wait_synced()
        self._nodes.add_handler(on_update=self._events.updated)
        self._nodes.add_handler(keeper.seen, lambda _, new: keeper.seen(new), keeper.gone)
        await pods.wait_synced()
        if self._config.pod_manifest_path is not None:
            self.workers.static.look()
        wanted = {meta.uid(pod) for pod in pods.list()} | {worker.uid for worker in self.workers.all()}
        await self._left.remove_others(wanted)
        orphans.remove(self._config.root_dir, wanted)
        self.workers.follow(pods)

    async def _shut_down(self, server: KubeletServer) -> None:
        """The network goes last, also where the rest takes too long; what keeps containers ends with them then, too."""
        try:
            await self._end(server)
        finally:
            self._own_runtimes.tell_end()
            with suppress(OSError):
                self._network.close()

    async def _end(self, server: KubeletServer) -> None:
        """Workers first, so that nothing is restarted; then all containers together, and what held them."""
        await self._own.stop()
        await self.workers.close()
        await server.close()
        runtimes = set(self._runtimes.values())
        interrupted = await stop_running(self._clock, runtimes, self._config.last_grace_seconds)
        if interrupted is not None:
            self.workers.keep_last_words(interrupted)
        if self._services is not None:
            self._services.host_ports.close()
        await self._own_runtimes.close()
        self._cgroups.close()
        await self._puller.close()
        await self._objects.close()
        await self._recorder.stop()

    def _make_services(self, machine: Machine) -> NodeServices:
        config = self._config
        informers = self._shared or self._own
        services = informers.informer("services")
        slices = None if config.cluster_dns else informers.informer("endpointslices.discovery.k8s.io")
        host = config.host or this_host(config, self._network.host_ips)
        return NodeServices(
            client=self._client,
            clock=self._clock,
            recorder=self._recorder,
            root=config.root_dir,
            facts=NodeFacts(config.node_name, self._network.host_ips, machine.allocatable()),
            memory_capacity=machine.memory,
            naming=Naming(config.cluster_domain, config.cluster_dns, network=self._network.mode),
            book=self.book,
            objects=self._objects,
            volumes=VolumeManager(config.root_dir / "pods", self._clock),
            tokens=TokenManager(self._client, self._clock),
            admission=PodAdmission(
                self._node,
                self._ask_for_node,
                self.workers.granted,
                allowed_sysctls=config.allowed_unsafe_sysctls,
                pressure=self._eviction.refusal,
                app_armor_lack=app_armor_lack(),
            ),
            cgroups=self._cgroups,
            puller=self._puller,
            host_ports=HostPorts(self._clock, self._recorder, host),
            metrics=self.metrics,
            longest_back_off=timedelta(seconds=config.longest_back_off_seconds),
            seccomp_default=config.seccomp_default,
            single_process_oom_kill=config.single_process_oom_kill,
            left=self._left,
            namespaces=config.pod_namespaces,
            runtime_for=self._runtime_for,
            memory_use=self._memory_of,
            warn_of_node=self._events.warn,
            services=services.list,
            slices=slices.list if slices is not None else list,
        )

    async def _memory_of(self, pod: RunningPod) -> MemoryUse:
        async with self._clock.outside(float("inf")):
            return await self._usage.memory_of(pod)

    def _identity(self, port: int) -> NodeIdentity:
        config = self._config
        return NodeIdentity(
            name=config.node_name,
            addresses=self._network.host_ips,
            port=port,
            pod_cidrs=config.pod_cidrs if config.network_mode != "loopback" else (),
            network_mode=config.network_mode,
            no_way_out=config.node_network.no_way_out if config.node_network is not None else "",
            runtime=getattr(self._runtimes.get(config.default_runtime), "name", "host"),
            handlers=tuple(self._own_runtimes.handlers),
            features=lambda handler: self._own_runtimes.features(handler or config.default_runtime),
            taints=config.taints,
            lease_seconds=config.lease_seconds,
        )

    def _make_worker(self, pod: Object, writer: StatusWriter | None) -> PodWorker:
        if self._services is None:
            raise RuntimeError("the kubelet has not started")
        return PodWorker(pod, self._services, writer)

    def _names_changed(self, obj: Object) -> None:
        if not self._config.cluster_dns:
            self.workers.refresh_names()

    async def _runtime_for(self, pod: Object) -> ChosenRuntime:
        config = self._config
        return await self._own_runtimes.of_pod(pod, self._client, config.default_runtime, node_name=config.node_name)
