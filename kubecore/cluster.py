"""The composition root: which parts a cluster consists of, in which order they start and end.

Everything below is handed what it needs; nothing else in the package wires components together. The parts share
one process, one event loop and, through their clients, one API server. A part run on its own (`kubecore scheduler`)
is the same code behind an HTTPS client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from kubecore import port_names
from kubecore.background_tasks import ended
from kubecore.clock import Clock, RealClock
from kubecore.cluster_config import SIMULATED, ClusterConfig, ProxyMode
from kubecore.cluster_networks import Networks, choose_networks, forget_networks, hold_networks
from kubecore.cluster_restarts import doubt_pods
from kubecore.cluster_settings import CLUSTER_DOMAIN, ClusterSettings
from kubecore.held_directory import HeldDirectory
from kubecore.ingress.options import IngressConfig
from kubecore.resolv_conf import ResolvConf
from kubecore.whole_file import write_whole

if TYPE_CHECKING:
    from kubecore.apiserver.server import APIServer
    from kubecore.client.client import Client
    from kubecore.client.informer import InformerFactory
    from kubecore.client.leader_election import LeaderElection
    from kubecore.dns.responder import DnsResponder
    from kubecore.kubelet.kubelet import Kubelet
    from kubecore.kubelet.networks.network import PodNetwork
    from kubecore.pod_namespaces import PodNamespaces

__all__ = ["CLUSTER_DOMAIN", "Cluster", "ClusterConfig", "ProxyMode"]

log = logging.getLogger("kubecore.cluster")

# What the API server is told as it was told.
_SERVER_OPTIONS = (
    *("data_dir", "bind_address", "secure_port", "insecure_port", "grpc_port", "runtime_config"),
    *("authentication", "authorization_modes", "authorization", "admission", "audit", "encryption", "aggregation"),
    "tracing",
)
_LONGEST_REGISTRATION_SECONDS = 20.0
"""Of a node; the cluster is there without it, too."""
_ITSELF = ("system:apiserver", "system:masters")
STOP_BUDGET_SECONDS = 4.0
"""SIGTERM must end the process within 5 s, its pods' processes with it."""
CRI_STOP_BUDGET_SECONDS = 30.0
"""A container runtime outside of kubecore takes the time that it takes to remove pods."""


class Component(Protocol):
    """What every part offers: it runs until cancelled and cleans up what it made; `ready` is set once it works."""

    ready: asyncio.Event

    async def run(self) -> None: ...


class Cluster:
    """A whole cluster in this process and on this event loop.

    >>> async with Cluster(ClusterConfig(data_dir=path, secure_port=0)) as cluster:  # /readyz is ok
    ...     cluster.kubeconfig  # Path of the administrator's kubeconfig

    `start` and `stop` are the same in two calls.
    """

    def __init__(self, config: ClusterConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or RealClock()
        self.failed: asyncio.Future[BaseException] | None = None
        self._server: APIServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._informers: InformerFactory | None = None
        self._networks = Networks()
        self._first_bridge: PodNetwork | None = None
        self._held: HeldDirectory | None = None
        self._stop_cut = asyncio.Event()
        self._kubelets: list[Kubelet] = []
        self._kubelets_ready: dict[str, asyncio.Event] = {}
        """Of nodes whose pods have gone on without them: set once the node says where its new kubelet is."""

    @property
    def networks(self) -> Networks:
        """Known once `start` has returned."""
        return self._networks

    @property
    def _settings(self) -> ClusterSettings:
        return ClusterSettings(self.config, self._networks)

    @property
    def kubeconfig(self) -> Path:
        return self.config.data_dir / "admin.kubeconfig"

    @property
    def server(self) -> APIServer:
        if self._server is None:
            raise RuntimeError("the cluster has not been started")
        return self._server

    @property
    def url(self) -> str:
        """`https://HOST:PORT` of the API server."""
        return self.server.url

    @property
    def client(self) -> Client:
        """The administrator's, within this process and on its event loop."""
        return self._client("kubernetes-admin", "system:masters", field_manager="kubecore")

    def hold(self) -> None:
        """Take the data directory, before anything is written to it; `start` does it where it has not been done.

        Raises DirectoryInUse when another process has it, OSError when it cannot be written to.
        """
        if self._held is None:
            self._held = HeldDirectory(self.config.data_dir)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start every part. Returns when the API is ready and has the nodes; simulated ones, and pods, follow within
        moments. RuntimeError when it runs already."""
        if self._server is not None:
            raise RuntimeError("the cluster has been started")
        self.hold()
        self._stop_cut = asyncio.Event()  # of this loop, which need not be a former start's
        self.failed = asyncio.get_running_loop().create_future()
        self._networks = Networks()
        try:
            await self._start()
        except BaseException:
            if self._server is None or not self._server.addresses_given:
                forget_networks(self.config, self._networks)
            await self.stop()
            raise

    async def _start(self) -> None:
        from kubecore.apiserver.config import APIServerConfig
        from kubecore.apiserver.server import APIServer
        from kubecore.apiserver.storage.lmdb import LMDBConfig

        config = self.config
        self._networks = networks = choose_networks(config)
        log.log(logging.WARNING if networks.left_out else logging.INFO, "pod network %s", networks)
        self._server = APIServer(
            APIServerConfig(
                **{name: getattr(config, name) for name in _SERVER_OPTIONS},
                service_cidr=",".join(networks.services),
                service_port=self._settings.service_port,
                is_anybodys_port=port_names.is_anybodys if config.real_nodes else None,
                service_address=self._service_address(),
                cluster_domain=CLUSTER_DOMAIN,
                verify_kubelets=True,
                storage=LMDBConfig(sync=config.durable),
            ),
            self.clock,
        )
        await self._server.start()
        self._networks = hold_networks(config, networks)
        names = self._settings.node_names
        # The audit is not to take for the administrator's doing what the cluster does by itself.
        await doubt_pods(
            self._client(*_ITSELF), {name: self._settings.node_folder(name) for name in names}, self.clock.now()
        )
        self._kubelets_ready = {name: asyncio.Event() for name in names}
        self._start_control_plane()
        if (dns := self._make_dns()) is not None:
            self._run_task("nodes", partial(self._start_nodes, dns))
        if config.ingress is not None:
            self._run_task("ingress", partial(self._serve_ingress, config.ingress))
        await self._server.wait_ready()
        # Who is told that the cluster is ready asks for its nodes next, or enters a pod that has outlived a former run.
        with contextlib.suppress(TimeoutError):
            async with self.clock.timeout(_LONGEST_REGISTRATION_SECONDS):
                for ready in self._kubelets_ready.values():
                    await ready.wait()

    def _service_address(self) -> str:
        """Where Service default/kubernetes leads: "" for the address the server is bound to, unless that is of the
        other family; then the first node's on the bridge, which is made for it, else the host's loopback."""
        from kubecore.kubelet.networks import network

        networks = self._networks
        six = networks.families[0] == "IPv6"
        if not self.config.real_nodes or (":" in self.config.bind_address) == six:
            return ""
        if networks.mode != "netns":
            return "::1" if six else "127.0.0.1"
        pods = networks.pods_of_node(0)[:1]
        self._first_bridge = first = network.BridgeNetwork(
            pods, bridge=self._settings.bridge, cluster_cidrs=networks.pods[:1]
        )
        first.start()
        return first.host_ips[0]

    def _start_control_plane(self) -> None:
        from kubecore.client.informer import InformerFactory
        from kubecore.controllers.manager import ControllerManager
        from kubecore.scheduler.scheduler import Scheduler

        # All controllers are one user here; their own service accounts' roles are what `system:controller:*` holds.
        client = self._client("system:kube-controller-manager", "system:masters")
        # One set of caches for the whole process: what two components watch is decoded and kept once.
        self._informers = InformerFactory(client, self.clock)
        settings = self._settings.controller_manager(self.server)
        manager = ControllerManager(client, self.clock, settings, informers=self._informers)
        self._run_elected("controller-manager", manager, client)
        client = self._client("system:kube-scheduler")
        scheduler = Scheduler(client, self.clock, self.config.scheduler, informers=self._informers)
        self._run_elected("scheduler", scheduler, client)
        self.server.metrics.add(*manager.metrics, *scheduler.metrics)
        self.server.documents.texts.update(scheduler.documents)
        self._start_simulated_nodes()

    def _election(self, client: Client, lease: str) -> LeaderElection:
        """Nobody else can have this data directory: its cluster comes back under the same name, on whichever host, and
        need not wait for a lease that it held when it was killed. Rivals are only what somebody runs beside it, so that
        it renews seldom, for the sake of idling."""
        from kubecore.client.leader_election import LeaderElection, LeaseTimes

        everywhere = self.server.registry.get("namespaces", "", "kube-system")
        identity = f"kubecore-up_{everywhere['metadata']['uid'] if everywhere else socket.gethostname()}"
        times = LeaseTimes(duration=120.0, renew_deadline=90.0, retry_period=2.0, renew_period=40.0)
        return LeaderElection(client, self.clock, lease, identity=identity, times=times)

    def _start_simulated_nodes(self) -> None:
        """Even where there are none yet, for nodes that somebody makes."""
        from kubecore.kubelet.simulated.fleet import FleetConfig, SimulatedFleet

        config = self.config
        names = tuple(f"simulated-{index}" for index in range(config.simulated_nodes))
        if config.default_runtime == SIMULATED:
            names += tuple(self._settings.node_name(index) for index in range(config.nodes))
        client = self._client("system:simulated-nodes", "system:masters", field_manager="kubelet")
        settings = FleetConfig(
            names=names,
            families=self._networks.families,
            lease_seconds=config.lease_seconds,
            grace_seconds=config.node_monitor_grace_seconds,
        )
        fleet = SimulatedFleet(client, self.clock, settings, informers=self._informers)
        self._run("simulated nodes", fleet)

    def _make_dns(self) -> DnsResponder | None:
        """The cluster's DNS, which listens where it was told to; None when nobody would ask it."""
        from kubecore.dns.responder import DnsConfig, DnsResponder

        config = self.config
        if not config.real_nodes and config.dns_port is None:
            return None
        settings = config.dns or DnsConfig(domain=CLUSTER_DOMAIN, upstreams=ResolvConf.read().resolvers())
        client = self._client("system:coredns")
        responder = DnsResponder(client, self.clock, settings, informers=self._informers)
        if config.dns_port is not None:
            host = "127.0.0.1" if config.bind_address in ("0.0.0.0", "::") else config.bind_address
            self._note_port("dns", responder.listen([host], config.dns_port))
        return responder

    async def _start_dns(self, responder: DnsResponder) -> tuple[str, ...]:
        """Returns the name servers that pods are to ask."""
        from kubecore.dns.service import serve_cluster

        name_servers: tuple[str, ...] = ()
        if self.config.real_nodes:
            name_servers = await serve_cluster(self._client(*_ITSELF), responder, self._settings.dns_site())
        self._run("dns", responder)
        return name_servers

    def _note_port(self, name: str, port: int) -> None:
        """Beside the API server's in `ports.json`, for whoever let a free port be picked."""
        file = self.config.data_dir / "ports.json"
        write_whole(file, json.dumps({**json.loads(file.read_text()), name: port}).encode() + b"\n")

    async def _start_nodes(self, dns: DnsResponder) -> None:
        """DNS first: a pod's name servers never change while it runs."""
        name_servers = await self._start_dns(dns)
        if not self.config.real_nodes:
            return
        from kubecore.pod_namespaces import PodNamespaces
        from kubecore.proxy import modes

        # How pods are connected depends on it.
        mode = await modes.settle(self.config.proxy_mode, rootless=self._networks.mode == "rootless")
        namespaces = PodNamespaces(self._networks.pods) if mode == "userspace" else None
        self._start_proxy(mode, namespaces)
        for index in range(self.config.real_nodes):
            self._start_node(index, name_servers, namespaces)
        if self._networks.mode == "netns":
            from kubecore.proxy.borrowed_addresses import sweep_nodes

            await asyncio.to_thread(sweep_nodes, self._settings.table, beyond=self.config.real_nodes)
        elif self._networks.node is not None:
            self._run_task("echoes", partial(self._networks.node.carry_echoes, self.clock))

    def _start_node(self, index: int, name_servers: tuple[str, ...], namespaces: PodNamespaces | None) -> None:
        from kubecore.kubelet.kubelet import Kubelet

        name = self._settings.node_name(index)
        self.server.issue_serving_certificate(f"kubelet-{name}", [name])
        settings = self._settings.kubelet(index, name_servers, namespaces)
        client = self._client(f"system:node:{name}", "system:nodes", field_manager="kubelet")
        kubelet = Kubelet(client, self.clock, settings, informers=self._informers, ready=self._kubelets_ready[name])
        self._kubelets.append(kubelet)
        self._run(f"kubelet {name}", kubelet)

    def _start_proxy(self, mode: ProxyMode, namespaces: PodNamespaces | None) -> None:
        from kubecore.proxy.proxy import ServiceProxy

        client, settings = self._client("system:kube-proxy"), self._settings.proxy(mode, self._note_port)
        self._run("proxy", ServiceProxy(client, self.clock, settings, informers=self._informers, namespaces=namespaces))

    async def _serve_ingress(self, settings: IngressConfig) -> None:
        """When everything else is under way: it listens only once there is an Ingress, and no start waits for it."""
        await self.server.wait_ready()
        from kubecore.ingress.controller import IngressController

        bind, client = self.config.bind_address, self._client("system:kubecore-ingress")
        node = self._networks.node_reached_at if self.config.real_nodes else ""
        settings = settings.at(bind_address=bind, node_address=node or bind)
        controller = IngressController(client, self.clock, settings, informers=self._informers)
        self.server.metrics.join(controller.metrics)
        await controller.run()

    def _client(self, username: str, *groups: str, field_manager: str = "") -> Client:
        from kubecore.client.client import Client

        transport = self.server.transport(username=username, groups=groups)
        return Client(transport, field_manager=field_manager or username.removeprefix("system:"))

    def _run(self, name: str, component: Component) -> None:
        self._run_task(name, component.run)

    def _run_elected(self, name: str, component: Component, client: Client) -> None:
        """Once it is its turn, where others may be that do the same."""
        election = self._election(client, f"kube-{name}") if self.config.leader_elect else None

        def health() -> tuple[bool, str] | None:
            if component.ready.is_set():
                return True, "ok"
            # Another process may lead: its lease tells.
            leads_elsewhere = election is not None and election.holder and not election.leading
            return None if leads_elsewhere else (False, f"{name} is still starting")

        self.server.register_component(name, health)
        self._run_task(name, component.run if election is None else partial(election.run, component.run))

    def _run_task(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(self._guard(name, work), name=name))

    async def _guard(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """One part's death is the cluster's: half a cluster that looks alive helps nobody."""
        try:
            await work()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.exception("%s died", name)
            if self.failed is not None and not self.failed.done():
                self.failed.set_result(error)

    async def shut_down(self) -> None:
        """Before `stop`: pods end in order, in the time that nodes are configured to leave them, if they are."""
        await asyncio.gather(*(kubelet.shut_down() for kubelet in self._kubelets))

    def cut_stop(self) -> None:
        """A stop waits only a moment more; pods that a container runtime still has then go at the next start."""
        self._stop_cut.set()

    async def stop(self) -> None:
        """End every part, the API server last; pods' processes are gone when this returns."""
        log.info("stopping")
        for task in reversed(self._tasks):
            task.cancel()
        budget = STOP_BUDGET_SECONDS if self.config.cri is None else CRI_STOP_BUDGET_SECONDS
        await ended(self._tasks, budget, self._stop_cut, log)
        self._tasks.clear()
        self._kubelets.clear()
        if self._informers is not None:
            await self._informers.stop()
            self._informers = None
        if self._server is not None:
            await self._server.stop()
            self._server = None
        if self._first_bridge is not None:
            self._first_bridge.close()
            self._first_bridge = None
        self._networks.release()
        if self._held is not None:
            self._held.release()
            self._held = None
        log.info("stopped")
