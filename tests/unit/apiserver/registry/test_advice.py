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


OLD_LABEL = {"key": "beta.kubernetes.io/os", "operator": "Exists"}
OS = 'deprecated since v1.14; use "kubernetes.io/os" instead'


def test_a_volume_is_told_of_old_annotations_labels_policies_and_sources() -> None:
    terms = [{"matchExpressions": [OLD_LABEL]}]
    annotations = {"volume.beta.kubernetes.io/mount-options": "hard"}
    spec = {
        "persistentVolumeReclaimPolicy": "Recycle",
        "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        "storageos": {},
    }
    assert advice.of_volume({"metadata": {"annotations": annotations}, "spec": spec}) == [
        "metadata.annotations[volume.beta.kubernetes.io/mount-options]: "
        'deprecated since v1.31; use "mountOptions" attribute instead',
        "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
        "Instead, the recommended approach is to use dynamic provisioning.",
        f"spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is {OS}",
        "spec.storageOS: deprecated in v1.22, non-functional in v1.25+",
    ]


def test_old_labels_of_nodes_are_told_of_where_classes_and_capacities_name_them() -> None:
    assert advice.of_storage_class({"allowedTopologies": [{"matchLabelExpressions": [OLD_LABEL]}]}) == [
        f"allowedTopologies[0].matchLabelExpressions[0].key: {OS}"
    ]
    topology = {"matchLabels": {"a": "b", "beta.kubernetes.io/os": "x"}, "matchExpressions": [OLD_LABEL]}
    assert advice.of_storage_capacity({"nodeTopology": topology}) == [
        f"nodeTopology.matchExpressions[0].key: beta.kubernetes.io/os is {OS}",
        f"nodeTopology.matchLabels.beta.kubernetes.io/os: {OS}",
    ]
    scheduling = {"nodeSelector": {"a": "b", "beta.kubernetes.io/os": "x"}}
    assert advice.of_runtime_class({"scheduling": scheduling}) == [f"scheduling.nodeSelector: {OS}"]


def test_ranges_of_network_policies_are_told_of_where_they_are() -> None:
    block = {"cidr": "10.1.0.0/8", "except": ["10.2.0.0/16", "10.3.1.0/16"]}
    found = advice.of_network_policy({"spec": {"ingress": [{"from": [{"ipBlock": block}]}]}})
    path = "spec.ingress[0].from[0].ipBlock"
    assert [text.partition(": ")[0] for text in found] == [f"{path}.cidr", f"{path}.except[1]"]


def test_addresses_of_endpoints_are_told_of_unless_the_controller_wrote_them() -> None:
    endpoints: JSON = {"metadata": {}, "subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}, {"ip": "2001:DB8::1"}]}]}
    (found,) = advice.of_endpoints(endpoints)
    assert found.startswith("subsets[0].notReadyAddresses[1].ip: IPv6 address")
    endpoints["metadata"]["labels"] = {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}
    assert advice.of_endpoints(endpoints) == []


def test_an_account_is_told_of_an_old_annotation_once() -> None:
    account = {"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}}
    assert len(advice.of_account(account, None)) == 1
    assert len(advice.of_account(account, {"metadata": {}})) == 1
    assert advice.of_account(account, account) == []
