"""Server-side apply and update tracking of custom kinds beside Kubernetes' own field manager (`validation/owners.go`):
random schemas, and the same random writes, must leave the same object, the same owners and the same refusals.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from kubecore.api import schemas
from kubecore.api.schemas import PatchError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JSON = dict[str, Any]
KINDS, STEPS = 500, 6
TIME = "2026-01-01T00:00:00Z"

TEXT: JSON = {"type": "string"}
FREE: JSON = {"x-kubernetes-preserve-unknown-fields": True}
LEAVES: list[JSON] = [
    TEXT,
    {"type": "integer"},
    {"type": "boolean"},
    {"type": "number"},
    {"type": "string", "nullable": True},
    {"x-kubernetes-int-or-string": True},
    FREE,
    {"type": "object", **FREE},
]
# Values of a field of any type.
ODD: list[Any] = [None, "x", 1, True, 1.5, [], {}, ["x", "x"], {"a": "x"}, [{"k": "a"}]]


def schema(dice: random.Random, depth: int = 0) -> JSON:
    chance = dice.random()
    if depth >= 3 or chance < 0.25:
        return dict(dice.choice(LEAVES))
    if chance < 0.5:
        properties = {name: schema(dice, depth + 1) for name in dice.sample("abcde", dice.randint(1, 4))}
        return {"type": "object", "properties": properties, **_map_type(dice), **_nullable(dice)}
    if chance < 0.6:
        return {"type": "object", "additionalProperties": schema(dice, depth + 1), **_map_type(dice)}
    if chance < 0.72:
        return {"type": "array", "items": schema(dice, depth + 1)}
    if chance < 0.84:
        items = dice.choice([TEXT, {"type": "integer"}])
        return {"type": "array", "x-kubernetes-list-type": "set", "items": items}
    keys = dice.sample("kn", dice.randint(1, 2))
    properties = {"k": TEXT, "n": {"type": "integer"}}
    properties |= {name: schema(dice, depth + 1) for name in dice.sample("abc", dice.randint(0, 2))}
    if dice.random() < 0.3 and len(keys) > 1:
        properties["n"] = {"type": "integer", "default": 7}
    keyed = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys}
    return {"type": "array", "items": {"type": "object", "properties": properties}, **keyed}


def _map_type(dice: random.Random) -> JSON:
    return dice.choice([{}, {}, {"x-kubernetes-map-type": "atomic"}, {"x-kubernetes-map-type": "granular"}])


def _nullable(dice: random.Random) -> JSON:
    return dice.choice([{}, {}, {}, {"nullable": True}])


def value(dice: random.Random, of: JSON, odd: float) -> Any:
    if of.get("x-kubernetes-int-or-string"):
        # What is in a map that stands here is pruned, which the field manager does not see.
        return dice.choice([1, "1"])
    if dice.random() < odd:
        return dice.choice(ODD)
    if of.get("nullable") and dice.random() < 0.1:
        return None
    if "type" not in of:
        return dice.choice([{"p": {"q": "1"}}, {"p": "2"}, "x", 3, [1, 2]])
    match of["type"]:
        case "string":
            return dice.choice(["1", "2", "é<"])
        case "integer":
            return dice.choice([1, 2])
        case "number":
            return dice.choice([1, 1.5])
        case "boolean":
            return dice.choice([True, False])
        case "array":
            return elements(dice, of, odd)
    made: JSON = {}
    if "additionalProperties" in of:
        names = dice.sample("xyz", dice.randint(0, 2))
        made |= {name: value(dice, of["additionalProperties"], odd) for name in names}
    elif "properties" not in of:
        made |= dice.choice([{}, {"p": {"q": "1"}}, {"p": [1]}])
    for name, below in of.get("properties", {}).items():
        if dice.random() < 0.6:
            made[name] = value(dice, below, odd)
    return made


def elements(dice: random.Random, of: JSON, odd: float) -> list[Any]:
    """Each once, unless anything goes."""
    found: dict[str, Any] = {}
    keys = of.get("x-kubernetes-list-map-keys", [])
    for number in range(dice.randint(0, 3)):
        one = value(dice, of["items"], odd)
        identity = number if "x-kubernetes-list-type" not in of else one
        if keys and isinstance(one, dict):
            given = {"k": dice.choice("ab"), "n": dice.choice([1, 7])}
            one |= {key: given[key] for key in keys}
            if "default" in of["items"]["properties"]["n"] and dice.random() < 0.3:
                del one["n"]
            identity = [one.get(key, 7) for key in keys]
        found.setdefault(str(number) if odd else json.dumps(identity), one)
    return list(found.values())


def history(dice: random.Random, odd: float) -> JSON:
    properties = {name: schema(dice) for name in ("spec", "status")}
    root = {"type": "object", "properties": properties}
    names = {"plural": "ws", "singular": "w", "kind": "W", "listKind": "WList"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": root}}
    spec = {"group": "e.x", "scope": "Namespaced", "names": names, "versions": [version]}
    steps = []
    for _ in range(STEPS):
        applies = dice.random() < 0.7
        made: JSON = {name: value(dice, of, odd if applies else 0) for name, of in properties.items()}
        made = {name: one for name, one in made.items() if dice.random() < 0.7}
        metadata: JSON = {"name": "o", "namespace": "n", "uid": "u"}
        if dice.random() < 0.2:
            metadata["finalizers"] = dice.sample(["e.x/1", "e.x/2"], dice.randint(1, 2))
        steps.append(
            {
                "operation": "Apply" if applies else "Update",
                "manager": dice.choice(["alice", "bob", "kubectl"]),
                "force": applies and dice.random() < 0.5,
                "object": {"apiVersion": "e.x/v1", "kind": "W", "metadata": metadata, **made},
            }
        )
    return {"definition": {"metadata": {"name": "ws.e.x"}, "spec": spec}, "steps": steps}


def ours(one: JSON) -> list[JSON]:
    root = one["definition"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    kind = schemas.custom(orjson.dumps(root), api_version="e.x/v1", kind="W")
    live: bytes | None = None
    outcomes: list[JSON] = []
    for step in one["steps"]:
        given = orjson.dumps(step["object"])
        try:
            if step["operation"] == "Apply":
                outcome = kind.apply(live, given, manager=step["manager"], time=TIME, force=step["force"])
                obj = orjson.loads(outcome.body)
                obj["metadata"]["managedFields"] = orjson.loads(outcome.managed)
            else:
                body = kind.decode(given).body
                obj = orjson.loads(kind.track(live, body, manager=step["manager"], time=TIME))
        except PatchError as error:
            found = getattr(error, "conflicts", [])
            causes = [{"reason": "FieldManagerConflict", "message": m, "field": f} for m, f in found]
            outcomes.append({"conflicts": causes} if causes else {"error": error.message})
            continue
        live = orjson.dumps(obj)
        outcomes.append({"managed": obj["metadata"].pop("managedFields", []), "object": obj})
    return outcomes


def comparable(outcome: JSON) -> JSON:
    """Without times, and without the order of members that Go does not keep."""
    if "object" in outcome:
        entries = [{name: one for name, one in e.items() if name != "time"} for e in outcome.get("managed") or []]
        return {"object": without_nulls(outcome["object"]), "managed": sorted(entries, key=orjson.dumps)}
    if "conflicts" in outcome:
        return {"conflicts": sorted(outcome["conflicts"], key=orjson.dumps)}
    # Of several unknown fields, and of what stands beside one, Go tells in no order and not always.
    told = outcome["error"]
    return {
        "error": "undeclared" if "not declared in schema" in told else sorted(told.replace("errors:", "\n").split("\n"))
    }


def has_nulls(found: Any) -> bool:
    below = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return found is None or any(has_nulls(one) for one in below)


def without_nulls(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: without_nulls(one) for name, one in found.items() if one is not None}
    return [without_nulls(one) for one in found] if isinstance(found, list) else found


@pytest.mark.parametrize("odd", [0, 0.05])
def test_random_writes_of_custom_kinds_leave_what_they_leave_in_kubernetes(judge: Path, odd: float) -> None:
    dice = random.Random(f"owners {odd}")
    histories = [history(dice, odd) for _ in range(KINDS)]
    asked = json.dumps(histories).encode()
    done = subprocess.run([judge, "owners"], input=asked, capture_output=True, check=True, timeout=600)
    for one, theirs in zip(histories, json.loads(done.stdout), strict=True):
        for number, (got, wanted) in enumerate(zip(ours(one), theirs, strict=True)):
            if has_nulls(wanted.get("object", {})):
                # What nothing is left of stays there as a null, which validation refuses then; here it goes.
                break
            told = [one["definition"]["spec"]["versions"][0]["schema"], *one["steps"][: number + 1]]
            assert comparable(got) == comparable(wanted), "\n".join(json.dumps(line) for line in told)
