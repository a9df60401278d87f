"""CSIDrivers, CSINodes and CSIStorageCapacities. After kubernetes `pkg/apis/storage/validation/validation.go`."""

from __future__ import annotations

from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volume_sources import validate_driver_name

JSON = dict[str, Any]

_FS_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLE_MODES = ("Persistent", "Ephemeral")
_SHORTEST_TOKEN, _LONGEST_TOKEN = 600, 1 << 32
_SHORTEST_PERIOD = 10
_LONGEST_NODE_ID = 256


def validate_driver(problems: Problems, spec: JSON) -> None:
    problems.one_of_if_given("spec.fsGroupPolicy", spec.get("fsGroupPolicy"), _FS_GROUP_POLICIES)
    _token_requests(problems, spec.get("tokenRequests") or [])
    for mode in spec.get("volumeLifecycleModes") or []:
        if mode not in _LIFECYCLE_MODES:
            problems.unsupported("spec.volumeLifecycleModes", mode, _LIFECYCLE_MODES)
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < _SHORTEST_PERIOD:
        detail = f"must be greater than or equal to {_SHORTEST_PERIOD} seconds"
        problems.invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, detail)
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not spec.get("tokenRequests"):
        detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        problems.invalid("spec.serviceAccountTokenInSecrets", in_secrets, detail)


def _token_requests(problems: Problems, requests: list[JSON]) -> None:
    taken: set[str] = set()
    for index, request in enumerate(requests):
        path, audience = f"spec.tokenRequests[{index}]", request.get("audience") or ""
        if audience in taken:
            problems.duplicate(f"{path}.audience", audience)
            continue
        taken.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is not None and seconds < _SHORTEST_TOKEN:
            detail = "may not specify a duration less than 10 minutes"
            problems.invalid(f"{path}.expirationSeconds", seconds, detail)
        if seconds is not None and seconds > _LONGEST_TOKEN:
            detail = "may not specify a duration larger than 2^32 seconds"
            problems.invalid(f"{path}.expirationSeconds", seconds, detail)


def validate_driver_update(problems: Problems, spec: JSON, old: JSON) -> None:
    # The path is upstream's.
    problems.unchanged("spec.attachedRequired", spec.get("attachRequired"), old.get("attachRequired"))
    problems.unchanged("spec.volumeLifecycleModes", spec.get("volumeLifecycleModes"), old.get("volumeLifecycleModes"))


def validate_node(problems: Problems, spec: JSON) -> None:
    taken: set[str] = set()
    for index, driver in enumerate(spec.get("drivers") or []):
        path, name = f"spec.drivers[{index}]", driver.get("name") or ""
        validate_driver_name(problems, name, f"{path}.name")
        node_id = driver.get("nodeID") or ""
        if not node_id:
            problems.required(f"{path}.nodeID")
        if len(node_id.encode()) > _LONGEST_NODE_ID:
            problems.invalid(f"{path}.nodeID", node_id, f"must be {_LONGEST_NODE_ID} characters or less")
        problems.not_negative(f"{path}.allocatable.count", (driver.get("allocatable") or {}).get("count"))
        if name in taken:
            problems.duplicate(f"{path}.name", name)
        taken.add(name)
        _topology_keys(problems, driver.get("topologyKeys") or [], path)


def _topology_keys(problems: Problems, keys: list[str], path: str) -> None:
    for index, key in enumerate(keys):
        if not key:
            problems.required(path)
        if key in keys[:index]:
            problems.duplicate(path, key)
        problems.check(path, key, names.qualified_name)


def validate_node_update(problems: Problems, spec: JSON, old: JSON) -> None:
    """A driver that stays is as it was, but for how many volumes its node takes."""
    for before in old.get("drivers") or []:
        for driver in spec.get("drivers") or []:
            if driver.get("name") == before.get("name"):
                problems.unchanged("spec.drivers", _without_limits(driver), _without_limits(before))


def _without_limits(driver: JSON) -> JSON:
    return {key: value for key, value in driver.items() if key != "allocatable"}


def validate_capacity(problems: Problems, obj: JSON) -> None:
    validate_label_selector(problems, obj.get("nodeTopology"), "nodeTopology")
    problems.check("storageClassName", obj.get("storageClassName") or "", names.dns_subdomain)
    amount = obj.get("capacity")
    if amount is not None and quantity.nano(amount) < 0:
        problems.invalid("capacity", amount, names.NOT_NEGATIVE)


def validate_capacity_update(problems: Problems, obj: JSON, old: JSON) -> None:
    """What a driver was asked stays; its answer changes."""
    for field in ("nodeTopology", "storageClassName"):
        if not same(obj.get(field), old.get(field)):
            problems.invalid(field, obj.get(field), names.IMMUTABLE)
