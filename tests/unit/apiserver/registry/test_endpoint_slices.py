"""What may stand in an EndpointSlice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.apiserver.registry.writing import Writer, changed

SLICES = Writer("endpointslices.discovery.k8s.io")


def of(kind: str, *addresses: str, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "x"},
        "addressType": kind,
        "endpoints": [{"addresses": list(addresses), **fields}],
        "ports": [{"port": 80}],
    }


@pytest.mark.parametrize(
    ("slice_", "problem"),
    [
        (of("IPv4", "fd00::1"), 'endpoints[0].addresses: Invalid value: "fd00::1": must be an IPv4 address'),
        (of("IPv6", "10.0.0.1"), 'endpoints[0].addresses: Invalid value: "10.0.0.1": must be an IPv6 address'),
        (
            of("IPv6", "FD00::1"),
            'endpoints[0].addresses[0]: Invalid value: "FD00::1": must be in canonical form ("fd00::1")',
        ),
        (
            of("FQDN", "local"),
            'endpoints[0].addresses[0]: Invalid value: "local": '
            "should be a domain with at least two segments separated by dots",
        ),
        (of("IPv4"), "endpoints[0].addresses: Required value: must contain at least 1 address"),
        (
            of("Carrier pigeon", "x"),
            'addressType: Unsupported value: "Carrier pigeon": supported values: "FQDN", "IPv4", "IPv6"',
        ),
    ],
)
def test_addresses_are_of_the_slices_type(slice_: dict[str, Any], problem: str) -> None:
    assert SLICES.problems(slice_) == [problem]


def test_a_domain_may_end_with_a_dot() -> None:
    assert not SLICES.problems(of("FQDN", "a.example.com."))


def test_hints_name_a_zone_once_and_not_too_many() -> None:
    twice = of("IPv4", "10.0.0.1", hints={"forZones": [{"name": "z"}, {"name": "z"}]})
    assert SLICES.problems(twice) == ['endpoints[0].hints.forZones[1].name: Duplicate value: "z"']
    many = of("IPv4", "10.0.0.1", hints={"forNodes": [{"name": f"n{number}"} for number in range(9)]})
    assert SLICES.problems(many) == ["endpoints[0].hints.forNodes: Too many: 9: must have at most 8 items"]


def test_topology_of_the_old_version_is_dropped() -> None:
    stored = SLICES.create(of("IPv4", "10.0.0.1", deprecatedTopology={"a": "b"}))
    assert "deprecatedTopology" not in stored["endpoints"][0]


def test_new_labels_make_a_new_generation() -> None:
    stored = SLICES.create(of("IPv4", "10.0.0.1"))
    assert SLICES.update(stored, changed(stored, "metadata.labels", {"a": "b"}))["metadata"]["generation"] == 2
    assert SLICES.update(stored, changed(stored, "metadata.annotations", {"a": "b"}))["metadata"]["generation"] == 1


def test_endpoints_that_were_stored_against_todays_rules_may_stay() -> None:
    stored = SLICES.create(of("IPv4", "10.0.0.1"))
    old = changed(stored, "endpoints.0.addresses", [])
    assert not SLICES.update_problems(old, changed(old, "ports", []))
