"""Ports of this machine for pods: real sockets, at loopback addresses of this process's own."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from kubecore.kubelet.networks.host_side import NativeCarrier, NodeHost
from kubecore.netlink import ipv6_trouble
from kubecore.proxy.host_ports import HostPorts
from tests.support.ports import free_port
from tests.unit.proxy.builders import vip, virtual_server

PORT = free_port()  # names in the kernel are everybody's
HOST = ("TCP", vip(21), PORT)
SECONDS = 60


@pytest.fixture
def carriers() -> Iterator[tuple[NativeCarrier, NativeCarrier]]:
    made = NativeCarrier((), None), NativeCarrier((), None)
    yield made
    for one in made:
        one.shut_down()


@pytest.fixture
def open_sockets() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pod(stack: ExitStack, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A process of a pod listens."""
    made = stack.enter_context(closing(socket.socket(socket.AF_INET, kind)))
    made.settimeout(SECONDS)
    made.bind((vip(22), 0))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def client(stack: ExitStack, address: str = HOST[1]) -> socket.socket:
    return stack.enter_context(socket.create_connection((address, PORT), timeout=SECONDS))


def refused(address: str = HOST[1]) -> bool:
    with socket.socket() as asking:
        asking.settimeout(SECONDS)
        return asking.connect_ex((address, PORT)) == errno.ECONNREFUSED


def test_tcp_leads_to_the_pod_and_back(carriers: tuple[NativeCarrier, NativeCarrier], open_sockets: ExitStack) -> None:
    process = pod(open_sockets)
    carriers[0].open(HOST, process.getsockname())
    asking = client(open_sockets)
    asking.sendall(b"ping")
    answering = open_sockets.enter_context(process.accept()[0])
    answering.settimeout(SECONDS)
    assert answering.recv(16) == b"ping"
    answering.sendall(b"pong")
    assert asking.recv(16) == b"pong"


def test_udp_leads_to_the_pod_and_back(carriers: tuple[NativeCarrier, NativeCarrier], open_sockets: ExitStack) -> None:
    process = pod(open_sockets, socket.SOCK_DGRAM)
    carriers[0].open(("UDP", HOST[1], PORT), process.getsockname())
    asking = open_sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    asking.settimeout(SECONDS)
    asking.connect((HOST[1], PORT))
    asking.send(b"ping")
    packet, sender = process.recvfrom(16)
    process.sendto(packet.replace(b"i", b"o"), sender)
    assert asking.recv(16) == b"pong"


def test_at_the_end_the_port_refuses_and_connections_are_cut(
    carriers: tuple[NativeCarrier, NativeCarrier], open_sockets: ExitStack
) -> None:
    process = pod(open_sockets)
    carriers[0].open(HOST, process.getsockname())
    asking = client(open_sockets)
    asking.sendall(b"ping")
    open_sockets.enter_context(process.accept()[0])
    carriers[0].shut_down()
    try:
        assert asking.recv(16) == b""
    except ConnectionResetError:
        pass
    assert refused()


def test_two_pods_cannot_have_one_port_until_the_first_ends(
    carriers: tuple[NativeCarrier, NativeCarrier], open_sockets: ExitStack
) -> None:
    first, second = pod(open_sockets), pod(open_sockets)
    carriers[0].open(HOST, first.getsockname())
    with pytest.raises(OSError, match="another pod or a Service of this machine has it"):
        carriers[1].open(HOST, second.getsockname())
    carriers[1].open(("TCP", vip(23), PORT), second.getsockname())  # another address is another port
    carriers[0].shut_down()
    carriers[1].open(HOST, second.getsockname())
    client(open_sockets)
    open_sockets.enter_context(second.accept()[0])


def test_a_port_of_another_program_is_its_own(
    carriers: tuple[NativeCarrier, NativeCarrier], open_sockets: ExitStack
) -> None:
    other = pod(open_sockets)
    with pytest.raises(OSError) as failed:
        carriers[0].open(("TCP", *other.getsockname()), (vip(24), 80))
    assert (failed.value.errno, failed.value.strerror) == (errno.EADDRINUSE, "Address already in use")
    carriers[0].open(HOST, other.getsockname())  # the failure has left nothing behind
    carriers[0].close(HOST)
    assert refused()


class TestBesideServices:
    """A node port may be led away by the kernel before any socket is looked for: who is first has it."""

    NODE_PORT = virtual_server(address="0.0.0.0", port=PORT, purpose="NodePort")

    @pytest.fixture
    def services(self) -> Iterator[HostPorts]:
        with closing(HostPorts()) as made:
            yield made

    def test_a_node_port_is_no_pods(
        self, carriers: tuple[NativeCarrier, NativeCarrier], services: HostPorts, open_sockets: ExitStack
    ) -> None:
        assert services.take("default/web", [self.NODE_PORT])[0] == [self.NODE_PORT]
        with pytest.raises(OSError, match="a Service of this machine has it as a node port"):
            carriers[0].open(HOST, pod(open_sockets).getsockname())
        services.take("default/web", [])
        carriers[0].open(HOST, pod(open_sockets).getsockname())

    def test_a_pods_port_is_no_node_port(
        self, carriers: tuple[NativeCarrier, NativeCarrier], services: HostPorts, open_sockets: ExitStack
    ) -> None:
        carriers[0].open(HOST, pod(open_sockets).getsockname())
        had, (problem,) = services.take("default/web", [self.NODE_PORT])
        assert had == []
        why = "pods of this host have it as a host port"
        assert (problem.message, problem.passing) == (f"cannot listen on TCP 0.0.0.0:{PORT}: {why}", True)
        carriers[0].shut_down()
        assert services.take("default/web", [self.NODE_PORT])[0] == [self.NODE_PORT]

    def test_that_of_two_pods_is_none_when_the_first_has_gone(
        self, carriers: tuple[NativeCarrier, NativeCarrier], services: HostPorts, open_sockets: ExitStack
    ) -> None:
        carriers[0].open(HOST, pod(open_sockets).getsockname())
        carriers[1].open(("TCP", vip(23), PORT), pod(open_sockets).getsockname())
        carriers[0].shut_down()
        carriers[1].renew()
        assert services.take("default/web", [self.NODE_PORT])[0] == []

    def test_a_services_own_address_may_have_the_same_port(
        self, carriers: tuple[NativeCarrier, NativeCarrier], services: HostPorts, open_sockets: ExitStack
    ) -> None:
        carriers[0].open(HOST, pod(open_sockets).getsockname())
        outside = virtual_server(address=vip(25), port=PORT, purpose="ExternalIP")
        assert services.take("default/web", [outside]) == ([outside], [])


class TestTheMachine:
    def test_a_port_of_a_node_is_at_its_own_addresses_and_the_machines(self) -> None:
        found = list(NodeHost(("10.244.1.1",)).addresses())
        assert found[:2] == ["10.244.1.1", "127.0.0.1"]
        assert len(found) == len(set(found))

    def test_it_is_seen_who_listens_at_an_address(self, open_sockets: ExitStack) -> None:
        host = NodeHost(())
        for protocol, kind in (("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM)):
            address, port = pod(open_sockets, kind).getsockname()
            assert host.listens((protocol, address, port)) == "there"
            assert host.listens((protocol, vip(26), port)) == ""

    @pytest.mark.parametrize("everywhere", ["0.0.0.0"] if ipv6_trouble() else ["0.0.0.0", "::"])
    def test_and_who_does_everywhere(self, everywhere: str, open_sockets: ExitStack) -> None:
        family = socket.AF_INET6 if ":" in everywhere else socket.AF_INET
        process = open_sockets.enter_context(socket.socket(family))
        process.bind((everywhere, 0))
        process.listen()
        assert NodeHost(()).listens(("TCP", vip(26), process.getsockname()[1])) == "everywhere"
