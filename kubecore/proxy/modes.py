"""Which mode the proxy has: the one that was asked for where it can be had, else userspace; and the tables of each."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from kubecore import _native
from kubecore.node_network import NodeNetwork
from kubecore.pod_namespaces import PodNamespaces
from kubecore.proxy.addresses import AddressBook
from kubecore.proxy.borrowed_addresses import BorrowedAddresses
from kubecore.proxy.data_plane import DataPlane, Mode, ModeUnavailable
from kubecore.proxy.host_ports import HostPorts
from kubecore.proxy.table import ServiceTable
from kubecore.proxy.virtual_servers import NodeHere

log = logging.getLogger(__name__)

METRICS_PORT, HEALTH_PORT = 10249, 10256
"""kube-proxy's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """`node_name` empty: `nodes` share the proxy; without any, every endpoint counts as local. `batch_seconds`: how
    long changes that follow another are gathered to be applied together. Where pods have namespaces, service addresses
    are put on `address_link`, the bridge of the nodes.

    `primary_node_ports`: instead of `node_port_addresses` node ports work at those that the node tells to be its own.

    For the kernel's tables: `table` is the name of ours, one for each cluster of a host. `pod_ranges` are what is not
    outside, `service_ranges` those of cluster IPs, `routed_ranges` those of other virtual addresses that only this host
    knows.
    """

    mode: Mode = "userspace"
    scheduler: str = "rr"
    node_name: str = ""
    nodes: tuple[NodeHere, ...] = ()
    network_mode: Literal["netns", "rootless", "loopback"] = "loopback"
    node_network: NodeNetwork | None = None
    """That of the link, in mode rootless, where the proxy is in userspace."""
    address_link: str = ""
    node_port_addresses: tuple[str, ...] = ("0.0.0.0",)
    primary_node_ports: bool = False
    batch_seconds: float = 0.002
    table: str = "kubecore"
    pod_ranges: tuple[str, ...] = ()
    service_ranges: tuple[str, ...] = ()
    routed_ranges: tuple[str, ...] = ()
    health_address: tuple[str, int] | None = None
    metrics_address: tuple[str, int] | None = None
    """Where the proxy tells of itself (see `status`)."""
    note_port: Callable[[str, int], None] | None = None
    """Told of the free port (of `proxy-health`, `proxy-metrics`) that is used where one of these is taken; None: such a
    port is done without."""
    status_socket: Path | None = None
    """A Unix socket that tells the same as the metrics' address."""


def unavailable(mode: Mode) -> str:
    """Why a mode cannot be had here; "" if it can. Starts a program, so it takes some milliseconds."""
    if mode == "userspace":
        return ""
    try:
        if mode == "ipvs":
            from kubecore.proxy.ipvs.table import connect

            connect().close()
            return ""
        from kubecore.proxy.nftables.table import probe

        probe()
    except ModeUnavailable as error:
        return str(error) if os.geteuid() == 0 else f"it needs root ({error})"
    return ""


async def settle(wanted: Mode, *, rootless: bool = False) -> Mode:
    """The mode that is asked for, if it can be had, else userspace. `rootless`: pods are in a network without root."""
    reason = await asyncio.to_thread(unavailable, wanted) if wanted != "userspace" else ""
    if rootless and wanted != "userspace":
        reason = "it needs root"
    if reason:
        log.warning("proxy mode %s is not available: %s; falling back to userspace", wanted, reason)
        return "userspace"
    return wanted


def make_data_plane(
    config: ProxyConfig,
    clock: _native.Clock | None,
    *,
    namespaces: PodNamespaces | None = None,
    monotonic: Callable[[], float] | None = None,
) -> DataPlane:
    """In mode userspace, endpoints see pods of `namespaces` with their own addresses. Raises ModeUnavailable."""
    book = _book(config)
    if config.mode == "nftables":
        return _make_nftables(config, book, clock, monotonic)
    if config.mode == "ipvs":
        return _make_ipvs(config, book, clock, monotonic)
    of_host = config.node_network is None
    borrowed = BorrowedAddresses(config.table) if book is not None and of_host else None
    table = ServiceTable(
        clock=clock,
        addresses=book,
        pod_ranges=config.pod_ranges,
        borrowed=borrowed,
        ports=HostPorts(),
        one_listener=of_host,
        namespaces=namespaces,
    )
    if (why := table.forwarder.listens_apart) is not None:
        log.debug("each address of a Service has a socket of its own: %s", why)
    return table


def _book(config: ProxyConfig) -> AddressBook | None:
    if config.network_mode == "loopback" or not config.address_link:
        return None
    if config.node_network is None:
        return AddressBook(config.address_link)
    return AddressBook(config.address_link, config.node_network.netlink)


def _make_nftables(
    config: ProxyConfig, book: AddressBook | None, clock: _native.Clock | None, monotonic: Callable[[], float] | None
) -> DataPlane:
    from kubecore.proxy.held_addresses import HeldAddresses
    from kubecore.proxy.nftables.ruleset import Site
    from kubecore.proxy.nftables.table import NftablesTable

    link = _prepare(config, book)
    site = Site(
        table=config.table, pods=config.pod_ranges, services=config.service_ranges, link=link, nodes=config.nodes
    )
    userspace = _beside_the_kernel(config, book, clock)
    return NftablesTable(
        site, held=HeldAddresses(book), userspace=userspace, ports=_ports_of_kernel(config), monotonic=monotonic
    )


def _make_ipvs(
    config: ProxyConfig, book: AddressBook | None, clock: _native.Clock | None, monotonic: Callable[[], float] | None
) -> DataPlane:
    from kubecore.proxy.held_addresses import HeldAddresses
    from kubecore.proxy.ipvs.table import IpvsTable, connect, local_addresses
    from kubecore.proxy.nftables.ruleset import Site

    connection = connect()
    link = _prepare(config, book)
    return IpvsTable(
        held=HeldAddresses(book),
        userspace=_beside_the_kernel(config, book, clock),
        pods_on_loopback=book is None,
        connection=connection,
        site=Site(table=config.table, pods=config.pod_ranges, nodes=config.nodes),
        ports=_ports_of_kernel(config),
        node_addresses=partial(local_addresses, link),
        monotonic=monotonic,
    )


def _ports_of_kernel(config: ProxyConfig) -> HostPorts:
    """The kernel's tables refuse nobody what another has. Of a whole cluster nobody else has the ranges."""
    return HostPorts(equal_ranges=not config.service_ranges)


def _beside_the_kernel(config: ProxyConfig, book: AddressBook | None, clock: _native.Clock | None) -> ServiceTable:
    """Whose addresses the kernel's tables hold."""
    return ServiceTable(clock=clock, pod_ranges=config.pod_ranges, freebind=book is not None)


def _prepare(config: ProxyConfig, book: AddressBook | None) -> str:
    """Lets the host forward to pods; returns the link that they are on, "" in loopback mode."""
    from kubecore.proxy import routing

    link = config.address_link if book is not None else ""
    try:
        if book is not None:
            book.ensure_link()
        if book is not None or config.pod_ranges:
            routing.forward(link)
        if book is not None:
            routing.route((*config.service_ranges, *config.routed_ranges), link)
    except OSError as error:
        raise ModeUnavailable(f"link {link}: {error.strerror}") from error
    return link
