"""Pods of a user who may ping, and who has no rights beyond that, ping what is outside of their cluster's network."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubecore.netlink import Netlink
from tests.support.kubectl import program
from tests.support.net_world import Namespace
from tests.support.rootless import ROOTLESS, rootless_user, trouble
from tests.support.unprivileged_cluster import up

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a host on which users may ping"),
]

SOMEBODY, NOBODY = "198.51.100.1", "203.0.113.7"
LOOPBACK = 1
PINGS = f"""
import socket, struct
ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
ping.settimeout(60)
for address in ("{SOMEBODY}", "{NOBODY}"):
    # an echo request, number 7, whose checksum is what it takes
    ping.sendto(struct.pack("!BBHHH", 8, 0, 0xFFFF - 0x0800 - 7 - 1, 7, 1), (address, 0))
    packet = ping.recv(1000)
    print(socket.inet_ntoa(packet[12:16]), packet[20])
"""


@pytest.fixture
def host() -> Iterator[None]:
    """Another one than this, with an address of its own."""
    assert program("1.37") is not None  # it may have to be fetched
    namespace = Namespace()
    try:
        with namespace.here():
            try:
                Path("/proc/sys/net/ipv4/ping_group_range").write_text("0 2147483647")
            except OSError as error:
                pytest.skip(f"who may ping cannot be set: {error}")
            with Netlink() as netlink:
                netlink.add_address(LOOPBACK, ipaddress.ip_interface(SOMEBODY))
            yield
    finally:
        namespace.close()


@pytest.mark.usefixtures("host")
def test_a_pod_hears_from_who_is_there_and_is_told_where_no_way_leads() -> None:
    with rootless_user() as somebody:
        if why := trouble(somebody, "way_out"):
            pytest.skip(why)
        with up(somebody, "pings", *ROOTLESS) as running:
            assert running.pod("pings", PINGS).splitlines() == [f"{SOMEBODY} 0", f"{NOBODY} 3"]
