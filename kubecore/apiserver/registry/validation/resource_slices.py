"""Devices as their drivers offer them. After kubernetes `pkg/apis/resource/validation/validation.go`."""

from __future__ import annotations

from functools import partial
from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.devices import (
    named,
    validate_attribute_name,
    validate_each,
    validate_pool_name,
)
from kubecore.apiserver.registry.validation.labels import validate_node_selector
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.semver import is_semver
from kubecore.apiserver.registry.validation.volume_sources import validate_driver_name

JSON = dict[str, Any]

_DEVICES, _ATTRIBUTES, _VALUE = 128, 32, 64
# A domain, a slash and an identifier.
_LONGEST_KEY = 63 + 1 + 32
_VALUES = ("bool", "int", "string", "version")
# Of features that v1.35 does not switch on.
_UNSUPPORTED = ("perDeviceNodeSelection", "sharedCounters")
_UNSUPPORTED_OF_DEVICE = (
    "allNodes",
    "allowMultipleAllocations",
    "bindingConditions",
    "bindingFailureConditions",
    "bindsToNode",
    "consumesCounters",
    "nodeName",
    "nodeSelector",
    "taints",
)


def drop_unsupported(spec: JSON) -> None:
    for field in _UNSUPPORTED:
        spec.pop(field, None)
    for device in spec.get("devices") or []:
        for field in _UNSUPPORTED_OF_DEVICE:
            device.pop(field, None)
        for capacity in (device.get("capacity") or {}).values():
            capacity.pop("requestPolicy", None)


def validate_slice(problems: Problems, spec: JSON) -> None:
    validate_driver_name(problems, spec.get("driver"), "spec.driver")
    pool = spec.get("pool") or {}
    validate_pool_name(problems, named(pool), "spec.pool.name")
    count, generation = pool.get("resourceSliceCount") or 0, pool.get("generation") or 0
    if count <= 0:
        problems.invalid("spec.pool.resourceSliceCount", count, names.POSITIVE)
    if generation < 0:
        problems.invalid("spec.pool.generation", generation, "must be greater than or equal to zero")
    _nodes(problems, spec)
    device = partial(_device, problems)
    validate_each(problems, spec.get("devices") or [], "spec.devices", device, most=_DEVICES, key=named)


def validate_slice_update(problems: Problems, spec: JSON, old: JSON) -> None:
    pool, before = named(spec.get("pool") or {}), named(old.get("pool") or {})
    problems.unchanged("spec.pool.name", pool, before)
    problems.unchanged("spec.driver", spec.get("driver") or "", old.get("driver") or "")
    problems.unchanged("spec.nodeName", spec.get("nodeName"), old.get("nodeName"))


def _nodes(problems: Problems, spec: JSON) -> None:
    """Which nodes get at the devices is said in one way."""
    name, selector, everywhere = spec.get("nodeName"), spec.get("nodeSelector"), spec.get("allNodes")
    given: list[str] = []
    if name:
        given.append("`nodeName`")
        problems.check("spec.nodeName", name, names.dns_subdomain)
    elif name is not None:
        problems.invalid("spec.nodeName", name, "must be either unset or set to a non-empty string")
    if selector is not None:
        given.append("`nodeSelector`")
        validate_node_selector(problems, selector, "spec.nodeSelector")
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            detail = "must have exactly one node selector term"
            problems.invalid("spec.nodeSelector.nodeSelectorTerms", terms, detail)
    if everywhere:
        given.append("`allNodes`")
    elif everywhere is not None:
        problems.invalid("spec.allNodes", everywhere, "must be either unset or set to true")
    needed = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
    if not given:
        problems.required("spec", needed)
    elif len(given) > 1:
        problems.invalid("spec", f"{{{', '.join(given)}}}", f"{needed}, but multiple fields are set")


def _device(problems: Problems, device: JSON, path: str) -> None:
    problems.check(f"{path}.name", named(device), names.dns_label)
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    if len(attributes) + len(capacity) > _ATTRIBUTES:
        detail = f"the total number of attributes and capacities must not exceed {_ATTRIBUTES}"
        problems.invalid(path, len(attributes) + len(capacity), detail)
    for key, attribute in attributes.items():
        where = f"{path}.attributes[{_shortened(key)}]"
        validate_attribute_name(problems, key, where)
        _attribute(problems, attribute, where)
    for key in capacity:
        validate_attribute_name(problems, key, f"{path}.capacity[{_shortened(key)}]")


def _shortened(key: str) -> str:
    """A key as a path shows it: without its middle, if it is too long."""
    if len(key) <= _LONGEST_KEY:
        return key
    shown = _LONGEST_KEY - len("...")
    return f"{key[: (shown + 1) // 2]}...{key[-(shown // 2) :]}"


def _attribute(problems: Problems, attribute: JSON, path: str) -> None:
    given = [field for field in _VALUES if attribute.get(field) is not None]
    version = attribute.get("version")
    if version is not None and not is_semver(version):
        problems.invalid(f"{path}.version", version, "must be a string compatible with semver.org spec 2.0.0")
    for field in ("string", "version"):
        if len((attribute.get(field) or "").encode()) > _VALUE:
            problems.too_long(f"{path}.{field}", _VALUE)
    if len(given) != 1:
        problems.invalid(path, attribute if given else "", "exactly one value must be specified")
