"""Nodes: their addresses for pods, taints, resources and features.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidateNode and ValidateNodeUpdate.
"""

from __future__ import annotations

import re
from typing import Any

from kubecore.apiserver.registry.validation import addresses, names
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import validate_resource_amount
from kubecore.apiserver.registry.validation.scheduling import validate_taints

JSON = dict[str, Any]

_FEATURE_RE = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*")
_FEATURE_RULE = (
    "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or "
    "MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
)
_LONGEST_FEATURE = 253


def validate_node_spec(problems: Problems, spec: JSON) -> None:
    if taints := spec.get("taints"):
        # Upstream says metadata, for taints were annotations once.
        validate_taints(problems, taints, "metadata.taints")
    _pod_cidrs(problems, spec.get("podCIDRs") or [], "spec.podCIDRs")


def _pod_cidrs(problems: Problems, cidrs: list[str], path: str) -> None:
    """One range, or one of each family."""
    for index, cidr in enumerate(cidrs):
        problems.check(f"{path}[{index}]", cidr, addresses.cidr)
    if len(cidrs) < 2:
        return
    families = set()
    for index, cidr in enumerate(cidrs):
        parsed = addresses.parse_old_cidr(cidr)
        if parsed is None:
            wrong = f"invalid CIDR[{index}]: <nil> (invalid CIDR address: {cidr})"
            problems.internal(path, f"invalid PodCIDRs. failed to check with dual stack with error:{wrong}")
            break
        families.add(parsed.version)
    if len(families) < 2 or len(cidrs) > 2:
        problems.invalid(path, cidrs, "may specify no more than one CIDR for each IP family")


def validate_node_status(problems: Problems, status: JSON) -> None:
    """What is wrong with a status by itself, on any write."""
    _amounts(problems, status)
    swap = (status.get("nodeInfo") or {}).get("swap") or {}
    if swap.get("capacity") is not None:
        # Upstream says metadata.
        problems.positive("metadata.nodeSwapStatus.capacity", swap["capacity"])
    _features(problems, status.get("declaredFeatures") or [], "status.declaredFeatures")


def validate_node_status_change(problems: Problems, status: JSON) -> None:
    _amounts(problems, status)
    _features(problems, status.get("declaredFeatures") or [], "status.declaredFeatures")
    taken = set()
    for index, address in enumerate(status.get("addresses") or []):
        pair = (address.get("type"), address.get("address"))
        if pair in taken:
            problems.duplicate(f"status.addresses[{index}]", address)
        taken.add(pair)


def _amounts(problems: Problems, status: JSON) -> None:
    for field in ("capacity", "allocatable"):
        for name, amount in (status.get(field) or {}).items():
            validate_resource_amount(problems, name, amount, f"status.{field}.{name}")


def _features(problems: Problems, features: list[str], path: str) -> None:
    """Names in order, each once."""
    before = None
    for index, feature in enumerate(features):
        where = f"{path}[{index}]"
        if before is not None and feature == before:
            problems.duplicate(where, feature)
        elif before is not None and feature < before:
            problems.invalid(where, feature, "list must be sorted alphabetically")
        before = feature
        if len(feature) > _LONGEST_FEATURE:
            problems.invalid(where, feature, f'invalid feature name "{feature}": {names.too_long(_LONGEST_FEATURE)}')
        elif _FEATURE_RE.fullmatch(feature) is None:
            problems.invalid(where, feature, f'invalid feature name "{feature}": {_FEATURE_RULE}')


_FIXED = 'node updates may not change {} except from "" to valid'


def validate_node_update(problems: Problems, spec: JSON, old: JSON) -> None:
    if old.get("podCIDRs") and spec.get("podCIDRs") != old["podCIDRs"]:
        problems.forbidden("spec.podCIDRs", _FIXED.format("podCIDR"))
    if old.get("providerID") and spec.get("providerID") != old["providerID"]:
        problems.forbidden("spec.providerID", _FIXED.format("providerID"))
    if (spec.get("externalID") or "") != (old.get("externalID") or ""):
        problems.forbidden("spec.externalID", "may not be updated")
