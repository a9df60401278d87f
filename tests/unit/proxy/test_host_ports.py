"""Node ports and addresses from outside are one cluster's of a host."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest

from kubecore import port_names
from kubecore.proxy.host_ports import HostPorts
from tests.support.ports import free_port
from tests.support.process import ROOT
from tests.unit.proxy.builders import vip
from tests.unit.proxy.builders import virtual_server as server

# of this process: names in the kernel are everybody's
PORT = server(address="0.0.0.0", port=free_port(), purpose="NodePort")
OUTSIDE = server(address=vip(7), purpose="ExternalIP")
HAD_BY_ANOTHER = "another cluster on this host has it"

CLUSTER = """
import sys
from kubecore.proxy.host_ports import HostPorts
from tests.unit.proxy.builders import virtual_server
ports, port = HostPorts(), virtual_server(address="0.0.0.0", port={port}, purpose="NodePort")
print(len(ports.take("default/web", [port])[0]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def clusters() -> Iterator[tuple[HostPorts, HostPorts]]:
    made = HostPorts(), HostPorts()
    yield made
    for one in made:
        one.close()


def test_who_asked_first_has_it_and_the_other_is_told_which(clusters: tuple[HostPorts, HostPorts]) -> None:
    one, other = clusters
    assert one.take("default/web", [PORT, OUTSIDE]) == ([PORT, OUTSIDE], [])
    had, problems = other.take("default/shop", [PORT, replace(PORT, protocol="UDP"), OUTSIDE])
    assert [server.protocol for server in had] == ["UDP"]
    assert [(one.reason, one.message, one.passing) for one in problems] == [
        ("FailedToListen", f"cannot listen on TCP 0.0.0.0:{PORT.port}: {HAD_BY_ANOTHER}", True),
        ("FailedToListen", f"cannot listen on TCP {OUTSIDE.address}:80: {HAD_BY_ANOTHER}", True),
    ]


def test_cluster_ips_are_each_clusters_own(clusters: tuple[HostPorts, HostPorts]) -> None:
    for one in clusters:
        assert one.take("default/web", [server()]) == ([server()], [])


def test_those_of_ranges_that_others_may_have_too_are_the_first_ones() -> None:
    mine = server(address=vip(8))
    with closing(HostPorts(equal_ranges=True)) as one, closing(HostPorts(equal_ranges=True)) as other:
        assert one.take("default/web", [mine]) == ([mine], [])
        had, (problem,) = other.take("default/web", [mine])
        assert (had, problem.message) == ([], f"cannot listen on TCP {mine.address}:80: {HAD_BY_ANOTHER}")
        one.take("default/web", [])
        assert other.take("default/web", [mine]) == ([mine], [])


def test_a_node_port_is_one_clusters_at_all_addresses_or_several_ones_at_some(
    clusters: tuple[HostPorts, HostPorts],
) -> None:
    one, other = clusters
    at, elsewhere = (replace(PORT, address=vip(number)) for number in (5, 6))
    assert one.take("default/web", [at])[0] == [at]
    assert other.take("default/web", [PORT])[1][0].message.endswith(HAD_BY_ANOTHER)
    assert other.take("default/web", [elsewhere])[0] == [elsewhere]
    one.take("default/web", [])
    assert one.take("default/web", [PORT])[0] == []
    other.take("default/web", [])
    assert one.take("default/web", [PORT])[0] == [PORT]
    assert other.take("default/web", [elsewhere])[1][0].message.endswith(HAD_BY_ANOTHER)
    outside = replace(elsewhere, purpose="ExternalIP")
    assert other.take("default/web", [outside])[0] == [outside]


def test_it_is_free_when_the_last_service_asks_for_it_no_more(clusters: tuple[HostPorts, HostPorts]) -> None:
    one, other = clusters
    one.take("default/web", [PORT])
    one.take("default/rival", [PORT])
    one.take("default/web", [])
    assert other.take("default/web", [PORT])[0] == []
    one.take("default/rival", [])
    assert other.take("default/web", [PORT])[0] == [PORT]


def test_it_is_free_when_its_cluster_was_killed(clusters: tuple[HostPorts, HostPorts]) -> None:
    script = CLUSTER.format(port=PORT.port)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == b"1\n"
        assert clusters[0].take("default/web", [PORT])[0] == []
        other.kill()
    assert clusters[0].take("default/web", [PORT])[0] == [PORT]


@pytest.mark.parametrize(
    "take",
    [
        partial(port_names.claim, "UDP", "0.0.0.0"),
        partial(port_names.claim_for_node, "TCP", 6),
        partial(port_names.claim_for_pods, "SCTP", 4),
    ],
    ids=["at all addresses", "at a node's", "for pods"],
)
def test_it_is_known_whether_anybody_of_the_host_has_a_port(take: Callable[[int], socket.socket | None]) -> None:
    port = free_port()
    assert not port_names.is_anybodys(port)
    held = take(port)
    assert held is not None
    with held:
        assert port_names.is_anybodys(port)
    assert not port_names.is_anybodys(port)
