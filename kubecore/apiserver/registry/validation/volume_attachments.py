"""VolumeAttachments. After kubernetes `pkg/apis/storage/validation/validation.go`."""

from __future__ import annotations

from typing import Any

from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.persistent_volumes import validate_inline_volume_spec
from kubecore.apiserver.registry.validation.problems import Problems
from kubecore.apiserver.registry.validation.volume_sources import validate_driver_name

JSON = dict[str, Any]

_METADATA_SIZE, _MESSAGE_SIZE = 256 * 1024, 1024
_ONE_SOURCE = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"


def validate_attachment(problems: Problems, obj: JSON) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("attacher"):
        problems.required("spec.attacher")
    _source(problems, spec.get("source") or {})
    problems.check("spec.nodeName", spec.get("nodeName") or "", names.dns_subdomain)
    status = obj.get("status") or {}
    metadata: dict[str, str] = status.get("attachmentMetadata") or {}
    if sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items()) > _METADATA_SIZE:
        problems.too_long("status.attachmentMetadata", _METADATA_SIZE)
    for field in ("attachError", "detachError"):
        _error(problems, status.get(field) or {}, f"status.{field}")


def validate_new_attachment(problems: Problems, spec: JSON) -> None:
    """What only v1 asks for, of new objects."""
    validate_driver_name(problems, spec.get("attacher"), "spec.attacher")
    name = (spec.get("source") or {}).get("persistentVolumeName")
    if name is not None:
        problems.check("spec.source.persistentVolumeName", name, names.dns_subdomain)


def _source(problems: Problems, source: JSON) -> None:
    path, inline, name = "spec.source", source.get("inlineVolumeSpec"), source.get("persistentVolumeName")
    if inline is None and name is None:
        problems.required(path, _ONE_SOURCE)
    elif inline is not None and name is not None:
        problems.forbidden(path, _ONE_SOURCE)
    elif inline is not None:
        validate_inline_volume_spec(problems, inline, f"{path}.inlineVolumeSpec")
    elif not name:
        problems.required(f"{path}.persistentVolumeName", "must specify non empty persistentVolumeName")


def _error(problems: Problems, error: JSON, path: str) -> None:
    if len((error.get("message") or "").encode()) > _MESSAGE_SIZE:
        # The limit told is upstream's.
        problems.too_long(f"{path}.message", _METADATA_SIZE)
    code = error.get("errorCode")
    if code is not None and code < 0:
        problems.invalid(f"{path}.errorCode", code, names.between(0, 2**31 - 1))
