"""The composition root: which parts a cluster consists of, in which order they start and end.

Everything below is handed what it needs; nothing else in the package wires components together. The parts share
one process, one event loop and, through their clients, one API server. A part run on its own (`kubecore scheduler`)
is the same code behind an HTTPS client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from kubecore.clock import Clock, RealClock

if TYPE_CHECKING:
    from kubecore.apiserver.server import APIServer
    from kubecore.client.client import Client
    from kubecore.client.informer import InformerFactory

log = logging.getLogger("kubecore.cluster")

CLUSTER_DOMAIN = "cluster.local"
STOP_BUDGET_SECONDS = 4.0
"""SIGTERM must end the process within 5 s, its pods' processes with it."""

SERVICE_NETWORK = {"netns": "10.96.0.0/16", "loopback": "127.96.0.0/16"}
DNS_ADDRESS = {"netns": "10.96.0.10", "loopback": "127.96.0.10"}


class Component(Protocol):
    """What every part offers: it runs until cancelled and cleans up what it made; `ready` is set once it works."""

    ready: asyncio.Event

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """What `kubecore up` can be told. Ports: 0 picks a free one, except `insecure_port`, where 0 means off."""

    data_dir: Path = field(default_factory=lambda: Path.home() / ".kubecore")
    bind_address: str = "127.0.0.1"
    secure_port: int = 6443
    grpc_port: int = 6444
    insecure_port: int = 0
    nodes: int = 1
    default_runtime: str = "host"
    dns_port: int | None = None
    proxy_mode: str = "userspace"
    authorization_modes: tuple[str, ...] = ("Node", "RBAC")
    network_mode: str = "auto"
    """`netns`, `loopback`, or `auto`: network namespaces for pods where the kernel and the user's rights allow."""


class Cluster:
    """A whole cluster in this process and on this event loop.

    >>> cluster = Cluster(ClusterConfig(data_dir=path, secure_port=0))
    >>> await cluster.start()      # returns once /readyz is ok
    >>> cluster.kubeconfig         # Path of the administrator's kubeconfig
    >>> await cluster.stop()
    """

    def __init__(self, config: ClusterConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or RealClock()
        self.failed: asyncio.Future[BaseException] | None = None
        self._server: APIServer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._informers: InformerFactory | None = None
        self._network_mode = ""

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

    async def start(self) -> None:
        """Start every part. Returns when the API is ready; nodes and pods follow within moments."""
        self.failed = asyncio.get_running_loop().create_future()
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        from kubecore.apiserver.server import APIServer, APIServerConfig
        from kubecore.kubelet import network

        mode, why = network.detect() if self.config.network_mode == "auto" else (self.config.network_mode, "as told")
        self._network_mode = mode
        log.info("pod network: %s (%s)", mode, why)
        config = self.config
        self._server = APIServer(
            APIServerConfig(
                data_dir=config.data_dir,
                bind_address=config.bind_address,
                secure_port=config.secure_port,
                insecure_port=config.insecure_port,
                grpc_port=config.grpc_port,
                authorization_modes=config.authorization_modes,
                service_cidr=SERVICE_NETWORK[mode],
                cluster_domain=CLUSTER_DOMAIN,
            ),
            self.clock,
        )
        await self._server.start()
        self._start_components(mode)
        await self._server.wait_ready()

    def _start_components(self, mode: str) -> None:
        from kubecore.client.informer import InformerFactory
        from kubecore.controllers.manager import ControllerManager
        from kubecore.scheduler.scheduler import Scheduler

        manager = self._client("system:kube-controller-manager", field_manager="kube-controller-manager")
        # One set of caches for the whole process: what two components watch is decoded and kept once.
        self._informers = InformerFactory(manager, self.clock)
        self._run("controller-manager", ControllerManager(manager, self.clock, informers=self._informers))
        scheduler = self._client("system:kube-scheduler", field_manager="kube-scheduler")
        self._run("scheduler", Scheduler(scheduler, self.clock, informers=self._informers))
        for index in range(self.config.nodes):
            self._start_node(index, mode)

    def _start_node(self, index: int, mode: str) -> None:
        raise NotImplementedError

    def _client(self, username: str, *groups: str, field_manager: str) -> Client:
        from kubecore.client.client import Client

        transport = self.server.transport(username=username, groups=groups)
        return Client(transport, field_manager=field_manager)

    def _run(self, name: str, component: Component) -> None:
        task: asyncio.Task[None] = asyncio.create_task(self._guard(name, component.run()), name=name)
        self._tasks.append(task)

    async def _guard(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """One part's death is the cluster's: half a cluster that looks alive helps nobody."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.exception("%s died", name)
            if self.failed is not None and not self.failed.done():
                self.failed.set_result(error)

    async def stop(self) -> None:
        """End every part, the API server last; pods' processes are gone when this returns."""
        for task in reversed(self._tasks):
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=STOP_BUDGET_SECONDS)
            for task in late:
                log.warning("%s did not end in time", task.get_name())
        self._tasks.clear()
        if self._server is not None:
            await self._server.stop()
            self._server = None
