"""What is accepted and told of by a Warning, in Kubernetes' words. tests/e2e/test_validation.py compares all kinds'."""

from __future__ import annotations

from typing import Any

import pytest

from kubecore.apiserver.registry.validation import advice

JSON = dict[str, Any]


def service(**spec: Any) -> JSON:
    return {"metadata": {}, "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9", "sessionAffinity": "None", **spec}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.0.0.1", ""),
        ("10.0.0.01", 'non-standard IP address "10.0.0.01" will be considered invalid'),
        ("::ffff:10.0.0.1", 'use "10.0.0.1"'),
        ("2001:DB8::1", 'should be in RFC 5952 canonical format ("2001:db8::1")'),
        ("nonsense", ""),
    ],
)
def test_addresses_of_another_form_are_told_of(text: str, told: str) -> None:
    found = advice.of_address("spec.x", text)
    assert (told in found[0] and found[0].startswith("spec.x: ")) if told else found == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("10.0.0.0/8", ""),
        ("10.1.0.0/8", 'is ambiguous in this context (should be "10.0.0.0/8" or "10.1.0.0/32"?)'),
        ("010.0.0.0/8", 'non-standard CIDR value "010.0.0.0/8"'),
        ("2001:DB8::/64", 'should be in RFC 5952 canonical format ("2001:db8::/64")'),
    ],
)
def test_ranges_of_another_form_are_told_of(text: str, told: str) -> None:
    found = advice.of_range("spec.x", text)
    assert (told in found[0] and found[0].startswith("spec.x: ")) if told else found == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({}, []),
        ({"externalName": "a.example"}, ['spec.externalName is ignored when spec.type is not "ExternalName"']),
        (
            {"clusterIP": "None", "externalIPs": ["8.8.8.8"], "sessionAffinity": "ClientIP"},
            [
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        ),
        (
            {"trafficDistribution": "PreferClose"},
            ['spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'],
        ),
    ],
)
def test_services_are_told_what_is_ignored_or_deprecated(spec: JSON, told: list[str]) -> None:
    assert advice.of_service(service(**spec)) == told


def test_a_quota_of_requests_above_that_of_limits_is_told_of() -> None:
    hard = {"cpu": "3", "limits.cpu": "2", "requests.memory": "1Gi", "limits.memory": "2Gi"}
    assert advice.of_quota({"spec": {"hard": hard}}) == ["ResourceQuota cpu (3) should be less than limits.cpu (2)"]


def test_a_claim_of_parts_of_bytes_is_told_of() -> None:
    claim = {"metadata": {}, "spec": {"resources": {"requests": {"storage": "1500m"}, "limits": {"storage": "1Gi"}}}}
    assert advice.of_claim(claim) == [
        'spec.resources.requests[storage]: fractional byte value "1500m" is invalid, must be an integer'
    ]
