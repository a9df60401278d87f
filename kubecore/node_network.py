"""The network of an unprivileged node: a network namespace in a user namespace of ours, on which its pods' bridge is.

Nobody is in there. It lasts as long as a process holds descriptors of it, and is used from outside: whoever made it has
all rights in it (man 7 user_namespaces), and sockets that are made within by a short-lived child belong to it for good.
Which addresses are reached by such a socket is known to `native/sockets`; what connects or binds in Python asks here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from kubecore import _native
from kubecore.netlink import Netlink

if TYPE_CHECKING:
    from kubecore.clock import Clock
    from kubecore.echoes import EchoSockets

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
# Who knows no way to an address is to be told so at once: it takes a router. Packets that a bridge has shown to
# nf_tables are not led to a socket (see `way_out`) when they get to the node.
_SETTINGS = {
    "net/ipv4/ip_forward": b"1",
    "net/ipv6/conf/all/forwarding": b"1",
    "net/bridge/bridge-nf-call-iptables": b"0",
}
# What the kernel does not have, or does not let us set, is passed over.
_STEPS = [("write", b"/proc/sys/" + name.encode(), what, b"", 0, b"", True, False) for name, what in _SETTINGS.items()]


class _Closing(Protocol):
    def close(self) -> None:
        """It ends."""


class NodeNetwork:
    """Held by two descriptors, which are this object's own."""

    def __init__(self, user: int, network: int) -> None:
        self._user, self._network = user, network
        self._known: _native.NodeNetwork | None = None
        self.way_out: _Closing | None = None
        """It ends before the network is let go."""
        self.echoes: EchoSockets | None = None
        """By which `echoes` carries pings out, where that can be."""
        self.no_way_out = ""
        """Why nothing leads out of it, where that was tried (`way_out.lead_out`)."""

    @classmethod
    def make(cls) -> NodeNetwork:
        """A new one, in which there is nothing but loopback. Raises OSError where the kernel does not let us."""
        # Nobody becomes another user, so that what is made within by us is made by whom it would be made outside.
        own = (os.geteuid(), os.geteuid(), os.getegid(), os.getegid())
        user, _, network, _, _, netlink = _native.create_namespaces(
            namespaces=_NEW_USER | _NEW_NETWORK, user_map=own, hostname=b"", steps=_STEPS
        )
        os.close(netlink)
        return cls(user, network)

    @property
    def descriptors(self) -> tuple[int, int]:
        """Of the user and the network namespace."""
        return self._user, self._network

    @property
    def join(self) -> list[tuple[int, int]]:
        """How a process gets into it: what setns(2) takes, in this order."""
        return [(self._user, _NEW_USER), (self._network, _NEW_NETWORK)]

    def settle(self) -> None:
        """As at first: br_netfilter brings settings of its own when it is loaded later. Raises OSError."""
        _native.create_namespaces(namespaces=0, user_map=None, hostname=b"", steps=_STEPS, join=self.join)

    def netlink(self) -> Netlink:
        """By which its links are made. Raises OSError."""
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        return Netlink(_native.socket_within(self._network, socket.AF_NETLINK, kind, 0))

    def lead(self, ranges: Sequence[str]) -> None:
        """From now on who connects to these addresses, or binds one, does so in there."""
        self._known = _native.NodeNetwork(list(ranges), self._network)

    async def carry_echoes(self, clock: Clock) -> None:
        """Until it is cancelled; returns where pings are not carried out."""
        from kubecore.echoes import Echoes

        if self.echoes is not None:
            await Echoes(self.echoes, clock).run()

    def close(self) -> None:
        if self.way_out is not None:
            self.way_out.close()
            self.way_out = None
        if self.echoes is not None:
            self.echoes.close()
            self.echoes = None
        if self._known is not None:
            self._known.close()
            self._known = None
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self._user = self._network = -1


def trouble(more: Callable[[NodeNetwork], str] = lambda made: "") -> str:
    """Why there can be none; "" if there can. The real thing is tried: a bridge and a pod's link to it. `more` says
    what is wrong with it beyond that."""
    try:
        made = NodeNetwork.make()
    except OSError as error:
        return f"no user and network namespace can be made ({error.strerror})"
    try:
        with made.netlink() as netlink:
            netlink.add_bridge("kc-probe")
            netlink.add_veth("kv-probe", peer="eth0", peer_namespace=made.descriptors[1])
        return more(made)
    except OSError as error:
        return f"no bridge can be made in a user namespace ({error.strerror})"
    finally:
        made.close()


def is_elsewhere(host: str) -> bool:
    """Whether this is an address that a node's network alone knows; a name never is."""
    address, _, _ = host.partition("%")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return _native.is_elsewhere(address)


def socket_for(address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """To be bound or connected to the address; it does not block. Raises OSError."""
    made = socket.socket(fileno=_native.socket_for(address, kind | socket.SOCK_NONBLOCK))
    made.setblocking(False)
    return made


async def open_connection(host: str, port: int, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As asyncio has it."""
    if not is_elsewhere(host):
        return await asyncio.open_connection(host, port, **options)
    made = socket_for(host)
    try:
        await asyncio.get_running_loop().sock_connect(made, (host, port))
        if options.get("ssl") is not None:
            options.setdefault("server_hostname", host)
        return await asyncio.open_connection(sock=made, **options)
    except BaseException:
        made.close()
        raise


def of_address(info: tuple[Any, ...]) -> socket.socket:
    """What aiohttp's connectors make sockets by (`socket_factory`), from what getaddrinfo has said."""
    family, kind, protocol, _, address = info
    if _native.is_elsewhere(address[0].partition("%")[0]):
        return socket_for(address[0], kind)
    return socket.socket(family, kind, protocol)
