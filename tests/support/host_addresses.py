"""Addresses by which programs on this host are reached as from elsewhere."""

from __future__ import annotations

import pytest

from kubecore.netlink import Netlink


def outer_address() -> str:
    """One of IPv4 that is not loopback's. Skips the test where there is none."""
    with Netlink() as netlink:
        held = [one.address.ip for one in netlink.addresses()]
    found = next((one for one in held if not one.is_loopback and not one.is_link_local), None)
    if found is None:
        pytest.skip("this host has no address but loopback's")
    return str(found)
