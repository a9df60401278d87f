"""Proxies of two clusters on one host, whose kernel would give either what the other has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from kubecore.proxy.modes import ProxyConfig, make_data_plane, unavailable
from tests.support.net_world import Namespace
from tests.unit.proxy.builders import virtual_server as server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(unavailable("nftables")), reason=unavailable("nftables")),
]

MINE = server(("10.244.0.11", 8080), address="10.96.0.1")
HAD_BY_ANOTHER = "cannot listen on TCP 10.96.0.1:80: another cluster on this host has it"


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    made = Namespace()
    with made.here():
        yield
    made.close()


def troubles(*, service_ranges: tuple[str, ...] = ()) -> list[str]:
    """What the second is told that asks for the same cluster IP."""
    first, second = (
        make_data_plane(ProxyConfig(mode="nftables", table=f"kubecore-{name}", service_ranges=service_ranges), None)
        for name in ("first", "second")
    )
    with closing(first), closing(second):
        assert first.apply("default/web", [MINE]) == ([], [])
        return [one.message for one in second.apply("default/web", [MINE])[0]]


def test_the_second_is_told_that_a_cluster_ip_is_the_firsts() -> None:
    assert troubles() == [HAD_BY_ANOTHER]


def test_clusters_that_have_ranges_of_their_own_need_not_ask() -> None:
    """Of which there are none alike: a name in the kernel for each of ten thousand Services would be for nothing."""
    assert troubles(service_ranges=("10.96.0.0/16",)) == []
