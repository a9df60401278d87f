"""Types that have a name of their own in Go are told by it, whoever reads them (checked beside kube-apiserver)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kubecore.api import schemas
from kubecore.api.schemas import PatchError, SchemaError

JSON = dict[str, Any]
CLAIM, DEPLOYMENT = "v1/PersistentVolumeClaim", "apps/v1/Deployment"


def decoded(kind: str, body: JSON) -> str:
    with pytest.raises(SchemaError) as refused:
        schemas.default().decode(kind, json.dumps(body).encode())
    return str(refused.value).rpartition("json: ")[2]


def merged(kind: str, patch: JSON) -> str:
    """What a strategic merge patch is refused for, whose outcome is converted and not decoded."""
    with pytest.raises(PatchError) as refused:
        strategic = "application/strategic-merge-patch+json"
        schemas.default().patch_decode(kind, b'{"metadata":{"name":"a"}}', json.dumps(patch).encode(), strategic)
    return str(refused.value).rpartition('": ')[2]


def test_a_list_and_its_elements() -> None:
    place = "into Go struct field PersistentVolumeClaimSpec.spec.accessModes of type"
    mode = "v1.PersistentVolumeAccessMode"
    assert decoded(CLAIM, {"spec": {"accessModes": "x"}}) == f"cannot unmarshal string {place} []{mode}"
    assert decoded(CLAIM, {"spec": {"accessModes": [5]}}) == f"cannot unmarshal number {place} {mode}"


def test_a_map_and_its_values() -> None:
    resources = "ResourceRequirements.spec.template.spec.containers.resources"
    told = f"cannot unmarshal string into Go struct field {resources}.limits of type v1.ResourceList"
    container = {"name": "c", "resources": {"limits": "x"}}
    assert decoded(DEPLOYMENT, {"spec": {"template": {"spec": {"containers": [container]}}}}) == told


def test_structs_that_json_does_not_show_are_named_on_the_way() -> None:
    def of_pod(**spec: Any) -> JSON:
        return {"spec": {"template": {"spec": spec}}}

    place = "into Go struct field {} of type {}"
    volume = place.format("Volume.spec.template.spec.volumes.VolumeSource.configMap", "v1.ConfigMapVolumeSource")
    wrong = of_pod(volumes=[{"name": "v", "configMap": "m"}])
    assert decoded(DEPLOYMENT, wrong) == f"cannot unmarshal string {volume}"
    probe = place.format(
        "HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.path", "string"
    )
    wrong = of_pod(containers=[{"name": "c", "livenessProbe": {"httpGet": {"path": 5}}}])
    assert decoded(DEPLOYMENT, wrong) == f"cannot unmarshal number {probe}"
    rules = place.format("NamedRuleWithOperations.spec.matchConstraints.resourceRules.{}", "{}")
    for name, way, kind in (
        ("resourceNames", "resourceNames", "[]string"),
        ("operations", "RuleWithOperations.operations", "[]v1.OperationType"),
        ("apiGroups", "RuleWithOperations.Rule.apiGroups", "[]string"),
    ):
        wrong = {"spec": {"matchConstraints": {"resourceRules": [{name: "x"}]}}}
        told = decoded("admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy", wrong)
        assert told == f"cannot unmarshal string {rules.format(way, kind)}"


def test_versions_that_are_not_stable() -> None:
    policy = "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy"
    place = "into Go struct field MutatingAdmissionPolicySpec.spec"
    told = f"cannot unmarshal number {place}.failurePolicy of type v1beta1.FailurePolicyType"
    assert decoded(policy, {"spec": {"failurePolicy": 5}}) == told
    told = f"cannot unmarshal number {place}.reinvocationPolicy of type v1.ReinvocationPolicyType"
    assert decoded(policy, {"spec": {"reinvocationPolicy": 5}}) == told
    claim = {"spec": {"devices": {"requests": [{"exactly": {"allocationMode": 5}}]}}}
    place = "into Go struct field ExactDeviceRequest.spec.devices.requests.exactly.allocationMode"
    told = f"cannot unmarshal number {place} of type v1beta2.DeviceAllocationMode"
    assert decoded("resource.k8s.io/v1beta2/ResourceClaim", claim) == told


def test_the_converter_of_patches() -> None:
    assert merged(CLAIM, {"spec": {"accessModes": [5]}}) == "cannot convert int64 to v1.PersistentVolumeAccessMode"
    assert merged(DEPLOYMENT, {"spec": {"strategy": {"type": True}}}) == "unrecognized type: string"
    limits = {"spec": {"resources": {"limits": "x"}}}
    assert merged(CLAIM, limits) == "cannot restore map from string"


def test_what_has_its_own_decoder_does_not_know_where_it_stands_when_it_is_converted() -> None:
    patch = {"spec": {"strategy": {"rollingUpdate": {"maxSurge": 1.5}}}}
    assert merged(DEPLOYMENT, patch) == "json: cannot unmarshal number 1.5 into Go value of type int32"
