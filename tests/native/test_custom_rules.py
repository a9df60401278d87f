"""Objects held against schemas with CEL rules, as Kubernetes' own strategies judge them.

`custom_rules.json` was recorded from apiextensions-apiserver v0.35 (`pkg/registry/customresource`): creates, updates
and status updates of kind K in g/v1, each with its faults and the warnings of what ratcheting forgives.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubecore.api import schemas

JSON = dict[str, Any]
RECORDED: JSON = json.loads((Path(__file__).parent / "custom_rules.json").read_text())


def whole(obj: JSON) -> bytes:
    metadata = {"name": "x", "namespace": "d", "resourceVersion": "1", "uid": "u"}
    return json.dumps({"apiVersion": "g/v1", "kind": "K", "metadata": metadata, **obj}).encode()


@pytest.mark.parametrize("number", range(len(RECORDED["schemas"])))
def test_objects_fare_as_in_kubernetes(number: int) -> None:
    schema = schemas.custom(json.dumps(RECORDED["schemas"][number]).encode(), api_version="g/v1", kind="K")
    for case in RECORDED["cases"]:
        if case["schema"] != number:
            continue
        old = whole(case["old"]) if "old" in case else None
        found, further, forgiven = schema.validate(whole(case["object"]), old, subresource=case.get("subresource", ""))
        # Upstream walks members in no order.
        assert sorted(map(list, found + further)) == case["faults"], case
        warnings = sorted(f"{field}: {message}" for _, field, message in forgiven)
        assert warnings == case.get("warnings", []), case


def test_patterns_that_values_bring_are_made_within_the_budget_of_work() -> None:
    strings = {"type": "array", "maxItems": 1000, "items": {"type": "string", "maxLength": 20}}
    rule = {"rule": "self.all(pattern, !'a'.matches(pattern))"}
    schema = {"type": "object", "properties": {"spec": {**strings, "x-kubernetes-validations": [rule]}}}
    kind = schemas.custom(json.dumps(schema).encode(), api_version="example.com/v1", kind="Patterned")

    def faults(count: int) -> list[str]:
        body = {"apiVersion": "example.com/v1", "kind": "Patterned", "spec": [f"^b{count}-{n}$" for n in range(count)]}
        return [message for _, _, message in kind.validate(json.dumps(body).encode())[1]]

    assert faults(100) == []
    (told,) = faults(1000)
    assert "cost limit exceeded" in told
