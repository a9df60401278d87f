"""PersistentVolumeClaims: by themselves, in templates, and what may change of one.

After kubernetes `pkg/apis/core/validation/validation.go`, ValidatePersistentVolumeClaimSpec and its relatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kubecore.api import quantity
from kubecore.apiserver.registry.equality import same
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.labels import validate_label_selector
from kubecore.apiserver.registry.validation.metadata import validate_template_metadata
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.resources import (
    is_native,
    validate_basic_amount,
    validate_positive_amount,
)

JSON = dict[str, Any]

ACCESS_MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
VOLUME_MODES = ("Block", "Filesystem")
_RESIZES = (
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
)
_IMMUTABLE = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"


def validate_access_modes(problems: Problems, modes: Sequence[str], path: str) -> None:
    for mode in modes:
        if mode not in ACCESS_MODES:
            problems.unsupported(path, mode, ACCESS_MODES)
    if "ReadWriteOncePod" in modes and any(mode in ACCESS_MODES and mode != "ReadWriteOncePod" for mode in modes):
        problems.forbidden(path, "may not use ReadWriteOncePod with other access modes")


def validate_claim_spec(problems: Problems, spec: JSON, path: str = "spec", *, old: JSON | None = None) -> None:
    """`old` is the spec before an update, whose odd API groups may stay."""
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required(f"{path}.accessModes", "at least 1 access mode is required")
    validate_label_selector(problems, spec.get("selector"), f"{path}.selector")
    validate_access_modes(problems, modes, f"{path}.accessModes")
    storage = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if storage is None:
        problems.required(f"{path}.resources[storage]")
    else:
        validate_positive_amount(problems, storage, f"{path}.resources[storage]")
    if spec.get("storageClassName"):
        problems.check(f"{path}.storageClassName", spec["storageClassName"], names.dns_subdomain)
    if spec.get("volumeMode") is not None and spec["volumeMode"] not in VOLUME_MODES:
        problems.unsupported(f"{path}.volumeMode", spec["volumeMode"], VOLUME_MODES)
    _data_sources(problems, spec, path, lenient=_has_api_group(old))
    if spec.get("volumeAttributesClassName"):
        problems.check(f"{path}.volumeAttributesClassName", spec["volumeAttributesClassName"], names.dns_subdomain)


def _has_api_group(spec: JSON | None) -> bool:
    return any(((spec or {}).get(field) or {}).get("apiGroup") is not None for field in ("dataSource", "dataSourceRef"))


def _data_sources(problems: Problems, spec: JSON, path: str, *, lenient: bool) -> None:
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    for field, one in (("dataSource", source), ("dataSourceRef", reference)):
        if one is None:
            continue
        where = f"{path}.{field}"
        problems.need(where, one, "name", "kind")
        group, kind = one.get("apiGroup") or "", one.get("kind") or ""
        if not group and kind != "PersistentVolumeClaim":
            problems.invalid(where, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup")
        if group and not lenient:
            problems.check(f"{where}.apiGroup", group, names.dns_subdomain)
        if field == "dataSourceRef" and one.get("namespace"):
            problems.check(f"{where}.namespace", one["namespace"], names.dns_label)
    if source is None or reference is None:
        return
    # Upstream shows the path's struct as the bad value.
    if reference.get("namespace"):
        problems.invalid(path, {}, "may not be specified when dataSourceRef.namespace is specified")
    elif any(source.get(field) != reference.get(field) for field in ("apiGroup", "kind", "name")):
        problems.invalid(path, {}, "must match dataSourceRef")


def validate_claim_template(problems: Problems, template: JSON, path: str) -> None:
    """A PersistentVolumeClaimTemplate, of which only labels and annotations of the metadata are kept."""
    validate_template_metadata(problems, template.get("metadata") or {}, f"{path}.metadata")
    validate_claim_spec(problems, template.get("spec") or {}, f"{path}.spec")


def validate_claim_update(problems: Problems, claim: JSON, old: JSON) -> None:
    """Bound once, a claim can only grow."""
    spec, before = dict(claim["spec"]), dict(old["spec"])
    bound = (claim.get("status") or {}).get("phase") == "Bound"
    new_size, old_size = _storage(spec), _storage(before)
    if not before.get("volumeName"):
        before["volumeName"] = spec.get("volumeName")
    _storage_class(problems, spec, before, claim, old)
    if bound:
        spec["volumeAttributesClassName"] = before.get("volumeAttributesClassName")
        if (spec.get("resources") or {}).get("requests"):
            requests = {**spec["resources"]["requests"], "storage": old_size or "0"}
            spec["resources"] = {**spec["resources"], "requests": requests}
    if not same(spec, before):
        problems.forbidden("spec", _IMMUTABLE)
    if _nano(new_size) < _nano(old_size):
        granted = ((old.get("status") or {}).get("capacity") or {}).get("storage")
        if _nano(new_size) <= _nano(granted):
            problems.forbidden("spec.resources.requests.storage", "field can not be less than status.capacity")
    problems.immutable("volumeMode", claim["spec"].get("volumeMode"), old["spec"].get("volumeMode"))
    if (old.get("status") or {}).get("currentVolumeAttributesClassName") is not None:
        wanted, path = claim["spec"].get("volumeAttributesClassName"), "spec.volumeAttributesClassName"
        if wanted == old["spec"].get("volumeAttributesClassName"):
            return
        for value, shown in ((None, "nil"), ("", "empty string")):
            if wanted == value:
                detail = f"update to {shown} is forbidden when status.currentVolumeAttributesClassName is not nil"
                problems.forbidden(path, detail)


def _storage_class(problems: Problems, spec: JSON, before: JSON, claim: JSON, old: JSON) -> None:
    """A claim without a class may be given one: the default, or the one its old annotation named."""
    notes = (claim["metadata"].get("annotations") or {}).get(_BETA_CLASS)
    notes_before = (old["metadata"].get("annotations") or {}).get(_BETA_CLASS)
    wanted, had = spec.get("storageClassName"), before.get("storageClassName")
    if had is not None or wanted is None:
        allowed = False
    elif notes_before is None:
        allowed = True
    else:
        allowed = wanted == notes_before
    if allowed:
        spec["storageClassName"] = had
        if notes_before is not None and notes in (None, notes_before):
            return
    if (notes or "") != (notes_before or ""):
        problems.invalid(f"metadata.annotations.{_BETA_CLASS}", notes or "", names.IMMUTABLE)


def _storage(spec: JSON) -> str | None:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def _nano(amount: str | None) -> int:
    return quantity.nano(amount) if amount is not None and quantity.is_valid(amount) else 0


def validate_claim_status(problems: Problems, claim: JSON) -> None:
    status = claim.get("status") or {}
    if not (claim.get("spec") or {}).get("accessModes"):
        problems.required("Spec.accessModes")
    for name, amount in (status.get("capacity") or {}).items():
        validate_basic_amount(problems, amount, f"status.capacity[{name}]")
    path = "status.allocatedResourceStatuses"
    for name, resize in (status.get("allocatedResourceStatuses") or {}).items():
        _resource_key(problems, name, path)
        if resize not in _RESIZES:
            problems.unsupported(path, name, _RESIZES)
    path = "status.allocatedResources"
    for name, amount in (status.get("allocatedResources") or {}).items():
        if _resource_key(problems, name, path):
            validate_basic_amount(problems, amount, f"{path}[{name}]")


def _resource_key(problems: Problems, name: str, path: str) -> bool:
    before = len(problems)
    problems.check(path, name, names.qualified_name)
    if len(problems) == before and is_native(name) and name != "storage":
        problems.unsupported(path, name, ("storage",))
    return len(problems) == before
