"""What OpenAPI documents tell of custom kinds here and in Kubernetes: random schemas, given to upstream's builder (the
Go program in `validation`) and to ours.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.openapi import custom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
KINDS = 400
PRESERVING: JSON = {"x-kubernetes-preserve-unknown-fields": True}
SCALARS = ("string", "integer", "number", "boolean")


def schema(dice: random.Random, depth: int = 0) -> JSON:
    made = dice.choice([collection, collection, scalar])(dice, depth) if depth < 4 else scalar(dice, depth)
    for chance, more in (
        (0.25, {"nullable": True}),
        (0.3, {"description": "d"}),
        (0.1, {"title": "t"}),
        (0.1, {"example": "e"}),
        (0.1, {"externalDocs": {"url": "u"}}),
    ):
        if dice.random() < chance:
            made.update(more)
    return made


def scalar(dice: random.Random, _depth: int) -> JSON:
    kind = dice.choice([*SCALARS, "any", "number or text"])
    if kind not in SCALARS:
        return dict(PRESERVING) if kind == "any" else {"x-kubernetes-int-or-string": True}
    made: JSON = {"type": kind}
    if kind == "string":
        choices: list[JSON] = [
            {"default": "x"},
            {"enum": ["x", "y"]},
            {"format": dice.choice(["date-time", "byte", "odd"])},
            {"pattern": "x", "maxLength": 3},
        ]
        made.update(dice.choice([{}, *choices]))
    elif kind == "integer":
        made.update(dice.choice([{}, {"minimum": 1, "maximum": 5, "exclusiveMaximum": True, "format": "int64"}]))
    return made


def collection(dice: random.Random, depth: int) -> JSON:
    if dice.random() < 0.3:
        kept = dice.choice([{}, {"x-kubernetes-list-type": "atomic"}])
        return {"type": "array", "items": schema(dice, depth + 1), **kept}
    made: JSON = {"type": "object"}
    chance = dice.random()
    if chance < 0.6:
        names = dice.sample("abcdef", dice.randint(1, 4))
        made["properties"] = {name: schema(dice, depth + 1) for name in names}
        made.update(dice.choice([{}, {"required": names[:1]}, {"oneOf": [{"required": [name]} for name in names[:2]]}]))
    elif chance < 0.8:
        made["additionalProperties"] = schema(dice, depth + 1)
    for chance, more in (
        (0.2, PRESERVING),
        (0.2, {"x-kubernetes-map-type": "atomic"}),
        (0.2, {"x-kubernetes-validations": [{"rule": "true", "message": "m"}]}),
        (0.2, {"minProperties": 1}),
    ):
        if dice.random() < chance:
            made.update(more)
    if "additionalProperties" not in made and dice.random() < 0.15:
        made.update({"x-kubernetes-embedded-resource": True, **PRESERVING})
    return made


def definition(dice: random.Random, number: int) -> JSON:
    root: JSON = {"type": "object", "properties": {name: schema(dice) for name in ("spec", "status", "x")}}
    root.update(dice.choice([{}, {}, {"required": ["spec"]}, PRESERVING]))
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": root}}
    names = {"plural": f"w{number}s", "singular": f"w{number}", "kind": f"W{number}", "listKind": f"W{number}List"}
    spec = {"group": "e.x", "scope": "Namespaced", "names": names, "versions": [version]}
    return {"metadata": {"name": f"w{number}s.e.x"}, "spec": spec}


def alike(told: Any) -> Any:
    """References are written in their document's way when it is served."""
    if isinstance(told, dict):
        if told.get("allOf") == [{"$ref": told.get("allOf", [{}])[0].get("$ref")}]:
            told = {**{name: one for name, one in told.items() if name not in ("allOf", "default")}, **told["allOf"][0]}
        return {name: alike(one) for name, one in told.items()}
    if isinstance(told, list):
        return [alike(one) for one in told]
    return told.replace("#/components/schemas/", "#/definitions/") if isinstance(told, str) else told


def test_documents_tell_of_custom_kinds_what_kubernetes_tells(judge: Path) -> None:
    dice = random.Random("documents")
    asked = [definition(dice, number) for number in range(KINDS)]
    given = subprocess.run(
        [judge, "documents"], input=json.dumps(asked).encode(), capture_output=True, check=True, timeout=600
    )
    different = []
    for one, theirs in zip(asked, json.loads(given.stdout), strict=True):
        names, root = one["spec"]["names"], one["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        ours = custom.definitions("e.x", "v1", names["kind"], names["listKind"], names["plural"], root)
        for name, found in ours.items():
            for version, told in (("v2", custom.as_v2(found)), ("v3", found)):
                if alike(told) != alike(theirs[version][name]):
                    different.append(f"{version} of {json.dumps(root)}:\n{json.dumps(told)}")
    assert not different, f"{len(different)} differ\n" + "\n".join(sorted(different, key=len)[:5])
