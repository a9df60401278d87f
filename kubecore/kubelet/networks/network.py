"""Pod networks of a node: who gets which address, and what is made on the host for it.

Three modes (DESIGN.md, "Runtimes and nodes"), chosen once at start and told to the user:

- `netns`: a pod has a network namespace, joined by a veth pair to one bridge of the whole cluster (`kc-<id>`, named
  after the data directory). Nodes in one process share the bridge, so pods of different nodes reach each other on it
  without the host forwarding anything. The bridge carries each node's gateways, the first address of its pod CIDR of
  each family.
- `rootless`: the same without any rights, on a bridge in a user and network namespace of the cluster's own
  (`kubecore.node_network`). The host knows nothing of the addresses there: what listens on the host for pods, what
  asks them from there, and what asks others in their place (`kubecore.way_out`), is this program.
- `loopback`: pods share the host's network. A pod's address is one of 127.0.0.0/8 (which ones, `loopback_ranges` says),
  all of which every Linux host accepts without any set-up; IPv6 has but one such address, so there is none of it.
  Nothing keeps two pods from binding the same port on 0.0.0.0, so a process should bind its own pod's address, which
  every container finds in $KUBECORE_POD_IP.
"""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from kubecore import node_network
from kubecore.kubelet import proc_files
from kubecore.netlink import Address, Interface, Netlink, Network
from kubecore.node_network import NodeNetwork

Mode = Literal["netns", "rootless", "loopback"]
Half = Literal["", "lower", "upper"]
"""Which part of a node's addresses is handed out here, where somebody else hands out the rest; "" for all."""

POD_LINK = "kv"
"""As the node's ends of pods' links begin."""
_CAP_NET_ADMIN, _CAP_SYS_ADMIN = 12, 21


class Detection(NamedTuple):
    """The best mode this process may use, and why it is no better (a part of a line for the user)."""

    mode: Mode
    reason: str


MEANING: dict[Mode, str] = {
    "netns": "every pod has a network namespace and an address on a bridge",
    "rootless": "every pod has a network namespace and an address on a bridge in a namespace of the cluster's own, "
    "out of which kubecore carries TCP and UDP; node ports, port-forward and the API server's proxy lead into it",
    "loopback": "pods share the host's network, each with an address of 127.0.0.0/8",
}


def detect_rootless(trouble: Callable[[], str] = node_network.trouble) -> Detection:
    """Whether mode rootless can be had. `trouble` tries the real thing, as much of it as is wanted."""
    why = "it is for other users than root, who has netns" if os.geteuid() == 0 else trouble()
    return Detection("loopback", why) if why else Detection("rootless", "")


def detect() -> Detection:
    """Find the pod network mode by trying the real thing (a bridge, made and removed)."""
    missing = [
        name
        for bit, name in ((_CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (_CAP_NET_ADMIN, "CAP_NET_ADMIN"))
        if not _capable(bit)
    ]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        whose = "" if os.geteuid() == 0 else " (not root)"
        return Detection("loopback", f"{' and '.join(missing)} {verb} missing{whose}")
    probe = f"kcp{os.getpid()}"
    try:
        with Netlink() as netlink:
            netlink.add_bridge(probe)
            netlink.delete_link(probe)
    except OSError as error:
        return Detection("loopback", f"no bridge can be made ({error.strerror})")
    if not Path("/proc/self/ns/net").exists():
        return Detection("loopback", "the kernel has no network namespaces")
    return Detection("netns", "network namespaces and bridges can be made")


def _capable(bit: int) -> bool:
    for line in proc_files.lines(Path("/proc/self/status")):
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def bridge_name(data_dir: Path) -> str:
    """The cluster's bridge, the same for every component over the same data directory (15 characters at most)."""
    return "kc-" + hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:8]


def host_address(pod_cidr: str) -> str:
    """The `host_ip` of a node with these pods, before there is one."""
    return str(ipaddress.ip_network(pod_cidr)[1])


def may_bind(address: str, port: int) -> bool:
    """Whether this process has the right to serve a port of an address of this host; it may be taken all the same."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, port))
        except PermissionError:
            return False
        except OSError:
            return True
    return True


def https_port(address: str) -> int:
    """Where Service default/kubernetes may be had at this address: 443, or 6443 where that takes more rights."""
    return 443 if may_bind(address, 443) else 6443


def unrouted(candidates: Iterable[str]) -> set[str]:
    """Those of the networks that no route of this host leads into, but the default route.

    Two clusters on one machine must not share a pod range in netns mode: the host could reach only one of them.
    """
    with Netlink() as netlink:
        taken = [route for version in (4, 6) for route in netlink.routes(version) if route.prefixlen]
    return {one for one in candidates if not any(_meet(ipaddress.ip_network(one), route) for route in taken)}


def _meet(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """What a pod network needs of a sandbox: descriptors of its network namespace and of a netlink socket inside it."""

    namespace: int
    netlink: int


class PodNetwork(Protocol):
    """Addresses of one node's pods. `attach` and `detach` are idempotent per pod uid and never block on I/O."""

    mode: Mode
    host_ips: tuple[str, ...]
    """Addresses under which pods reach the node: one of each family, the cluster's own first."""
    node: NodeNetwork | None
    """In which pods have their namespaces, where that is not the host's."""

    def start(self) -> None:
        """Make what the node needs; takes over or removes what a dead run left."""

    def attach(self, uid: str, namespace: NetworkNamespace | None) -> tuple[str, ...]:
        """Give the pod its addresses, of the families of `host_ips`, and connect its namespace. Raises NetworkError
        when there is no address left."""

    def detach(self, uid: str) -> None:
        """Take the pod's addresses back."""

    def restore(self, uid: str, addresses: Sequence[str]) -> None:
        """The pod has these since before this object was made, and is connected."""

    def close(self) -> None:
        """Remove all that was made."""

    def abandon(self) -> None:
        """Remove what nobody needs of what another process has made, which has been killed."""


def make(
    mode: str,
    pod_cidrs: Sequence[str],
    *,
    cluster_cidrs: Sequence[str],
    bridge: str,
    through_node: bool,
    half: Half = "",
    node: NodeNetwork | None = None,
) -> PodNetwork:
    """Of a node whose pods have these ranges. `node`: in mode rootless."""
    if mode in ("netns", "rootless"):
        return BridgeNetwork(
            pod_cidrs, bridge=bridge, cluster_cidrs=cluster_cidrs, through_node=through_node, half=half, node=node
        )
    return LoopbackNetwork(pod_cidrs[0], half)


class NetworkError(Exception):
    """A pod cannot be connected; the text is for the pod's FailedCreatePodSandBox event."""


class AddressPool:
    """Addresses of a network, one per owner, handed out in a ring so that a freed one rests as long as possible."""

    def __init__(self, network: str, *, reserved: int = 1, half: Half = "") -> None:
        self._network: Network = ipaddress.ip_network(network)
        self._first = reserved + 1  # the network's own address, then the reserved ones
        self._size = self._network.num_addresses - self._first - 1  # without the broadcast address
        middle = self._size // 2
        if half == "upper":
            self._first, self._size = self._first + middle, self._size - middle
        elif half == "lower":
            self._size = middle
        self._next = 0
        self._owners: dict[str, Address] = {}
        self._used: set[Address] = set()

    def take(self, owner: str) -> Address:
        held = self._owners.get(owner)
        if held is not None:
            return held
        for step in range(self._size):
            offset = (self._next + step) % self._size
            address = self._network[self._first + offset]
            if address not in self._used:
                self._next = (offset + 1) % self._size
                self._owners[owner] = address
                self._used.add(address)
                return address
        raise NetworkError(f"no address left in {self._network}")

    def keep(self, owner: str, address: Address) -> bool:
        """It is the owner's already. False where it is not of this network."""
        if address not in self._network:
            return False
        self._owners[owner] = address
        self._used.add(address)
        return True

    def release(self, owner: str) -> None:
        address = self._owners.pop(owner, None)
        if address is not None:
            self._used.discard(address)


class LoopbackNetwork:
    """Pods on the host's network, told apart by addresses of one range of 127.0.0.0/8."""

    mode: Mode = "loopback"
    node: NodeNetwork | None = None

    def __init__(self, pod_cidr: str, half: Half = "") -> None:
        self._pool = AddressPool(pod_cidr, half=half)
        self.host_ips: tuple[str, ...] = (host_address(pod_cidr),)

    def start(self) -> None:
        """Nothing to make: the kernel answers on all of 127.0.0.0/8."""

    def attach(self, uid: str, namespace: NetworkNamespace | None) -> tuple[str, ...]:
        return (str(self._pool.take(uid)),)

    def detach(self, uid: str) -> None:
        self._pool.release(uid)

    def restore(self, uid: str, addresses: Sequence[str]) -> None:
        for one in addresses:
            self._pool.keep(uid, ipaddress.ip_address(one))

    def close(self) -> None:
        """Nothing was made."""

    def abandon(self) -> None:
        """Nothing was made."""


# Nodes of one process that share a bridge: the last one to leave removes it.
_gateways: dict[str, set[Interface]] = {}


@dataclass(slots=True)
class _Family:
    """Of a node: what its pods have of one address family."""

    pool: AddressPool
    gateway: Interface
    """The node's own address, as a member of the whole cluster's range."""

    @classmethod
    def of(cls, pods: str, cluster: str, half: Half) -> _Family:
        gateway = f"{host_address(pods)}/{ipaddress.ip_network(cluster).prefixlen}"
        return cls(AddressPool(pods, half=half), ipaddress.ip_interface(gateway))


def _link_name(uid: str) -> str:
    """Of the node's end."""
    return POD_LINK + hashlib.sha256(uid.encode()).hexdigest()[:10]


class BridgeNetwork:
    """Pods in network namespaces on the cluster's bridge.

    A pod gets its addresses as a member of the whole cluster's pod ranges (`cluster_cidrs`), so that pods of every node
    on this bridge are its neighbours, and the gateways of its node as default routes; service VIPs are reached through
    them. Veth pairs vanish with the pod's namespace, whose only holders are descriptors of this process, so that even
    after `kill -9` nothing but the bridge is left, and the next start takes that over.
    """

    def __init__(
        self,
        pod_cidrs: Sequence[str],
        *,
        bridge: str,
        cluster_cidrs: Sequence[str] = ("10.244.0.0/16",),
        through_node: bool = False,
        half: Half = "",
        node: NodeNetwork | None = None,
    ) -> None:
        """Ranges: one, or one of each family, in the same order. `through_node`: pods reach each other by way of the
        node, too, whose kernel must see both directions of a connection where it is the kernel that carries Services.
        The proxy sees to it that it forwards."""
        self.mode: Mode = "netns" if node is None else "rootless"
        self.node = node
        self._netlink: Callable[[], Netlink] = Netlink if node is None else node.netlink
        self._through_node = through_node
        self._families = [_Family.of(*pair, half) for pair in zip(pod_cidrs, cluster_cidrs, strict=True)]
        self._bridge = bridge
        self._links: dict[str, str] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self.host_ips = tuple(str(one.gateway.ip) for one in self._families)

    def start(self) -> None:
        gateways = _gateways.setdefault(self._bridge, set())
        with self._netlink() as netlink:
            index = netlink.link_index(self._bridge)
            if index is None:
                with suppress(FileExistsError):  # the proxy was faster
                    netlink.add_bridge(self._bridge)
                index = netlink.link_index(self._bridge)
                if index is None:
                    raise NetworkError(f"bridge {self._bridge} vanished")
            for family in self._families:
                self._take_over(netlink, index, family.gateway, gateways)
            netlink.set_up(index)
        gateways.update(one.gateway for one in self._families)

    @staticmethod
    def _take_over(netlink: Netlink, index: int, gateway: Interface, gateways: set[Interface]) -> None:
        """The bridge gets the gateway, and loses those of its range that a dead run left."""
        family = socket.AF_INET if gateway.version == 4 else socket.AF_INET6
        for held in netlink.addresses(family):
            stale = held.index == index and held.address.ip in gateway.network and held.address not in gateways
            if stale and held.address != gateway:
                netlink.delete_address(index, held.address)
        try:
            netlink.add_address(index, gateway)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise

    def attach(self, uid: str, namespace: NetworkNamespace | None) -> tuple[str, ...]:
        held = self._addresses.get(uid)
        if held is not None:
            return held
        if namespace is None:
            raise NetworkError("the sandbox has no network namespace")
        link = _link_name(uid)
        try:
            taken = [one.pool.take(uid) for one in self._families]
            self._connect(link, taken, namespace)
        except (OSError, NetworkError) as error:
            self._release(uid)
            if isinstance(error, NetworkError):
                raise
            raise NetworkError(f"failed to connect the pod to bridge {self._bridge}: {error.strerror}") from error
        self._links[uid] = link
        self._addresses[uid] = found = tuple(map(str, taken))
        return found

    def _connect(self, link: str, addresses: Sequence[Address], namespace: NetworkNamespace) -> None:
        with self._netlink() as netlink:
            bridge = netlink.link_index(self._bridge)
            if bridge is None:
                raise OSError(errno.ENODEV, f"bridge {self._bridge} is gone")
            with suppress(OSError):  # a namesake of a pod attempt whose namespace is still being torn down
                netlink.delete_link(link)
            netlink.add_veth(link, peer="eth0", peer_namespace=namespace.namespace, address=addresses[0])
            index = netlink.link_index(link)
            if index is None:
                raise OSError(errno.ENODEV, f"link {link} is gone")
            netlink.set_master(index, bridge)
            if self._through_node:
                netlink.reflect(index)
            netlink.set_up(index)
        with Netlink(os.dup(namespace.netlink)) as inside:
            far = inside.link_index("eth0")
            if far is None:
                raise OSError(errno.ENODEV, "eth0 is gone")
            # First of all: a link that is down takes no routes of IPv6.
            inside.set_up(far)
            for family, address in zip(self._families, addresses, strict=True):
                self._settle(inside, far, address, family.gateway)

    def _settle(self, inside: Netlink, link: int, address: Address, gateway: Interface) -> None:
        """The pod's end gets one address, and what leads out by it."""
        prefix = address.max_prefixlen if self._through_node else gateway.network.prefixlen
        inside.add_address(link, ipaddress.ip_interface(f"{address}/{prefix}"))
        if self._through_node:
            inside.add_route(ipaddress.ip_network(gateway.ip), index=link)
        everywhere = ipaddress.ip_network("0.0.0.0/0" if address.version == 4 else "::/0")
        inside.add_route(everywhere, index=link, gateway=gateway.ip)

    def _release(self, uid: str) -> None:
        for family in self._families:
            family.pool.release(uid)

    def restore(self, uid: str, addresses: Sequence[str]) -> None:
        found = [ipaddress.ip_address(one) for one in addresses]
        if any([family.pool.keep(uid, one) for family in self._families for one in found]):
            self._links[uid], self._addresses[uid] = _link_name(uid), tuple(addresses)

    def detach(self, uid: str) -> None:
        self._addresses.pop(uid, None)
        self._release(uid)
        link = self._links.pop(uid, None)
        if link is not None:
            with self._netlink() as netlink, suppress(OSError):  # gone with its namespace
                netlink.delete_link(link)

    def close(self) -> None:
        for uid in list(self._links):
            self.detach(uid)
        gateways = _gateways.get(self._bridge, set())
        own = [one.gateway for one in self._families]
        gateways.difference_update(own)
        with self._netlink() as netlink, suppress(OSError):
            if not gateways:
                _gateways.pop(self._bridge, None)
                netlink.delete_link(self._bridge)
                return
            index = netlink.link_index(self._bridge)
            for gateway in own if index is not None else ():
                netlink.delete_address(index or 0, gateway)

    def abandon(self) -> None:
        if self.node is not None:
            return  # it goes with its namespace
        ports = Path("/sys/class/net") / self._bridge / "brif"
        if ports.is_dir() and not any(ports.iterdir()):  # the last of the cluster's nodes
            with Netlink() as netlink:
                netlink.delete_link(self._bridge)
