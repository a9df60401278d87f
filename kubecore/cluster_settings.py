"""What each part of a cluster is told: its settings, made of what the cluster was told and of the networks it has."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kubecore.cluster_config import ClusterConfig, ProxyMode
from kubecore.cluster_networks import Networks

if TYPE_CHECKING:
    from kubecore.apiserver.server import APIServer
    from kubecore.controllers.manager import ControllerManagerConfig
    from kubecore.dns.service import Site
    from kubecore.kubelet.settings.kubelet_config import KubeletConfig
    from kubecore.pod_namespaces import PodNamespaces
    from kubecore.proxy.borrowed_addresses import BorrowedAddresses
    from kubecore.proxy.modes import ProxyConfig

CLUSTER_DOMAIN = "cluster.local"
HTTPS_PORT = 443
DNS_ADDRESS_NUMBER = 10
"""Which address of the service range is the DNS server's, by kubeadm's convention."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Modules of parts are loaded by who needs them: not every cluster has every part."""

    config: ClusterConfig
    networks: Networks

    # ---- names

    def node_name(self, index: int) -> str:
        host = socket.gethostname().lower()
        return host if self.config.nodes == 1 else f"{host}-{index}"

    @property
    def node_names(self) -> list[str]:
        """Of those that are no simulated ones."""
        return list(map(self.node_name, range(self.config.real_nodes)))

    def node_folder(self, name: str) -> Path:
        return self.config.data_dir / "nodes" / name

    @property
    def bridge(self) -> str:
        from kubecore.kubelet.networks import network

        return network.bridge_name(self.config.data_dir)

    @property
    def table(self) -> str:
        """What the cluster's tables in the kernel are called, or begin with."""
        return self.bridge.replace("kc-", "kubecore-")

    @property
    def load_balancer_ranges(self) -> tuple[str, ...]:
        return self.config.load_balancer_ranges or self.networks.load_balancers

    @property
    def service_port(self) -> int:
        """Of Service default/kubernetes: clients in pods must reach it, so an unprivileged user cannot have 443."""
        from kubecore.kubelet.networks import network

        address = str(ipaddress.ip_network(self.networks.services[0])[1])
        if self.networks.mode != "loopback" or not self.config.real_nodes:
            return HTTPS_PORT
        return network.https_port(address)

    # ---- parts

    def controller_manager(self, server: APIServer) -> ControllerManagerConfig:
        from kubecore.controllers.manager import ControllerManagerConfig

        return ControllerManagerConfig(
            root_ca=server.authority.certificate,
            node_monitor_grace_seconds=self.config.node_monitor_grace_seconds,
            local_volumes=self.config.data_dir / "volumes",
            load_balancer_ranges=self.load_balancer_ranges,
            account_tokens=server.tokens.issue_legacy,
            signing_certificate=server.authority.pair.certificate,
            signing_key=server.authority.pair.key,
        )

    def dns_site(self) -> Site:
        from kubecore.dns.service import Site
        from kubecore.kubelet.networks import network

        services = map(ipaddress.ip_network, self.networks.services)
        return Site(
            addresses=tuple(str(one.network_address + DNS_ADDRESS_NUMBER) for one in services),
            node_addresses=tuple(map(network.host_address, self.networks.pods_of_node(0))),
            node_name=self.node_name(0),
            spare_ports=(self.config.dns_port, 0) if self.config.dns_port else (0,),
        )

    def kubelet(self, index: int, name_servers: tuple[str, ...], namespaces: PodNamespaces | None) -> KubeletConfig:
        from kubecore.kubelet.settings.kubelet_config import KeeperConfig, KubeletConfig

        config, networks, name, bridge = self.config, self.networks, self.node_name(index), self.bridge
        settings = KubeletConfig(
            node_name=name,
            node_index=index,
            max_pods=config.max_pods,
            root_dir=self.node_folder(name),
            keeper=None if config.lonely_pod_seconds is None else KeeperConfig(config.lonely_pod_seconds),
            default_runtime=config.default_runtime,
            cri=config.cri,
            image_store=config.data_dir / "images",
            network_mode=networks.mode,
            node_network=networks.node,
            cluster_cidrs=networks.pods,
            pod_cidrs=networks.pods_of_node(index),
            bridge=bridge,
            pods_through_node=namespaces is None,
            pod_namespaces=namespaces,
            client_addresses=self._borrowed(index),
            no_ipv6=networks.left_out,
            cluster_id=bridge,
            cluster_dns=name_servers,
            cluster_domain=CLUSTER_DOMAIN,
            client_ca=config.data_dir / "pki" / "ca.crt",
            server_certificate=config.data_dir / "pki" / f"kubelet-{name}.crt",
            server_key=config.data_dir / "pki" / f"kubelet-{name}.key",
        )
        return replace(settings, **config.kubelet)

    def _borrowed(self, index: int) -> BorrowedAddresses | None:
        from kubecore.proxy.borrowed_addresses import of_node

        return of_node(self.table, index) if self.networks.mode == "netns" else None

    def proxy(self, mode: ProxyMode, note_port: Callable[[str, int], None]) -> ProxyConfig:
        """Of the one for all nodes of this process: they share one host."""
        from kubecore.proxy.modes import HEALTH_PORT, METRICS_PORT, ProxyConfig

        networks = self.networks
        return ProxyConfig(
            mode=mode,
            scheduler=self.config.ipvs_scheduler,
            network_mode=networks.mode,
            node_network=networks.node,
            address_link=self.bridge if networks.mode != "loopback" else "",
            table=self.table,
            nodes=networks.nodes_here(self.node_names),
            node_port_addresses=networks.node_ports_at,
            pod_ranges=networks.pods,
            service_ranges=networks.services,
            routed_ranges=self.load_balancer_ranges,
            health_address=("127.0.0.1", HEALTH_PORT),
            metrics_address=("127.0.0.1", METRICS_PORT),
            note_port=note_port,
            status_socket=self.config.data_dir / "proxy.sock",
        )
