"""A killed run of mode ipvs is followed by one of another mode."""

from __future__ import annotations

from typing import Any, cast

from kubecore.proxy.ipvs.leftovers import own_marks, remove
from kubecore.proxy.ipvs.messages import BY_MARK, Connection, Service
from kubecore.proxy.virtual_servers import ServerKey
from tests.unit.proxy.ipvs.fake_kernel import FakeKernel

OURS, OTHERS = own_marks("kubecore-one").start + 1, own_marks("kubecore-two").start + 1


def left(*keys: ServerKey) -> set[ServerKey]:
    connection = Connection(cast(Any, FakeKernel()))
    for key in keys:
        connection.add_service(Service(key, "rr", 0, fallback=False))
    remove(connection, "kubecore-one", ("10.96.0.0/16", "fd96::/112"))
    return set(connection.services())


def test_what_is_at_the_clusters_own_addresses_goes() -> None:
    assert left(("TCP", "10.96.0.1", 443), ("UDP", "fd96::1", 53)) == set()


def test_and_what_is_found_by_its_marks() -> None:
    assert left((BY_MARK, "0.0.0.0", OURS), (BY_MARK, "::", OTHERS)) == {(BY_MARK, "::", OTHERS)}


def test_what_may_be_of_others_stays() -> None:
    others: tuple[ServerKey, ...] = (("TCP", "10.97.0.1", 443), ("TCP", "192.0.2.1", 30080))
    assert left(*others) == set(others)
