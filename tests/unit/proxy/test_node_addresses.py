"""At which addresses node ports work."""

from __future__ import annotations

import pytest

from kubecore.proxy import node_addresses
from kubecore.proxy.node_addresses import addresses_in, primary_of


def test_without_a_range_they_work_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_addresses, "ipv6_trouble", lambda: "")
    assert addresses_in([]) == ("0.0.0.0", "::")
    monkeypatch.setattr(node_addresses, "ipv6_trouble", lambda: "the kernel has no IPv6")
    assert addresses_in([]) == ("0.0.0.0",)


def test_a_range_of_everything_stands_for_itself() -> None:
    assert addresses_in(["0.0.0.0/0", "127.0.0.0/8", "::/0"]) == ("0.0.0.0", "::")


def test_others_stand_for_this_hosts_addresses_in_them() -> None:
    assert addresses_in(["127.0.0.0/8", "203.0.113.0/24"]) == ("127.0.0.1",)


def test_a_nodes_own_are_its_first_of_each_family_and_internal_ones_before_others() -> None:
    told = [
        ("Hostname", "here"),
        ("ExternalIP", "203.0.113.1"),
        ("InternalIP", "10.0.0.1"),
        ("InternalIP", "10.0.0.2"),
        ("ExternalIP", "2001:DB8::1"),
    ]
    status = {"addresses": [{"type": kind, "address": address} for kind, address in told]}
    assert primary_of({"status": status}) == ("10.0.0.1", "2001:db8::1")
    assert primary_of({}) == ()
