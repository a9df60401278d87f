"""In which order clients are told of group versions. After upstream kubernetes
`pkg/controlplane/apiserver/aggregator.go` and `cmd/kube-apiserver/app/aggregator.go`."""

from __future__ import annotations

from typing import Any, NamedTuple

JSON = dict[str, Any]


class Priority(NamedTuple):
    """Of a group among groups, and of a version within its group; the higher comes first."""

    group: int
    version: int


CUSTOM = Priority(1000, 100)
APIREGISTRATION = "apiregistration.k8s.io"
# Higher than any that can be registered.
_FIRST = Priority(20001, 0)
_METRICS = Priority(100, 100)

_GROUPS = {
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
    "internal.apiserver.k8s.io": 16000,
    "storagemigration.k8s.io": 15800,
}
_VERSIONS = {
    ("", "v1"): 1,
    ("admissionregistration.k8s.io", "v1beta1"): 12,
    ("admissionregistration.k8s.io", "v1alpha1"): 9,
    ("autoscaling", "v2"): 30,
    ("certificates.k8s.io", "v1alpha1"): 1,
    ("coordination.k8s.io", "v1beta1"): 13,
    ("coordination.k8s.io", "v1alpha2"): 12,
    ("events.k8s.io", "v1beta1"): 5,
    ("flowcontrol.apiserver.k8s.io", "v1"): 21,
    ("internal.apiserver.k8s.io", "v1alpha1"): 9,
    ("resource.k8s.io", "v1"): 21,
    ("resource.k8s.io", "v1beta2"): 15,
    ("resource.k8s.io", "v1alpha3"): 1,
}
_STABLE, _BETA, _ALPHA = 15, 9, 1


def of_built_in(group: str, version: str) -> Priority | None:
    """None for a version that nobody registers: that of APIServices themselves."""
    if group not in _GROUPS:
        return None
    usual = _ALPHA if "alpha" in version else _BETA if "beta" in version else _STABLE
    return Priority(_GROUPS[group], _VERSIONS.get((group, version), usual))


def of_local(group: str, version: str) -> Priority:
    """Of whatever this server serves."""
    if group == APIREGISTRATION:
        return _FIRST
    return of_built_in(group, version) or (_METRICS if group == "metrics.k8s.io" else CUSTOM)
