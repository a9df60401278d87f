"""Claims to devices and slices of them as resource.k8s.io/v1beta1 says them.

What is exactly wanted stands in the request itself there, and what a device has under `basic`.
After kubernetes `pkg/apis/resource/v1beta1/conversion.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

JSON = dict[str, Any]

_OF_REQUEST = ("name", "firstAvailable")


def served_claim(obj: JSON) -> JSON:
    return _with_items(obj, ("spec", "devices"), "requests", _flat)


def stored_claim(obj: JSON) -> JSON:
    return _with_items(obj, ("spec", "devices"), "requests", _exact)


def served_template(obj: JSON) -> JSON:
    return _with_items(obj, ("spec", "spec", "devices"), "requests", _flat)


def stored_template(obj: JSON) -> JSON:
    return _with_items(obj, ("spec", "spec", "devices"), "requests", _exact)


def served_slice(obj: JSON) -> JSON:
    return _with_items(obj, ("spec",), "devices", _basic)


def stored_slice(obj: JSON) -> JSON:
    return _with_items(obj, ("spec",), "devices", _plain)


def _with_items(obj: JSON, path: tuple[str, ...], field: str, change: Callable[[JSON], JSON]) -> JSON:
    """A copy with the items of a list below `path` changed."""
    copy = holder = dict(obj)
    for step in path:
        below = holder.get(step)
        if below is None:
            return copy
        holder[step] = holder = dict(below)
    if holder.get(field) is not None:
        holder[field] = [change(item) for item in holder[field]]
    return copy


def _flat(request: JSON) -> JSON:
    rest = {name: value for name, value in request.items() if name != "exactly"}
    return {**rest, **(request.get("exactly") or {})}


def _exact(request: JSON) -> JSON:
    own = {name: request[name] for name in _OF_REQUEST if name in request}
    exactly = {name: value for name, value in request.items() if name not in _OF_REQUEST}
    return {**own, "exactly": exactly} if exactly or not request.get("firstAvailable") else own


def _basic(device: JSON) -> JSON:
    basic = {name: value for name, value in device.items() if name != "name"}
    return {**({"name": device["name"]} if "name" in device else {}), "basic": basic}


def _plain(device: JSON) -> JSON:
    rest = {name: value for name, value in device.items() if name != "basic"}
    return {**rest, **(device.get("basic") or {})}
