"""The machine under a node, as far as ports of it lead to pods: its addresses, who listens, and what carries them."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kubecore import _native, port_names
from kubecore.kubelet.networks.host_ports import ClientAddresses, Listens, PortKey
from kubecore.kubelet.settings.kubelet_config import KubeletConfig
from kubecore.netlink import Netlink
from kubecore.pod_namespaces import PodNamespaces

_BRIDGES = "kc-"
_EVERY_HOSTS = "127.0.0.1"
_OWN = ("127.0.0.0/8", "::1/128")
_PRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
# linux/tcp_states.h: TCP_LISTEN, and TCP_CLOSE, which a socket of UDP is in that is connected to nobody.
_LISTENING = {"TCP": "0A", "UDP": "07"}


def this_host(config: KubeletConfig, host_ips: Sequence[str]) -> NodeHost:
    """This machine, for a node that has these addresses on it and has just started."""
    if config.client_addresses is not None:
        config.client_addresses.sweep()
    return NodeHost(
        host_ips,
        pod_ranges=config.cluster_cidrs,
        namespaces=config.pod_namespaces,
        clients=config.client_addresses,
    )


class NodeHost:
    """With `clients` pods see the addresses of clients that are outside of `pod_ranges`; those of `namespaces` are seen
    so in any case."""

    def __init__(
        self,
        host_ips: Sequence[str],
        *,
        pod_ranges: Sequence[str] = (),
        namespaces: PodNamespaces | None = None,
        clients: ClientAddresses | None = None,
    ) -> None:
        self._host_ips = host_ips
        self._pod_ranges, self._namespaces, self._clients = tuple(pod_ranges), namespaces, clients

    def addresses(self) -> Iterator[str]:
        """The node's own, and those of the machine, of whose bridges for pods others have the addresses."""
        yield from self._host_ips
        found = [_EVERY_HOSTS]
        with Netlink() as netlink:
            held = [*netlink.addresses(socket.AF_INET), *netlink.addresses(socket.AF_INET6)]
        for one in held:
            ip = one.address.ip
            elsewhere = ip.is_link_local or (ip.is_loopback and ip.version == 4)
            if not elsewhere and not _link(one.index).startswith(_BRIDGES):
                found.append(str(ip))
        yield from (one for one in dict.fromkeys(found) if one not in self._host_ips)

    def carrier(self) -> NativeCarrier:
        borrows = self._clients is not None and self._clients.allowed()
        namespaces = self._namespaces.native if self._namespaces is not None else None
        return NativeCarrier(self._pod_ranges if borrows else (), namespaces)

    def listens(self, key: PortKey) -> Listens:
        return _listens(key)

    def close(self) -> None:
        if self._clients is not None:
            self._clients.close()


class NativeCarrier:
    """A balancer and a forwarder of its own, so that all connections of the pod can be ended with it."""

    def __init__(self, transparent: Sequence[str], namespaces: _native.Namespaces | None) -> None:
        self._balancer = _native.Balancer()
        self._forwarder = _native.Forwarder(self._balancer, namespaces=namespaces)
        self._transparent = transparent
        self._names: dict[PortKey, list[socket.socket]] = {}

    def open(self, key: PortKey, destination: tuple[str, int]) -> None:
        names = _claimed(key)
        try:
            self._balancer.put_service(*key)
            self._forwarder.listen(*key)
        except OSError as error:
            self._balancer.remove_service(*key)
            _close(names)
            if error.errno == errno.EACCES:
                why = f"ports below {_first_unprivileged_port()} need root or CAP_NET_BIND_SERVICE here"
                raise OSError(error.errno, f"{error.strerror}; {why}") from error
            raise
        self._names[key] = names
        if self._transparent:
            inside = (*self._transparent, *_OWN)
            self._forwarder.set_access(*key, inside_ranges=inside, transparent_ranges=self._transparent)
        self._balancer.set_destinations(*key, [(*destination, 1)])

    def close(self, key: PortKey) -> None:
        self._forwarder.close(*key)
        self._balancer.remove_service(*key)
        _close(self._names.pop(key))

    def renew(self) -> None:
        for (protocol, address, port), names in self._names.items():
            if len(names) == 1:  # another pod had told of the port, and may have gone
                told = port_names.claim_for_pods(protocol, ipaddress.ip_address(address).version, port)
                names += [told] if told is not None else []

    def shut_down(self) -> None:
        self._forwarder.shutdown()
        for names in self._names.values():
            _close(names)
        self._names.clear()


def _claimed(key: PortKey) -> list[socket.socket]:
    """Names of the port, so that no Service leads its packets elsewhere. OSError: one does, or another pod has it."""
    protocol, address, port = key
    version = ipaddress.ip_address(address).version
    try:
        names = [port_names.claim(*key)]
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(error.errno, "another pod or a Service of this machine has it") from error
        raise
    # First our name, then the look for others': who does the same at the same time sees it.
    if (of_pods := port_names.claim_for_pods(protocol, version, port)) is not None:
        names.append(of_pods)
    if port_names.is_claimed(protocol, port_names.EVERYWHERE[version], port):
        _close(names)
        raise OSError(errno.EADDRINUSE, "a Service of this machine has it as a node port")
    return names


def _close(names: list[socket.socket]) -> None:
    for one in names:
        one.close()


def _link(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it is gone
        return ""


def _first_unprivileged_port() -> int:
    try:
        return int(_PRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def _listens(key: PortKey) -> Listens:
    """By the kernel's tables, since to try it would be in the way of who is about to listen."""
    protocol, address, port = key
    found = set(_listening(protocol, port, 4))
    if address in found:
        return "there"
    both = {port_names.EVERYWHERE[4] in found, port_names.EVERYWHERE[6] in _listening(protocol, port, 6)}
    return "everywhere" if True in both else ""


def _listening(protocol: str, port: int, version: int) -> Iterator[str]:
    """The addresses at which sockets of this network namespace have the port (proc_net_tcp.rst of the kernel)."""
    table = Path(f"/proc/net/{protocol.lower()}{'6' if version == 6 else ''}")
    if not table.exists():
        return
    suffix, state = f":{port:04X}", _LISTENING[protocol]
    for line in table.read_text().splitlines()[1:]:
        fields = line.split(maxsplit=4)
        if fields[1].endswith(suffix) and fields[3] == state:
            raw = fields[1].removesuffix(suffix)
            words = [int(raw[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(raw), 8)]
            yield str(ipaddress.ip_address(b"".join(words)))
