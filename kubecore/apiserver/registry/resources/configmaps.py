"""ConfigMaps."""

from __future__ import annotations

from typing import Any

from kubecore.api.errors import Cause
from kubecore.apiserver.registry.strategy import RequestContext, Strategy
from kubecore.apiserver.registry.validation import names
from kubecore.apiserver.registry.validation.problems import Problems

JSON = dict[str, Any]

# All values of a ConfigMap or Secret together.
MAX_SIZE = 1024 * 1024
IMMUTABLE_SET = "field is immutable when `immutable` is set"


class ConfigMapStrategy(Strategy):
    resource_key = "configmaps"
    tracks_generation = False

    def validate(self, ctx: RequestContext, obj: JSON) -> list[Cause]:
        problems, size = Problems(), 0
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        for key, value in data.items():
            problems.check(f"data[{key}]", key, names.config_key)
            if key in binary:
                problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
            size += len(value) if value.isascii() else len(value.encode())
        for key, value in binary.items():
            problems.check(f"binaryData[{key}]", key, names.config_key)
            size += decoded_size(value)
        if size > MAX_SIZE:
            # How upstream shows the path of the whole object.
            problems.too_long("[]", MAX_SIZE)
        return problems

    def validate_update(self, ctx: RequestContext, obj: JSON, old: JSON) -> list[Cause]:
        return validate_immutable(obj, old, ("data", "binaryData"))


def decoded_size(encoded: str) -> int:
    """How many bytes a base64 text stands for."""
    return len(encoded) * 3 // 4 - encoded.count("=", -2)


def validate_immutable(obj: JSON, old: JSON, fields: tuple[str, ...]) -> Problems:
    """Once `immutable` is set, it and the contents stay."""
    problems = Problems()
    if not old.get("immutable"):
        return problems
    if not obj.get("immutable"):
        problems.forbidden("immutable", IMMUTABLE_SET)
    for field in fields:
        if (obj.get(field) or {}) != (old.get(field) or {}):
            problems.forbidden(field, IMMUTABLE_SET)
    return problems
