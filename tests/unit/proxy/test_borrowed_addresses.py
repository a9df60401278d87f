"""What is made on the host for connections in clients' names, in a network namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from kubecore.proxy.borrowed_addresses import BorrowedAddresses, of_node, sweep_nodes
from kubecore.proxy.modes import unavailable
from tests.support.net_world import Namespace

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or bool(unavailable("nftables")), reason="needs root and nf_tables"),
]


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    namespace = Namespace()
    with namespace.here():
        yield
    namespace.close()


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def made() -> tuple[str, bool]:
    return output("nft", "list", "tables"), "fwmark" in output("ip", "rule")


def test_what_a_killed_run_left_is_swept() -> None:
    assert BorrowedAddresses("kubecore-test").allowed()
    assert made() == ("table inet kubecore-test\n", True)
    BorrowedAddresses("kubecore-other").sweep()
    assert made() == ("table inet kubecore-test\n", True)
    BorrowedAddresses("kubecore-test").sweep()
    assert made() == ("", False)


def test_what_is_beside_it_of_a_killed_run_goes_with_its_end() -> None:
    assert BorrowedAddresses("kubecore-test").allowed()
    ours = BorrowedAddresses("kubecore-test")
    assert ours.allowed()
    ours.close()
    assert made() == ("", False)


def test_what_is_in_use_is_swept_by_nobody_but_its_end() -> None:
    ours = BorrowedAddresses("kubecore-test")
    assert ours.allowed()
    ours.sweep()
    assert made() == ("table inet kubecore-test\n", True)
    ours.close()
    assert made() == ("", False)


def test_what_is_left_of_nodes_that_are_no_more_is_swept() -> None:
    for index in (0, 1, 12):
        assert of_node("kubecore-test", index).allowed()
    assert of_node("kubecore-test2", 5).allowed()
    sweep_nodes("kubecore-test", beyond=1)
    assert made() == ("table inet kubecore-test-node0\ntable inet kubecore-test2-node5\n", True)
    sweep_nodes("kubecore-test", beyond=0)
    sweep_nodes("kubecore-test2", beyond=0)
    assert made() == ("", False)


def test_what_somebody_else_has_removed_is_there_again_once_it_is_looked_after() -> None:
    ours = BorrowedAddresses("kubecore-test")
    assert not ours.restore(), "there is nothing yet"
    assert made() == ("", False)
    assert ours.allowed()
    assert not ours.restore()
    output("nft", "flush", "ruleset")
    assert ours.restore()
    assert made() == ("table inet kubecore-test\n", True)
    ours.close()
    assert made() == ("", False)
