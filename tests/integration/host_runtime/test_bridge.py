"""The bridge that a node's pods are on, in a network namespace of its own."""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from kubecore.kubelet.networks.network import BridgeNetwork, NetworkNamespace
from tests.support.net_world import Namespace

pytestmark = pytest.mark.root

BRIDGE = "kc-test"
SIOCGIFHWADDR = 0x8927  # Linux include/uapi/linux/sockios.h


@pytest.fixture
def host() -> Iterator[Namespace]:
    with closing(Namespace()) as made:
        yield made


def hardware_address(namespace: Namespace, link: str) -> bytes:
    with namespace.here(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asking = struct.pack("=16s240x", link.encode())
        return fcntl.ioctl(asked, SIOCGIFHWADDR, asking)[18:24]


class Pods:
    """Each in a namespace of its own, on the network of a node with six addresses for them."""

    def __init__(self, host: Namespace, *pod_cidrs: str) -> None:
        self._host = host
        self._network = BridgeNetwork(pod_cidrs, bridge=BRIDGE, cluster_cidrs=pod_cidrs)
        with host.here():
            self._network.start()

    def run(self, uid: str) -> tuple[str, bytes]:
        """Its address, and the hardware address, of a pod that has ended since."""
        with closing(Namespace()) as pod:
            with pod.here():
                inside = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
            with inside, self._host.here():
                address, *_ = self._network.attach(uid, NetworkNamespace(pod.descriptor, inside.fileno()))
            hardware = hardware_address(pod, "eth0")
            with self._host.here():
                self._network.detach(uid)
        return address, hardware


@pytest.mark.parametrize("pod_cidr", ["10.244.0.0/29", "fd44::/125"])
def test_pods_that_come_and_go_leave_the_bridge_its_hardware_address(host: Namespace, pod_cidr: str) -> None:
    """Else those who have asked for it send to nobody."""
    pods = Pods(host, pod_cidr)
    before = hardware_address(host, BRIDGE)
    for number in range(3):
        pods.run(f"uid-{number}")
        assert hardware_address(host, BRIDGE) == before


@pytest.mark.parametrize("pod_cidr", ["10.244.0.0/29", "fd44::/125"])
def test_a_pod_with_the_address_of_a_former_one_is_found_where_that_one_was(host: Namespace, pod_cidr: str) -> None:
    pods = Pods(host, pod_cidr)
    ran = [pods.run(f"uid-{number}") for number in range(12)]
    assert len(set(ran)) == len({address for address, _ in ran}) == len({hardware for _, hardware in ran}) < 12
