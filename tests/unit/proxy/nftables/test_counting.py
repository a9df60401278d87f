"""What the kernel's list of connections tells of each endpoint."""

from __future__ import annotations

from dataclasses import replace

from kubecore.proxy.conntrack import Flow
from kubecore.proxy.nftables.counting import Counted
from tests.unit.proxy.builders import virtual_server

ENDPOINT = ("10.0.0.1", 8080)
SERVER = virtual_server(ENDPOINT)
OPEN = Flow(6, ("10.0.0.9", 4000), ("10.96.0.1", 80), ENDPOINT, True, (3, 2), (300, 200), b"")


def test_what_open_connections_have_carried_is_added_up() -> None:
    closing = replace(OPEN, client=("10.0.0.9", 4001), established=False)
    assert Counted([OPEN, closing]).of(SERVER, ENDPOINT) == {
        "active": 1,
        "inactive": 1,
        "connections": 2,
        "packets_in": 6,
        "packets_out": 4,
        "bytes_in": 600,
        "bytes_out": 400,
    }


def test_what_the_kernel_does_not_count_is_left_out() -> None:
    uncounted = replace(OPEN, packets=(0, 0), octets=(0, 0))
    assert Counted([uncounted]).of(SERVER, ENDPOINT) == {"active": 1, "inactive": 0, "connections": 1}


def test_without_connections_nothing_was_carried() -> None:
    told = Counted([]).of(SERVER, ENDPOINT)
    assert (told["connections"], told["packets_in"]) == (0, 0)


def test_endpoints_are_told_to_which_nobody_else_is_led_any_more() -> None:
    elsewhere = replace(OPEN, virtual=("10.96.0.2", 80), destination=("10.0.0.3", 1))
    itself = replace(OPEN, destination=OPEN.virtual)
    over = replace(OPEN, destination=("10.0.0.4", 1), established=False)
    counted = Counted([OPEN, elsewhere, itself, over])
    assert counted.endpoints(SERVER) == [ENDPOINT]
    assert counted.endpoints(replace(SERVER, address="10.96.0.2")) == [("10.0.0.3", 1)]
    assert counted.endpoints(replace(SERVER, address="0.0.0.0")) == [ENDPOINT, ("10.0.0.3", 1)]
    assert counted.endpoints(replace(SERVER, protocol="UDP")) == []
