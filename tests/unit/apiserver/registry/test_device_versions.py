"""Claims and slices as resource.k8s.io/v1beta1 says them."""

from __future__ import annotations

from kubecore.apiserver.registry.versions import devices

EXACT = {"deviceClassName": "c", "allocationMode": "All"}


def test_what_is_exactly_wanted_stands_in_the_request() -> None:
    stored = {"spec": {"devices": {"requests": [{"name": "r", "exactly": EXACT}]}}}
    served = {"spec": {"devices": {"requests": [{"name": "r", **EXACT}]}}}
    assert devices.served_claim(stored) == served
    assert devices.stored_claim(served) == stored
    assert devices.served_template({"spec": stored}) == {"spec": served}
    assert devices.stored_template({"spec": served}) == {"spec": stored}


def test_alternatives_are_said_alike() -> None:
    claim = {"spec": {"devices": {"requests": [{"name": "r", "firstAvailable": [{"name": "a", **EXACT}]}]}}}
    assert devices.served_claim(claim) == devices.stored_claim(claim) == claim


def test_what_a_device_has_stands_under_basic() -> None:
    stored = {"spec": {"devices": [{"name": "d", "attributes": {"a": {"int": 1}}}]}}
    served = {"spec": {"devices": [{"name": "d", "basic": {"attributes": {"a": {"int": 1}}}}]}}
    assert devices.served_slice(stored) == served
    assert devices.stored_slice(served) == stored


def test_what_says_nothing_of_devices_stays() -> None:
    assert devices.stored_slice({"metadata": {"name": "x"}}) == {"metadata": {"name": "x"}}
