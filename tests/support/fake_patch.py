"""Patches for the fake API."""

from __future__ import annotations

from typing import Any

from kubecore.api import meta

_MERGE_KEYS = {"ownerReferences": "uid", "conditions": "type", "containers": "name", "env": "name", "ports": "port"}


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return meta.deepcopy(patch)
    merged = meta.deepcopy(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_patch(target: Any, patch: Any, name: str = "") -> Any:
    """As a merge patch, but lists that have a merge key are merged by it; `$patch: delete` removes an item."""
    if isinstance(patch, dict):
        merged = meta.deepcopy(target) if isinstance(target, dict) else {}
        for field, value in patch.items():
            directive, slash, listed = field.partition("/")
            if slash and directive == "$deleteFromPrimitiveList":
                merged[listed] = [item for item in merged.get(listed) or () if item not in value]
            elif value is None:
                merged.pop(field, None)
            else:
                merged[field] = strategic_patch(merged.get(field), value, field)
        return merged
    if name == "finalizers":
        return [*dict.fromkeys([*(target or ()), *patch])]
    if not isinstance(patch, list) or name not in _MERGE_KEYS:
        return meta.deepcopy(patch)
    key = _MERGE_KEYS[name]
    items = {item[key]: item for item in meta.deepcopy(target or [])}
    for item in patch:
        if item.get("$patch") == "delete":
            items.pop(item[key], None)
        else:
            items[item[key]] = strategic_patch(items.get(item[key]), item)
    return list(items.values())
