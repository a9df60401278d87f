"""At which addresses node ports work."""

from __future__ import annotations

from kubecore.proxy.node_addresses import addresses_in


def test_without_a_range_at_all() -> None:
    assert addresses_in([]) == ("0.0.0.0",)


def test_a_range_of_everything_stands_for_itself() -> None:
    assert addresses_in(["0.0.0.0/0", "127.0.0.0/8", "::/0"]) == ("0.0.0.0", "::")


def test_others_stand_for_this_hosts_addresses_in_them() -> None:
    assert addresses_in(["127.0.0.0/8", "203.0.113.0/24"]) == ("127.0.0.1",)
