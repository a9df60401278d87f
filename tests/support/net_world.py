"""A small internet of network namespaces: a node with its bridge, pods on it, and somebody outside. Needs root.

```text
  client 192.0.2.9 ── 192.0.2.1 node ── bridge 10.244.0.1 ── pod one 10.244.0.11, pod two 10.244.0.12
     2001:db8::9        2001:db8::1          fd44::1               fd44::11            fd44::12
```
"""

from __future__ import annotations

import ctypes
import functools
import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from kubecore._native import Balancer, Forwarder
from kubecore.netlink import Netlink

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
SECONDS = 30.0
"""How long anything is waited for; what must not come is waited for much shorter."""
SOON = 0.5


@functools.cache
def start_data_plane() -> None:
    """Its threads stay for as long as the process, in the namespace in which they were started: not in one of a test's,
    lest later tests be served from there."""
    Forwarder(Balancer()).shutdown()


class Namespace:
    """A network namespace, held by a descriptor alone: it is gone with it."""

    def __init__(self) -> None:
        start_data_plane()
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _LIBC.unshare(_CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare")
            self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            with Netlink() as netlink:
                netlink.set_up(1)
        finally:
            _enter(home)
            os.close(home)

    def close(self) -> None:
        os.close(self.descriptor)

    @contextmanager
    def here(self) -> Iterator[None]:
        """This thread is in the namespace meanwhile; sockets that are made stay there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        _enter(self.descriptor)
        try:
            yield
        finally:
            _enter(home)
            os.close(home)

    def socket(self, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
        with self.here():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        made.settimeout(SECONDS)
        return made


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@dataclass
class World:
    node: Namespace
    one: Namespace
    two: Namespace
    client: Namespace
    _sockets: list[socket.socket] = field(default_factory=list)

    BRIDGE = "kc-test"

    # ------------------------------------------------------------------ serving
    def serve(self, where: Namespace, address: str, port: int, name: str) -> None:
        """TCP and UDP: whoever comes is told `name` and the address it comes from."""
        listener = where.socket(address)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(64)
        listener.settimeout(None)
        packets = where.socket(address, socket.SOCK_DGRAM)
        packets.bind((address, port))
        packets.settimeout(None)
        self._sockets += [listener, packets]
        threading.Thread(target=_greet, args=(listener, name), daemon=True).start()
        threading.Thread(target=_answer, args=(packets, name), daemon=True).start()

    # ------------------------------------------------------------------ asking
    def ask(
        self,
        where: Namespace,
        address: str,
        port: int,
        *,
        source: str = "",
        within: float = SECONDS,
        again: bool = True,
    ) -> str:
        """`NAME ADDRESS`: who answered, and whom it saw. "refused", or "silence", which it also is where the kernel had
        to ask more than once, unless it may do so `again`."""
        with where.socket(address) as made:
            made.settimeout(within)
            if source:
                made.bind((source, 0))
            try:
                made.connect((address, port))
                if not again and _packets_repeated(made):
                    return "silence"
                return made.recv(200).decode()
            except (ConnectionRefusedError, ConnectionResetError):
                return "refused"
            except TimeoutError:
                return "silence"

    def ask_udp(self, where: Namespace, address: str, port: int, *, within: float = SECONDS) -> str:
        with where.socket(address, socket.SOCK_DGRAM) as made:
            made.settimeout(within)
            made.connect((address, port))
            made.send(b"who")
            try:
                return made.recv(200).decode()
            except ConnectionRefusedError:
                return "refused"
            except TimeoutError:
                return "silence"

    def close(self) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for namespace in (self.one, self.two, self.client, self.node):
            namespace.close()


def _packets_repeated(connection: socket.socket) -> int:
    """tcpi_total_retrans of linux/tcp.h: after eight bytes the 24th number of four."""
    told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(told[100:104], sys.byteorder)


def _greet(listener: socket.socket, name: str) -> None:
    with suppress(OSError):
        while True:
            connection, peer = listener.accept()
            with suppress(OSError), connection:
                connection.sendall(f"{name} {peer[0]}".encode())


def _answer(packets: socket.socket, name: str) -> None:
    with suppress(OSError):
        while True:
            _, peer = packets.recvfrom(200)
            if peer is None:
                return  # shut down
            packets.sendto(f"{name} {peer[0]}".encode(), peer)


def make_world() -> World:
    """Pods have their addresses for themselves (/32, /128) and reach everything through the node, as `kubecore.kubelet`
    connects them where the kernel carries Services."""
    world = World(Namespace(), Namespace(), Namespace(), Namespace())
    for namespace in (world.node, world.one, world.two, world.client):
        for which in ("all", "default"):  # nobody else is here: a link asks for neighbours from the beginning
            set_in(namespace, f"ipv6/conf/{which}/accept_dad", "0")
        for which in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):  # one refusal must not silence the next
            set_in(namespace, which, "0")
    with world.node.here(), Netlink() as netlink:
        netlink.add_bridge(world.BRIDGE)
        bridge = _link(netlink, world.BRIDGE)
        _address(netlink, bridge, "10.244.0.1/16", "fd44::1/64")
        netlink.set_up(bridge)
        for number, pod in ((11, world.one), (12, world.two)):
            name = f"pod{number}"
            netlink.add_veth(name, peer="eth0", peer_namespace=pod.descriptor)
            index = _link(netlink, name)
            netlink.set_master(index, bridge)
            netlink.reflect(index)
            netlink.set_up(index)
            _connect(pod, f"10.244.0.{number}/32", f"fd44::{number}/128", "10.244.0.1", "fd44::1")
        netlink.add_veth("outside", peer="eth0", peer_namespace=world.client.descriptor)
        outside = _link(netlink, "outside")
        _address(netlink, outside, "192.0.2.1/24", "2001:db8::1/64")
        netlink.set_up(outside)
        _connect(world.client, "192.0.2.9/24", "2001:db8::9/64", "192.0.2.1", "2001:db8::1")
    return world


def _connect(namespace: Namespace, four: str, six: str, gateway_four: str, gateway_six: str) -> None:
    with namespace.here(), Netlink() as netlink:
        index = _link(netlink, "eth0")
        _address(netlink, index, four, six)
        netlink.set_up(index)
        for gateway, everything in ((gateway_four, "0.0.0.0/0"), (gateway_six, "::/0")):
            address = ipaddress.ip_address(gateway)
            netlink.add_route(ipaddress.ip_network(gateway), index=index)
            netlink.add_route(ipaddress.ip_network(everything), index=index, gateway=address)


def _link(netlink: Netlink, name: str) -> int:
    index = netlink.link_index(name)
    assert index is not None
    return index


def _address(netlink: Netlink, index: int, *given: str) -> None:
    for one in given:
        netlink.add_address(index, ipaddress.ip_interface(one))


def set_in(namespace: Namespace, name: str, value: str) -> None:
    """A setting of /proc/sys/net, which is the namespace's own."""
    with namespace.here():
        Path("/proc/sys/net", name).write_text(value)
