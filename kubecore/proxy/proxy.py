"""The service proxy of a node: keeps the data plane at what Services and EndpointSlices say."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from kubecore import _native, port_names
from kubecore.api import meta
from kubecore.client.client import Client
from kubecore.client.events import EventRecorder
from kubecore.client.informer import InformerFactory, SharedInformer
from kubecore.clock import Clock, Timer
from kubecore.pod_namespaces import PodNamespaces
from kubecore.proxy.claims import Problem
from kubecore.proxy.data_plane import DataPlane, Mode, ModeUnavailable
from kubecore.proxy.health_checks import HealthChecks
from kubecore.proxy.ipvs import leftovers
from kubecore.proxy.modes import ProxyConfig, make_data_plane
from kubecore.proxy.node_addresses import primary_of
from kubecore.proxy.status import ProxyStatus, StatusServer
from kubecore.proxy.virtual_servers import (
    PROXY_NAME_LABEL,
    PROXY_PROTOCOL_ANNOTATION,
    PROXY_PROTOCOLS,
    SCHEDULER_ANNOTATION,
    SERVICE_NAME_LABEL,
    HealthCheck,
    NodeView,
    VirtualServer,
    cluster_ips,
    has_cluster_ip,
    health_check,
    scheduler_of,
    virtual_servers,
)

log = logging.getLogger(__name__)

Object = dict[str, Any]
_SERVICE_INDEX = "proxy/service"
_ZONE_LABEL = "topology.kubernetes.io/zone"
_REMOVAL_TAINT = "ToBeDeletedByClusterAutoscaler"
_TURN_SECONDS = 0.005
# Among the keys of Services, for whom a commit is tried again; and what stands before those whose health check is.
_COMMIT = ""
_CHECK = "healthcheck "
# As kube-proxy's --iptables-sync-period and --ipvs-sync-period.
_LOOK_SECONDS = 30.0
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 1.0, 60.0


class ServiceProxy:
    """Runs until cancelled, then closes its listeners and takes its addresses back.

    A Service whose address or port cannot be had gets a Warning event and is tried again (with back-off) unless that is
    hopeless; everything else goes on.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        config: ProxyConfig,
        *,
        informers: InformerFactory | None = None,
        native_clock: _native.Clock | None = None,
        namespaces: PodNamespaces | None = None,
    ) -> None:
        if config.scheduler not in _native.schedulers():
            known = ", ".join(_native.schedulers())
            raise ValueError(f"unknown scheduler {config.scheduler!r}: expected one of {known}")
        self.ready = asyncio.Event()
        self.mode: Mode = "userspace"
        self._config = config
        self._clock = clock
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client, clock)
        self._recorder = EventRecorder(client, clock, "kube-proxy", host=config.node_name)
        self._services = self._informers.informer("services")
        self._slices = self._informers.informer("endpointslices.discovery.k8s.io")
        addresses = () if config.primary_node_ports else config.node_port_addresses
        self._node = NodeView(
            config.node_name, node_port_addresses=addresses, scheduler=config.scheduler, nodes=config.nodes
        )
        # zones decide which endpoints are near
        self._nodes: SharedInformer | None = None
        if config.node_name:
            self._nodes = self._informers.informer("nodes", field_selector=f"metadata.name={config.node_name}")
        elif config.nodes:
            self._nodes = self._informers.informer("nodes")
        self._native_clock = native_clock
        self._namespaces = namespaces
        self._plane: DataPlane | None = None
        # By which other proxies of the host know that the kernel's tables are this one's.
        self._tables: socket.socket | None = None
        self._dirty: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._retries: dict[str, tuple[float, Timer | None]] = {}
        self._told: dict[str, set[str]] = {}
        families = dict.fromkeys("IPv6" if ":" in one else "IPv4" for one in config.node_port_addresses)
        self.status = ProxyStatus(clock, lambda: self.mode, self.rows, families=tuple(families))
        self._server = StatusServer(self.status)
        self._checks = HealthChecks(lambda: self._node.node_port_addresses, lambda: self.status.healthy)
        self._new_checks: dict[str, HealthCheck | None] = {}
        self._look: Timer | None = None

    async def run(self) -> None:
        """Follow the cluster until cancelled."""
        plane = self._plane = await self._make_plane()
        self.mode = plane.mode
        self._follow()
        try:
            await self._server.start(self._config)
            await self._informers.start()
            await self._services.wait_synced()
            await self._slices.wait_synced()
            if self._nodes is not None:
                await self._nodes.wait_synced()
            await self._apply_changes(plane)
            self._sweep(plane)
            self.ready.set()
            self._look_later(plane)
            rested = 0.0
            while True:
                await self._changed.wait()
                # the first change after a rest is applied at once, with what has come beside it; others wait
                await self._clock.sleep(max(0.0, rested - self._clock.monotonic()))
                await self._apply_changes(plane)
                rested = self._clock.monotonic() + self._config.batch_seconds
        finally:
            self.ready.clear()
            if self._look is not None:
                self._look.cancel()
            for key in list(self._retries):
                self._end_retries(key)
            self._checks.close()
            self._server.close()
            plane.close()
            self._release_tables()
            await self._recorder.stop()
            if self._own_informers:
                await self._informers.stop()

    def rows(self) -> list[dict[str, Any]]:
        """Services, destinations, weights and connections, as `kubecore proxy ls` shows them."""
        return self._plane.rows() if self._plane is not None else []

    # ------------------------------------------------------------------ following
    def _follow(self) -> None:
        self._slices.add_index(_SERVICE_INDEX, _services_of)
        self._services.add_handler(
            on_add=lambda new: self._mark([meta.key(new)], services=1),
            on_update=lambda old, new: self._mark([meta.key(new)], services=1),
            on_delete=lambda old: self._mark([meta.key(old)], services=1),
        )
        self._slices.add_handler(
            on_add=lambda new: self._mark(_services_of(new), slices=1),
            on_update=lambda old, new: self._mark({*_services_of(old), *_services_of(new)}, slices=1),
            on_delete=lambda old: self._mark(_services_of(old), slices=1),
        )
        if self._nodes is not None and self._config.node_name:
            self._nodes.add_handler(self._see_node, lambda old, new: self._see_node(new), self._lose_node)
        elif self._nodes is not None:
            self._nodes.add_handler(self._see_zone, lambda old, new: self._see_zone(new))

    def _lose_node(self, _: Object) -> None:
        self.status.node_eligible = False

    def _see_node(self, node: Object) -> None:
        taints = (node.get("spec") or {}).get("taints") or ()
        self.status.node_eligible = not meta.is_deleting(node) and all(one["key"] != _REMOVAL_TAINT for one in taints)
        seen = replace(self._node, zone=meta.labels(node).get(_ZONE_LABEL, ""))
        if self._config.primary_node_ports:
            seen = replace(seen, node_port_addresses=primary_of(node))
        self._view(seen)

    def _see_zone(self, node: Object) -> None:
        """Of any node; it may be one of those that share this proxy."""
        name, zone = meta.name(node), meta.labels(node).get(_ZONE_LABEL, "")
        nodes = self._node.nodes
        if any(one.name == name and one.zone != zone for one in nodes):
            seen = tuple(replace(one, zone=zone) if one.name == name else one for one in nodes)
            self._view(replace(self._node, nodes=seen))

    def _view(self, seen: NodeView) -> None:
        if seen != self._node:
            self._node = seen
            self._mark(meta.key(service) for service in self._services.list())

    def _mark(self, keys: Iterable[str], *, services: int = 0, slices: int = 0) -> None:
        self.status.changed(services=services, slices=slices)
        for key in keys:
            self._dirty[key] = None
        self._changed.set()

    # ------------------------------------------------------------------ applying
    async def _apply_changes(self, plane: DataPlane) -> None:
        """Apply what is dirty; others get their turn when it takes long."""
        began = self._clock.monotonic()
        turn_ends = began + _TURN_SECONDS
        while self._dirty:
            service = next(iter(self._dirty))
            del self._dirty[service]
            if service == _COMMIT:
                continue
            try:
                self._apply(plane, service)
            except Exception:
                log.exception("service %s could not be proxied", service)
                self._try_again(service)
            if self._clock.monotonic() >= turn_ends:
                await self._clock.sleep(0)
                turn_ends = self._clock.monotonic() + _TURN_SECONDS
        self._changed.clear()
        try:
            plane.commit()
        except OSError as error:
            log.error("proxy mode %s: the tables could not be changed: %s", plane.mode, error)
            self.status.synced(0, failed=True)
            self._try_again(_COMMIT)
        else:
            if plane.unfinished:
                self._try_again(_COMMIT)
            else:
                self._end_retries(_COMMIT)
            self.status.synced(self._clock.monotonic() - began)
        await self._set_checks()

    async def _set_checks(self) -> None:
        while self._new_checks:
            key, check = self._new_checks.popitem()
            slot = _CHECK + key
            told: set[str] = set()
            try:
                await self._checks.set(key, check)
            except OSError as error:
                service = self._services.get(key)
                if service is not None and check is not None:
                    whose = f"node {self._config.node_name} " if self._config.node_name else ""
                    message = f'{whose}failed to start healthcheck "{key}" on port {check.port}: {error.strerror}'
                    self._tell(service, "FailedToStartServiceHealthcheck", message, told, slot=slot)
            self._remember(slot, told)
            if told:
                self._try_again(slot)
            else:
                self._end_retries(slot)

    def _apply(self, plane: DataPlane, key: str) -> None:
        service = self._services.get(key)
        servers: list[VirtualServer] = []
        addresses: list[str] = []
        told: set[str] = set()
        if service is not None:
            shown, slices = self._with_known_scheduler(service, told), self._slices.by_index(_SERVICE_INDEX, key)
            servers = self._forwarded(shown, virtual_servers(shown, slices, self._node), told)
            self._new_checks[key] = health_check(shown, slices, self._node)
            if has_cluster_ip(service) and PROXY_NAME_LABEL in meta.labels(service):
                addresses = cluster_ips(service)
        else:
            self._new_checks[key] = None
        problems, heirs = plane.apply(key, servers, addresses=addresses)
        self._mark(heirs)
        if service is not None:
            for problem in problems:
                self._tell(service, problem.reason, problem.message, told)
        self._remember(key, told)
        self._retry(key, problems)

    def _forwarded(self, service: Object, servers: list[VirtualServer], told: set[str]) -> list[VirtualServer]:
        """The servers, which the forwarder is to carry if the Service asks for what the mode has not; tells of it."""
        version = meta.annotations(service).get(PROXY_PROTOCOL_ANNOTATION, "")
        if servers and version and version not in PROXY_PROTOCOLS:
            message = f"annotation {PROXY_PROTOCOL_ANNOTATION} names unknown version {version!r} "
            message += f"(known: {', '.join(PROXY_PROTOCOLS)}); endpoints are not told their clients"
            self._tell(service, "UnknownProxyProtocol", message, told)
        asked = []
        if self.mode != "userspace" and any(one.proxy_protocol for one in servers):
            asked.append(f"{PROXY_PROTOCOL_ANNOTATION}: {version}")
        name = meta.annotations(service).get(SCHEDULER_ANNOTATION, "")
        if self.mode == "nftables" and name not in ("", "sh"):
            asked.append(f"{SCHEDULER_ANNOTATION}: {name}")
        if not (servers and asked):
            return servers
        message = f"mode {self.mode} has not what annotation {' and '.join(asked)} asks for: "
        self._tell(service, "ServedInUserspace", message + "this Service is served in user space", told, kind="Normal")
        return [replace(one, forwarded=True) for one in servers]

    def _with_known_scheduler(self, service: Object, told: set[str]) -> Object:
        name = scheduler_of(service, self._config.scheduler)
        if name in _native.schedulers():
            return service
        known = ", ".join(_native.schedulers())
        message = f"annotation {SCHEDULER_ANNOTATION} names unknown scheduler {name!r} (known: {known}); "
        self._tell(service, "UnknownScheduler", message + f"{self._config.scheduler} is used", told)
        copy = meta.deepcopy(service)
        del copy["metadata"]["annotations"][SCHEDULER_ANNOTATION]
        return dict(copy)

    def _tell(
        self, service: Object, reason: str, message: str, told: set[str], *, slot: str = "", kind: str = "Warning"
    ) -> None:
        """An event and a log line, once for as long as the trouble lasts. `slot` is what `told` is remembered by, if
        that is not the Service's key."""
        told.add(message)
        if message not in self._told.get(slot or meta.key(service), ()):
            log.log(
                logging.WARNING if kind == "Warning" else logging.INFO, "service %s: %s", meta.key(service), message
            )
            self._recorder.event(service, kind, reason, message)

    def _remember(self, slot: str, told: set[str]) -> None:
        if told:
            self._told[slot] = told
        else:
            self._told.pop(slot, None)

    def _retry(self, key: str, problems: list[Problem]) -> None:
        if any(problem.passing for problem in problems):
            self._try_again(key)
        else:
            self._end_retries(key)

    def _try_again(self, key: str) -> None:
        """After a pause that grows. While one is under way, changes of the Service do not make it longer."""
        last, timer = self._retries.get(key, (0.0, None))
        if timer is not None:
            return
        delay = min(last * 2, _LONGEST_RETRY_SECONDS) or _FIRST_RETRY_SECONDS

        def again() -> None:
            self._retries[key] = (delay, None)
            self._mark([key.removeprefix(_CHECK)])

        self._retries[key] = (delay, self._clock.call_later(delay, again))

    def _end_retries(self, key: str) -> None:
        _, timer = self._retries.pop(key, (0.0, None))
        if timer is not None:
            timer.cancel()

    # ------------------------------------------------------------------ looking after the kernel's tables
    def _look_later(self, plane: DataPlane) -> None:
        if plane.restores:
            self._look = self._clock.call_later(_LOOK_SECONDS, partial(self._look_after, plane))

    def _look_after(self, plane: DataPlane) -> None:
        """What somebody else has removed is made again, though no Service changes."""
        self._look_later(plane)
        try:
            lost = plane.restore()
        except OSError as error:
            log.warning("proxy mode %s: its tables cannot be looked after: %s", plane.mode, error)
            return
        if lost is not None:
            log.warning("proxy mode %s: somebody has removed tables of the proxy; they are made again", plane.mode)
            self._mark([*lost, _COMMIT])

    # ------------------------------------------------------------------ set-up
    async def _make_plane(self) -> DataPlane:
        config = self._config
        if config.mode != "userspace":
            try:
                self._claim_tables()
                make = partial(make_data_plane, config, self._native_clock, monotonic=self._clock.monotonic)
                return await asyncio.to_thread(make) if config.mode == "nftables" else make()  # starts a program
            except ModeUnavailable as error:
                self._release_tables()
                log.warning("proxy mode %s is not available: %s; falling back to userspace", config.mode, error)
        config = replace(config, mode="userspace")
        return make_data_plane(config, self._native_clock, namespaces=self._namespaces)

    def _claim_tables(self) -> None:
        """Raises ModeUnavailable. Two proxies of one cluster would take its tables from each other again and again."""
        try:
            self._tables = port_names.claim_tables(self._config.table)
        except OSError as error:
            why = "another proxy on this host has them" if error.errno == errno.EADDRINUSE else error.strerror
            raise ModeUnavailable(f"the tables {self._config.table} of the kernel: {why}") from error

    def _release_tables(self) -> None:
        if self._tables is not None:
            self._tables.close()
            self._tables = None

    def _sweep(self, plane: DataPlane) -> None:
        with suppress(OSError):
            for address in plane.sweep():
                log.info("removed service address %s that a former run left on %s", address, self._config.address_link)
        if plane.mode != "ipvs":
            with suppress(OSError):
                if self._tables is None and port_names.are_tables_claimed(self._config.table):
                    return
                leftovers.sweep(self._config.table, (*self._config.service_ranges, *self._config.routed_ranges))


def _services_of(piece: Object) -> tuple[str, ...]:
    name = meta.labels(piece).get(SERVICE_NAME_LABEL)
    return (meta.make_key(meta.namespace(piece), name),) if name else ()
