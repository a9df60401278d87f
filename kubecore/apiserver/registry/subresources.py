"""What an update through a subresource may change; the rest of the object stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

JSON = dict[str, Any]


def _status(obj: JSON, old: JSON) -> None:
    status, metadata = obj.get("status"), obj["metadata"]
    obj.clear()
    obj.update(old)
    obj["metadata"] = metadata
    if status is None:
        obj.pop("status", None)
    else:
        obj["status"] = status


def _approval(obj: JSON, old: JSON) -> None:
    """CertificateSigningRequest: the conditions of status."""
    conditions = (obj.get("status") or {}).get("conditions")
    _status(obj, old)
    status = dict(old.get("status") or {})
    if conditions:
        status["conditions"] = conditions
    if status:
        obj["status"] = status


def _finalize(obj: JSON, old: JSON) -> None:
    """Namespace: spec.finalizers."""
    finalizers = (obj.get("spec") or {}).get("finalizers")
    metadata = obj["metadata"]
    obj.clear()
    obj.update(old)
    obj["metadata"] = metadata
    spec = dict(old.get("spec") or {})
    if finalizers:
        spec["finalizers"] = finalizers
    else:
        spec.pop("finalizers", None)
    obj["spec"] = spec


SUBRESOURCE_MERGE: Mapping[str, Callable[[JSON, JSON], None]] = {
    "status": _status,
    "approval": _approval,
    "finalize": _finalize,
}
