"""How pods reach what is outside of a node's own network, which no route leads out of.

nf_tables leads their connections and packets to two transparent sockets in there (Linux `Documentation/networking/
tproxy.rst`), and `native/dataplane/way_out` carries them on from where this process is, as if they had been
masqueraded: TCP and UDP over IPv4. Whatever cannot be carried on finds no route, as before.
"""

from __future__ import annotations

import ipaddress
import logging
import resource
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from kubecore import _native, node_network
from kubecore.echoes import echo_sockets
from kubecore.netlink import Network
from kubecore.node_network import NodeNetwork
from kubecore.proxy.nftables import expressions as e
from kubecore.proxy.nftables.messages import NETLINK_NETFILTER, Batch, Connection

log = logging.getLogger(__name__)

_PROTOCOLS = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
_TABLE = "kubecore-way-out"
# Of what is led to a socket, and of the routing table by which it gets there; nobody else marks packets in there.
_MARK = 0x6B01
# The routing table of what programs send that are in the network itself (pods with the host's).
_OWN = 0x6B02
_MANGLE = -150
_LOOPBACK = 1
# Which are a host itself, or groups and everybody on a link (RFC 6890, RFC 5771).
_NEVER_OUTSIDE = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")
# A connection takes two descriptors, and two pipes at times; a flow of UDP takes one.
_DESCRIPTORS_FOR_ONE = 16
_MOST = 16_384


class WayOut:
    """Until `close`, for everybody in the network, but not to `inside`. `source` is whom programs are taken for that
    are in the network itself, without a pod's namespace. `most`: connections, and flows of UDP, at once; None: as many
    as leave enough descriptors to others. `most_of_one`: of them, those of one client; None: a quarter.
    `connect_timeout`: seconds for somebody outside to take a connection. `echoes`: somebody else carries those
    (`kubecore.echoes`). Raises OSError where the kernel has no part in it."""

    def __init__(
        self,
        network: NodeNetwork,
        inside: Sequence[str],
        source: str,
        *,
        clock: _native.Clock | None = None,
        most: int | None = None,
        most_of_one: int | None = None,
        connect_timeout: float = 20.0,
        echoes: bool = False,
    ) -> None:
        descriptor = network.descriptors[1]
        others = [ipaddress.ip_network(one) for one in (*_NEVER_OUTSIDE, *inside) if ":" not in one]
        if most is None:
            most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _DESCRIPTORS_FOR_ONE, _MOST)
        self._carrying = _native.WayOut(
            descriptor,
            clock,
            most_connections=most,
            most_flows=most,
            most_of_one=most_of_one,
            connect_timeout=connect_timeout,
        )
        try:
            network.settle()
            _lead(descriptor, others, self._carrying.ports, echoes)
            with network.netlink() as netlink:
                netlink.set_up(_LOOPBACK)
                netlink.keep_marked(_MARK, [socket.AF_INET])
                with suppress(FileExistsError):  # a former run has done it; the bridge is to have it, too
                    netlink.add_address(_LOOPBACK, ipaddress.ip_interface(source))
                netlink.keep_own(ipaddress.ip_address(source), table=_OWN, protocols=_PROTOCOLS, but=others)
        except OSError:
            self._carrying.close()
            raise

    def close(self) -> None:
        """Whoever wants out is refused then."""
        self._carrying.close()

    def statistics(self) -> dict[str, int]:
        return self._carrying.statistics()


def lead_out(network: NodeNetwork, inside: Sequence[str], source: str) -> None:
    """The network has a WayOut from now on, or says why it has none (`no_way_out`)."""
    echoes = echo_sockets(network)
    try:
        network.way_out = WayOut(network, inside, source, echoes=echoes is not None)
        network.no_way_out, network.echoes = "", echoes
    except OSError as error:
        if echoes is not None:
            echoes.close()
        network.no_way_out = _reason(error)
        log.warning("pods reach nothing outside of the cluster: %s", network.no_way_out)


def trouble() -> str:
    """Why there can be none; "" if there can. The real thing is tried."""
    return node_network.trouble(_trouble_in)


def _trouble_in(network: NodeNetwork) -> str:
    try:
        WayOut(network, (), "192.0.2.1", most=1).close()
    except OSError as error:
        return _reason(error)
    return ""


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _lead(network: int, others: Sequence[Network], ports: tuple[int, int], echoes: bool) -> None:
    batch = Batch(_TABLE)
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    connection = Connection(_native.socket_within(network, socket.AF_NETLINK, kind, NETLINK_NETFILTER))
    try:
        if connection.table_is_awake(_TABLE) is None:
            batch.make_table()
        else:  # a former run's; the kernel takes 10 ms to be rid of what was there
            batch.make_table_anew()
        batch.add_prerouting_chain("out", _rules(others, ports, echoes), priority=_MANGLE)
        connection.run(batch)
    finally:
        connection.close()


def _rules(others: Sequence[Network], ports: tuple[int, int], echoes: bool) -> Iterator[bytes]:
    for one in others:
        yield e.only_family(4) + e.only_to(one) + e.leave_alone()
    for protocol, port in zip(_PROTOCOLS, ports, strict=True):
        where = e.put(socket.inet_aton("127.0.0.1"), to=0) + e.put(struct.pack("!H", port), to=1)
        leading = e.lead_to_socket(4, address=0, port=1)
        marking = e.put(struct.pack("=I", _MARK), to=0) + e.set_mark(0)
        ours = e.only_family(4) + e.only_protocol(protocol)
        yield ours + where + leading + marking + e.leave_alone()
        # Nobody is at the socket: the cluster was killed. Who is in the network itself would come to himself else.
        yield ours + e.refuse_unreachable()
    if echoes:  # who has been shown them answers
        yield e.only_family(4) + e.only_echo_requests() + e.drop()
