"""What a claim is filled from is told in two fields, an old and a new one, which say the same.

After kubernetes `pkg/api/persistentvolumeclaim/util.go` and KEP-1495.
"""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

_KNOWN = {("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")}


def settle_data_sources(spec: JSON, old: JSON | None = None) -> None:
    """Drops what the old field never allowed, then fills one field from the other.

    `old` is the spec before an update.
    """
    before = old or {}
    reference = spec.get("dataSourceRef")
    if reference is not None and reference.get("namespace") and before.get("dataSourceRef") is None:
        # Only with the gate CrossNamespaceVolumeDataSource.
        del spec["dataSourceRef"]
    source, reference = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and reference is None and before.get("dataSource") is None and not _is_known(source):
        del spec["dataSource"]
        return
    if source is not None and reference is None:
        spec["dataSourceRef"] = _copy(source)
    elif source is None and reference is not None and not reference.get("namespace"):
        spec["dataSource"] = _copy(reference)


def _is_known(source: JSON) -> bool:
    return (source.get("apiGroup") or "", source.get("kind")) in _KNOWN


def _copy(reference: JSON) -> JSON:
    return {field: reference.get(field) for field in ("apiGroup", "kind", "name")}
